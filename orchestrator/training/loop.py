"""The training loop of one run, of teachers and students alike, on one process or many."""

from __future__ import annotations

import copy
import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from orchestrator import names
from orchestrator.data import Augmentation, Images, normalise
from orchestrator.data.views import View, Views
from orchestrator.distillation.batch import Batch, Mix, Workers
from orchestrator.distillation.criterion import Criterion, CriterionOutput
from orchestrator.distillation.features import FeatureTerm
from orchestrator.errors import CheckpointError, DataError, DivergenceError
from orchestrator.models.folding import folded
from orchestrator.models.taps import Tap
from orchestrator.training.evaluate import Evaluation, NonFiniteLogitsError, evaluate
from orchestrator.training.learner import Learner, idle_norms
from orchestrator.training.meter import EpochMeter, Mistake
from orchestrator.training.optim import Schedule
from orchestrator.training.precision import Precision, autocast
from orchestrator.training.process import require_compiler
from orchestrator.training.stopping import StopSignal
from orchestrator.training.world import SINGLE, World


@dataclass(frozen=True)
class TrainingSettings:
    """How a run trains; raises `ValueError` for values out of range."""

    epochs: int
    batch_size: int
    """Samples of one step, over all processes together."""
    seed: int
    """Of the batch order, the network's own randomness, such as dropout, and the augmentation without `views`."""
    precision: Precision = "float32"
    gradient_clip: float | None = None
    """Largest L2 norm of the gradient."""
    accumulation: int = 1
    """Parts that a batch is taken in, one after the other; their gradients add up to one step."""
    compile: bool = False
    """Whether networks whose layers no feature loss reads are compiled; on a processor the teacher alone."""
    eval_every: int = 1
    """Epochs between validations; the last epoch always ends with one."""
    precision_reason: str = "asked for"
    """Why it is this precision, for people."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or above, not {getattr(self, name)}")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(f"gradient_clip must be above 0, not {self.gradient_clip}")


@dataclass(frozen=True)
class TrainingData:
    """The images of a run and how they reach the networks; raises `DataError` when there are none."""

    train: Images
    val: Images
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1; `std` likewise."""
    std: tuple[float, ...]
    augmentation: Augmentation
    views: Views | None = None
    """Which augmentation each epoch has; None: a new one every epoch, by the run's seed."""

    def __post_init__(self) -> None:
        for name in ("train", "val"):
            if len(getattr(self, name)) == 0:
                raise DataError(f"there are no {name} images")


@dataclass(frozen=True)
class Step:
    """What all parts of one update have in common."""

    number: int
    """In its epoch, from 1."""
    samples: int
    """Of all parts and processes."""
    progress: float
    """Epochs trained so far, fractions included."""
    view: View
    stored: Tensor | None
    """The teacher's logits of all samples of the view, [N, C], where it is not run."""


