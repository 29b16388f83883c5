"""Measures what runs cost: a few batches of each kind, alone and with as many others as will run at once.

In processes of their own, as many as an experiment would have, with as many threads: whoever asks needs no torch.
Nothing is kept of what they train.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING

from orchestrator import build, names
from orchestrator.data import Dataset
from orchestrator.errors import OrchestratorError, ResourceError
from orchestrator.execution.memory import in_short, ran_out
from orchestrator.search.forecast import Cost, Span, Timing
from orchestrator.search.kinds import Kind
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import TeacherSpec
from orchestrator.spec.resources import ResourcesSpec
from orchestrator.training import TrainingRun, World
from orchestrator.training.process import prepare_process
from orchestrator.training.view_logits import BATCH, view_logits

if TYPE_CHECKING:
    from torch import Tensor, nn

    from orchestrator.data.views import View

MARGIN = 0.1
"""Share by which the range is wider than what was measured: real runs last longer than a probe."""
EPOCH_CPU_S = 0.0035
"""Of the driver and MLflow's writer, for each epoch that is reported; see bench/scale.py and docs/scaling.md."""
TRIAL_S = 0.03
"""Between two trials of one process; see bench/trial_overhead.py."""
PATIENCE_S = 600.0
"""Seconds that a process waits for the others to have loaded, or measured, as much as itself."""


@dataclass(frozen=True)
class Probe:
    """What was measured."""

    costs: tuple[Cost, ...]
    """Of each kind."""
    validations: tuple[float, ...]
    """Seconds of an epoch that are its validation, by kind."""
    load_s: float
    """Until a process has imported torch and loaded the first data set."""
    core: float
    """Of a core that a process could have had to itself, the share that it got; below 1 other work took the rest."""


def measure(
    kinds: Sequence[Kind],
    resources: ResourcesSpec,
    concurrency: int,
    cores: float,
    *,
    split_seed: int,
    cache: Path,
    seconds: float,
) -> Probe:
    """Measure each kind of run.

    Args:
        concurrency: trials that run at once; `cores`: of the machine they share.
        split_seed: the experiment's seed, which divides the images; `cache`: folder for decoded images.
        seconds: to spend on training, about, all kinds together; at least two batches of each are trained.

    Raises `OrchestratorError` for what would keep the runs themselves from starting, and where a process dies.
    """
    workers = resources.workers[1]
    count = concurrency * workers
    context = multiprocessing.get_context("forkserver")
    # torch is imported once, by the server that the processes are forked from.
    context.set_forkserver_preload([__name__])
    begin = time.monotonic()
    barrier = context.Barrier(count)
    slice_s = seconds / len(kinds) / (2 if count > 1 else 1)
    asked = [_Task(tuple(kinds), rank, count, workers, slice_s, split_seed, cache) for rank in range(count)]
    granted = (resources.cpus_per_worker, resources.gpus_per_worker)
    with ProcessPoolExecutor(count, context, _prepare, (barrier, *granted)) as pool:
        try:
            futures = [pool.submit(_measured, task) for task in asked]
            errors = [error for error in [future.exception() for future in futures] if error is not None]
        except KeyboardInterrupt:
            barrier.abort()
            raise
    if errors:
        raise _first_cause(errors, count)
    answers = [future.result() for future in futures]
    threads = resources.cpus_per_worker
    # Where trials leave no core free, the driver's work is done on theirs.
    driver_s = EPOCH_CPU_S / threads if count * threads >= cores else 0.0
    costs = []
    for number in range(len(kinds)):
        alone = answers[0].alone[number]
        crowded = [answer.crowded[number] for answer in answers] if count > 1 else [alone]
        costs.append(Cost(_timing([alone], 0.0), _timing(crowded, driver_s)))
    first, ready = answers[0].alone, max(answer.ready for answer in answers)
    core = sum(sample.core for sample in first) / len(first)
    return Probe(tuple(costs), tuple(sample.validation for sample in first), ready - begin, core)


def _first_cause(errors: Sequence[BaseException], count: int) -> BaseException:
    """What went wrong: the others only waited in vain for the process where it did."""
    cause = next((error for error in errors if not isinstance(error, BrokenBarrierError)), None)
    if cause is None:
        return OrchestratorError(f"a process that measured kept the others waiting for {PATIENCE_S:g} s")
    if isinstance(cause, BrokenProcessPool) or ran_out(cause):
        told = "was killed" if isinstance(cause, BrokenProcessPool) else in_short(cause)
        return ResourceError(
            f"one of {count} processes that measured at once: {told}",
            hint="where memory ran out, lower resources.max_concurrent_trials or training.batch_size",
        )
    return cause


@dataclass(frozen=True)
class _Task:
    """What one process is to measure."""

    kinds: tuple[Kind, ...]
    rank: int
    count: int
    workers: int
    """Processes that share each batch."""
    slice_s: float
    split_seed: int
    cache: Path


@dataclass(frozen=True)
class _Sample:
    """Seconds of one kind, as one process has measured them."""

    build: float
    epochs: tuple[float, ...]
    validation: float
    test: float
    view: float
    core: float
    """Seconds of a processor for each of these, 1 at most."""


@dataclass(frozen=True)
class _Answer:
    alone: tuple[_Sample, ...]
    """Of the first process; the others have none."""
    crowded: tuple[_Sample, ...]
    ready: float
    """When the data were loaded, by the system's monotonic clock, which all processes share."""


_barrier: Barrier
_gpus: float


def _prepare(barrier: Barrier, threads: int, gpus: float) -> None:
    global _barrier, _gpus
    _barrier, _gpus = barrier, gpus
    # Ctrl-C is for the process that asked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_process(threads)


def _measured(task: _Task) -> _Answer:
    """Each process of the pool does this once: all meet at the barrier, so that none can take two tasks."""
    try:
        prober = _Prober(task, _device(task.rank))
        prober.load()
        ready = time.monotonic()
        alone: list[_Sample] = []
        crowded: list[_Sample] = []
        for kind in task.kinds:
            _barrier.wait(PATIENCE_S)
            if task.rank == 0:
                alone.append(prober.sample(kind))
            _barrier.wait(PATIENCE_S)
            if task.count > 1:
                crowded.append(prober.sample(kind))
        return _Answer(tuple(alone), tuple(crowded), ready)
    except BaseException:
        _barrier.abort()
        raise


def _device(rank: int) -> World:
    """This process's part of the machine, as Ray would grant it."""
    import torch

    if not _gpus:
        return World()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    if not torch.cuda.is_available():
        raise ResourceError("resources.gpus_per_worker asks for a GPU, but torch cannot use one")
    number = rank // int(1 / _gpus + 1e-9) if _gpus < 1 else rank * int(_gpus)
    return World(device=torch.device("cuda", number % len(known)))