class TrainingRun:
    """One student's training, epoch by epoch, from the weights it comes with or from a restored state.

    Student, teacher and feature losses must be on `world.device`; the run moves the images there, lays both
    networks' weights out as channels_last, puts the teacher in eval mode for good and never gives it a gradient.
    The optimizer has the parameters of the feature losses and of `peers` beside the student's. Peers are networks that
    are trained along with the student, all learning from each other; with them there is no teacher.

    With several processes every process makes the same calls, with the same initial weights; the run itself
    averages gradients over them. The result does not depend on the number of processes, up to rounding, if no
    norm of the student or of a connector depends on how a batch is shared; a process that a batch has no sample
    for takes part with none. Resuming on another number of processes is continuing the same run.

    `targets` gives the logits that a frozen teacher would, [N, C] of all training images on `world.device`, of a view;
    with them no teacher is needed, and none is run. It is asked once at the start of each epoch.

    `trial` names the run in errors. `should_stop` is asked between batches; all processes pass one or none does, see
    `StopSignal`.
    """

    def __init__(
        self,
        student: nn.Module,
        criterion: Criterion,
        optimizer: Optimizer,
        schedule: Schedule,
        settings: TrainingSettings,
        data: TrainingData,
        *,
        teacher: nn.Module | None = None,
        targets: Callable[[View], Tensor] | None = None,
        features: Sequence[FeatureTerm] = (),
        peers: Sequence[nn.Module] = (),
        world: World = SINGLE,
        trial: str = "training",
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        needs_teacher = (criterion.needs_teacher and not peers) or bool(features)
        self._targets = targets if needs_teacher and not features else None
        needs_teacher = needs_teacher and self._targets is None
        if needs_teacher and teacher is None:
            raise ValueError("the criterion or a feature loss needs a teacher")
        self.student = student
        self.teacher = teacher.eval() if teacher is not None and needs_teacher else None
        self.features = tuple(features)
        # Faster at every size measured, 8 x 8 up; batches follow the weights' layout of their own accord.
        for network in filter(None, (self.student, self.teacher, *peers)):
            network.to(memory_format=torch.channels_last)
        if settings.compile:
            require_compiler(world.device)
            # Compiled code would pass over the hooks that read layers. A processor's own kernels train no slower.
            compiled = () if world.device.type == "cpu" else peers if features else (student, *peers)
            for network in compiled:
                network.compile()
        learner = Learner(student, features, peers)
        self._connectors, self._peers = learner.features, learner.peers
        # Running statistics are shared before each validation instead of in every step.
        self._learner = DistributedDataParallel(learner, broadcast_buffers=False) if world.size > 1 else learner
        self.criterion = criterion
        self.optimizer = optimizer
        self.schedule = schedule
        self.settings = settings
        self.data = replace(data, train=data.train.to(world.device), val=data.val.to(world.device))
        self.views = data.views or Views(settings.seed)
        self.world = world
        self._teacher_tap = None if self.teacher is None else self._frozen(self.teacher)
        self.trial = trial
        self.epoch = 0
        """Completed epochs."""
        self.best: tuple[int, float] | None = None
        """Epoch, from 1, and value of the best validation accuracy so far, in percent."""
        self.validation: Evaluation | None = None
        """The last one of this process."""
        self.temperatures: list[int] | None = None
        """Samples of the last epoch by temperature, in bins of equal width between the bounds; None without any."""
        self.mistakes: list[Mistake] = []
        """Those of the teacher whose targets were repaired, in the last of all epochs."""
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._stop = None if should_stop is None else StopSignal(world, should_stop)

    @property
    def done(self) -> bool:
        return self.epoch >= self.settings.epochs

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch, validate where it is due, and return metrics by their `orchestrator.names`.

        Raises `DivergenceError` when a loss or a validation logit of the epoch is NaN or infinite, and
        `Interrupted` when asked to stop. After either the run can only be restored.
        """
        started = time.perf_counter()
        settings, world, epoch = self.settings, self.world, self.epoch
        order = torch.randperm(
            len(self.data.train), generator=torch.Generator().manual_seed(_seed(settings.seed, epoch))
        ).to(world.device)
        batches = order.split(settings.batch_size)
        meter = EpochMeter(world, [t.method for t in self.features], keeps_mistakes=epoch + 1 == settings.epochs)
        self._learner.train()
        view = self.views.of(epoch)
        stored = None if self._targets is None else self._targets(view)
        # A seed for each epoch makes dropout and its like continue exactly, with no generator state to save.
        with torch.random.fork_rng(devices=[world.device] if world.device.type == "cuda" else []):
            torch.manual_seed(_seed(settings.seed, epoch, world.rank))
            for step, batch in enumerate(batches):
                if self._stop is not None:
                    self._stop.check()
                # Taken at the step's middle, neither a warm-up's first nor a cosine's last step is idle.
                progress = epoch + (step + 0.5) / len(batches)
                rate = self._set_rate(progress)
                self._step(batch, Step(step + 1, len(batch), progress, view, stored), meter)
        metrics = meter.read(self.trial, epoch + 1)
        self.temperatures = meter.histogram(*self.criterion.temperature.bounds)
        self.mistakes = meter.mistakes()
        metrics[names.LEARNING_RATE] = rate
        metrics[names.THROUGHPUT] = len(order) / (time.perf_counter() - started)
        if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == settings.epochs:
            metrics |= self._validate(len(batches))
        metrics[names.EPOCH_TIME] = time.perf_counter() - started
        self.epoch += 1
        return metrics

    def state(self) -> dict[str, Any]:
        """A snapshot of all it takes to continue exactly, fit for `save_checkpoint`."""
        return copy.deepcopy(
            {
                "epoch": self.epoch,
                "best": self.best,
                "student": self.student.state_dict(),
                "features": self._connectors.state_dict(),
                "peers": self._peers.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`; raises `CheckpointError` when it is not of a run like this one.

        The optimizer's momentum and its like are the state's; its settings, such as weight decay, stay this run's.
        """
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        try:
            self.student.load_state_dict(state["student"])
            self._connectors.load_state_dict(state["features"])
            self._peers.load_state_dict(state["peers"])
            # The optimizer would otherwise go on writing into the caller's tensors.
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            for group, own in zip(self.optimizer.param_groups, settings, strict=True):
                group.update(own)
            self.epoch, self.best = state["epoch"], state["best"]
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.trial}: the checkpoint does not fit the run: {error}") from error

    def _step(self, batch: Tensor, step: Step, meter: EpochMeter) -> None:
        """One update from the samples `batch`, int64 [B]."""
        settings, learner = self.settings, self._learner
        *parts, last = (part for part in batch.tensor_split(settings.accumulation) if len(part))
        workers = self.world.part_workers(len(batch)) if parts else self.world.workers(len(batch))
        with learner.no_sync() if isinstance(learner, DistributedDataParallel) else nullcontext():
            for part in parts:
                self._add_gradients(part, step, workers, meter)
        self._add_gradients(last, step, workers, meter)
        if settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(learner.parameters(), settings.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _add_gradients(self, samples: Tensor, step: Step, workers: Workers, meter: EpochMeter) -> None:
        """Forward and backward of `samples`, int64 [B], of which this process takes its share."""
        settings, world, train, progress = self.settings, self.world, self.data.train, step.progress
        start, end = world.share(len(samples))
        indices = samples[start:end]
        target = train.labels.index_select(0, indices)
        images, partners = self.data.augmentation.batch(train, indices, seed=step.view.seed, view=step.view.number)
        mix = None if partners is None else Mix(partners.labels, partners.share)
        inputs = normalise(images, self.data.mean, self.data.std)
        part = Batch(target, indices, self.epoch, settings.seed, mix, workers)
        logits_teacher, features_teacher = self._taught(inputs)
        if step.stored is not None:
            logits_teacher = step.stored.index_select(0, indices).float()
        with autocast(settings.precision, world.device), nullcontext() if start < end else idle_norms(self._learner):
            (logits, *logits_peers), feature_losses = self._learner(inputs, features_teacher, part)
        if not self.criterion.needs_teacher:
            logits_teacher = None
        if logits_peers:
            output, total = self._mutual([logits, *logits_peers], part, progress)
        else:
            output = self.criterion(logits, logits_teacher, target, workers=part.workers, mix=mix, progress=progress)
            total = output.total
        for term in self.features:
            total = total + term.weight_at(progress) * feature_losses[term.method]
        total.backward()
        meter.add((step.number, step.samples), output, logits, target, total, feature_losses)

    def _frozen(self, teacher: nn.Module) -> Tap:
        """The teacher as it runs: where it is large without its batch norms, see `folded`."""
        layers = [layer for term in self.features for layer in term.teacher_layers]
        example = torch.zeros(1, *self.data.train.images.shape[1:], device=self.world.device)
        frozen = folded(teacher, example, layers)
        if self.settings.compile and not layers:
            # Not in place: other runs use the same teacher. Its weights are known to be constant, which lets a
            # processor's convolutions take up the additions and ReLUs behind them.
            on_processor = self.world.device.type == "cpu"
            frozen = cast(nn.Module, torch.compile(frozen, options={"freezing": True} if on_processor else None))
        return Tap(frozen, layers)

    def _taught(self, inputs: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The teacher's logits, float32 [B, C], and its features by layer; nothing without one."""
        if self._teacher_tap is None:
            return None, {}
        # Backward passes keep features of the teacher, which they may not where inference mode made them.
        mode = torch.no_grad() if self.features else torch.inference_mode()
        with mode, autocast(self.settings.precision, self.world.device):
            logits, features = self._teacher_tap(inputs)
        return logits.to(torch.float32, copy=True), features

    def _mutual(self, logits: list[Tensor], part: Batch, progress: float) -> tuple[CriterionOutput, Tensor]:
        """Deep mutual learning (Zhang et al. 2018, equation 8): each network learns from the mean over all others.

        Returns the output of the student with its first peer, for the record, and the sum of all networks' losses.
        """
        pairs = {
            (mine, other): self.criterion(
                logits[mine], logits[other], part.target, workers=part.workers, mix=part.mix, progress=progress
            )
            for mine, other in itertools.permutations(range(len(logits)), 2)
        }
        return pairs[0, 1], torch.stack([output.total for output in pairs.values()]).sum() / (len(logits) - 1)

    def _set_rate(self, progress: float) -> float:
        """Set the learning rates for `progress`, in epochs; returns the first group's."""
        factor = self.schedule(progress)
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = base * factor
        return self._base_rates[0] * factor

    def _validate(self, steps: int) -> dict[str, float]:
        self.world.share_buffers(self.student)
        try:
            seen = evaluate(
                self.student,
                self.data.val,
                self.data.mean,
                self.data.std,
                batch_size=self.settings.batch_size,
                precision=self.settings.precision,
                world=self.world,
            )
        except NonFiniteLogitsError as error:
            raise DivergenceError(f"{self.trial}: validation logits", epoch=self.epoch + 1, step=steps) from error
        if self.best is None or seen.acc1 > self.best[1]:
            self.best = (self.epoch + 1, seen.acc1)
        self.validation = seen
        return {names.VAL_LOSS: seen.loss, names.VAL_ACC1: seen.acc1, names.VAL_ECE: seen.ece}


def _seed(*parts: int) -> int:
    """A 64-bit seed that differs wherever any of the parts does."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8])