class _Prober:
    """Builds and times runs in one process."""

    def __init__(self, task: _Task, world: World) -> None:
        self._task = task
        self._world = world
        self._datasets: dict[object, Dataset] = {}

    def load(self) -> None:
        for kind in self._task.kinds:
            self._dataset(RunSpec.model_validate(kind.run))

    def _dataset(self, run: RunSpec) -> Dataset:
        source = run.data.source
        if source not in self._datasets:
            self._datasets[source] = build.load_data(run.data, self._task.cache)
        return self._datasets[source]

    def sample(self, kind: Kind) -> _Sample:
        """Time one kind of run, for about a slice of time."""
        begin = time.perf_counter()
        run = RunSpec.model_validate(kind.run)
        dataset = self._dataset(run)
        splits = build.build_splits(run, dataset, self._task.split_seed)
        teacher = self._teacher(kind, run, dataset)
        training = self._run(kind, run, splits, teacher)
        built = time.perf_counter() - begin
        begin, processor = time.perf_counter(), time.process_time()
        epochs, validation = self._epochs(training)
        core = min(1.0, (time.process_time() - processor) / (time.perf_counter() - begin))
        images = len(splits.val)
        return _Sample(
            build=built + TRIAL_S,
            epochs=tuple(epochs),
            validation=validation,
            test=validation * len(dataset.test) / images,
            view=self._view(training, teacher) if kind.stored and teacher is not None else 0.0,
            # What waits for a GPU leaves its core by itself.
            core=1.0 if _gpus else core,
        )

    def _teacher(self, kind: Kind, run: RunSpec, dataset: Dataset) -> nn.Module | None:
        """What it learns from, with weights that nobody has trained: they take as long."""
        models = [TeacherSpec.model_validate(teacher) for teacher in kind.teachers]
        networks = [build.build_network(model, dataset, 0) for model in models]
        return build.join_teachers(run.scheme, networks).to(self._world.device) if networks else None

    def _run(self, kind: Kind, run: RunSpec, splits: build.Splits, teacher: nn.Module | None) -> TrainingRun:
        if not kind.distils:
            return build.build_teacher_run(run, splits, trial="measuring", world=self._world)
        if not kind.stored:
            return build.build_student_run(run, splits, teacher, trial="measuring", world=self._world)
        made: TrainingRun | None = None
        answers: dict[int, Tensor] = {}

        def targets(view: View) -> Tensor:
            import torch

            count = len(made.data.train) if made is not None else 0
            if count not in answers:
                answers[count] = torch.randn(count, len(splits.dataset.classes), device=self._world.device)
            return answers[count]

        made = build.build_student_run(run, splits, None, targets=targets, trial="measuring", world=self._world)
        return made

    def _epochs(self, run: TrainingRun) -> tuple[list[float], float]:
        """Seconds of whole epochs, told from parts of them, and of a validation."""
        import torch

        whole = run.data
        sizes = {"train": len(whole.train), "val": len(whole.val)}
        # One process of several takes its part of each batch; what they tell each other is not measured.
        share = -(-run.settings.batch_size // self._task.workers)
        run.settings = replace(run.settings, batch_size=share)
        sizes["train"] = -(-sizes["train"] // self._task.workers)

        def timed(batches: int) -> tuple[float, float]:
            """Seconds of an epoch's training and validation, from so many batches of each."""
            taken = {part: min(size, batches * share) for part, size in sizes.items()}
            first = {part: torch.arange(count, device=self._world.device) for part, count in taken.items()}
            run.data = replace(whole, train=whole.train.take(first["train"]), val=whole.val.take(first["val"]))
            run.epoch = 0
            metrics = run.train_epoch()
            training = taken["train"] / metrics[names.THROUGHPUT]
            validating = metrics[names.EPOCH_TIME] - training
            return training * sizes["train"] / taken["train"], validating * sizes["val"] / taken["val"]

        most = -(-sizes["train"] // share)
        timed(1)
        begin = time.perf_counter()
        parts = [timed(min(2, most))]
        end = begin + self._task.slice_s
        # A third of what is left, so that there are several samples of as many batches as there is time for.
        pace = (time.perf_counter() - begin) / min(2, most)
        batches = max(1, min(most, int((end - time.perf_counter()) / 3 / pace)))
        if batches > 1 and time.perf_counter() < end:
            parts = []
        while time.perf_counter() < end or not parts:
            parts.append(timed(batches))
        run.data = whole
        return [training + validating for training, validating in parts], min(validating for _, validating in parts)

    def _view(self, run: TrainingRun, teacher: nn.Module) -> float:
        """Seconds that the teacher takes for all training images of one view, told from some of them."""
        import torch

        count = min(len(run.data.train), BATCH)
        first = torch.arange(count, device=self._world.device)
        data, view = replace(run.data, train=run.data.train.take(first)), run.views.of(0)
        taken = []
        for _ in range(2):
            begin = time.perf_counter()
            logits = view_logits(teacher, data, view, precision=run.settings.precision, device=self._world.device)
            logits.sum().item()
            taken.append(time.perf_counter() - begin)
        return min(taken) * len(run.data.train) / count


def _timing(samples: Sequence[_Sample], driver_s: float) -> Timing:
    """What several processes have measured of one kind, together."""
    core = min(sample.core for sample in samples)
    epochs = [seconds + driver_s for sample in samples for seconds in sample.epochs]
    builds, tests, views = ([getattr(sample, part) for sample in samples] for part in ("build", "test", "view"))
    return Timing(*(_span(seconds, core) for seconds in (builds, epochs, tests, views)))


def _span(seconds: Sequence[float], core: float) -> Span:
    """Nine in ten of what was measured, and a margin; down to what it would be with a `core` to itself."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    low, likely, high = (ordered[round(part * last)] for part in (0.05, 0.5, 0.95))
    return Span(min(low, core * likely) * (1 - MARGIN), likely, high * (1 + MARGIN))
