"""One trial, epoch by epoch: build or restore it, train, checkpoint, test, keep the result.

Knows no Ray, so that whatever runs trials (a Tune actor, a group of Ray Train workers) does the same.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from orchestrator import build, names
from orchestrator.data import Dataset, Images
from orchestrator.errors import OrchestratorError, TeacherError
from orchestrator.execution.artifacts import class_table, mistake_table, temperature_table
from orchestrator.execution.cache import Cache
from orchestrator.execution.job import DATA, Job
from orchestrator.execution.logit_key import stored_logits
from orchestrator.execution.logits import StoredLogits
from orchestrator.execution.sharing import Sharing
from orchestrator.export.blueprint import KEY
from orchestrator.search.trials import Phase
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import ModelSpec, TeacherSpec
from orchestrator.spec.variants import flatten
from orchestrator.store.files import write_atomically
from orchestrator.store.trial import TrialFolder
from orchestrator.training import (
    SINGLE,
    Evaluation,
    NonFiniteLogitsError,
    World,
    evaluate,
    load_latest,
    save_checkpoint,
    save_weights,
)

WORTH = 20
"""A checkpoint is due after this many times the seconds that the last one took, so that saving costs at most 5 %."""


class Session:
    """A trial under way, on one process or as one of the processes of `world`.

    All processes make the same calls; the first one alone writes files. `should_stop` is as `TrainingRun` has it.
    """

    def __init__(
        self, job: Job, cache: Cache, world: World = SINGLE, should_stop: Callable[[], bool] | None = None
    ) -> None:
        self.job = job
        self._world = world
        self._writes = world.rank == 0
        self.run = RunSpec.model_validate(job.run)
        self.folder = TrialFolder(Path(job.folder))
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self._cache = cache
        sharing = cache.sharing(job)
        self._sharing = sharing if self._writes else None
        if self._sharing:
            self._sharing.restore()
        self._stored: StoredLogits | None = None
        chosen: dict[str, str] = {}
        dataset = cache.dataset(self.run.data, job.cache)
        cache.try_out(job, dataset)
        self._splits = splits = cache.splits(job, self.run, world.device)
        # Nothing that the session keeps may lead back to it: it goes when its trial does.
        self._teacher = partial(_teacher, cache, job, self.run, dataset, world.device)
        if not job.distils:
            self.training = build.build_teacher_run(
                self.run, splits, trial=job.trial, world=world, should_stop=should_stop
            )
        else:
            self._stored, keeping = stored_logits(
                job, self.run, splits, lambda: cache.images(job, self.run, splits), self._teacher, sharing
            )
            self.training = build.build_student_run(
                self.run,
                splits,
                None if self._stored else cache.teacher(job, self.run, dataset),
                targets=self._stored,
                trial=job.trial,
                world=world,
                should_stop=should_stop,
            )
            if self._stored is not None:
                self._stored.serve(self.training)
            chosen = {} if keeping is None else {"teacher_logits": str(keeping)}
        # A process that was cut off from the cluster, and replaced, may train on with the same folder before it.
        self._claim = self.folder.claim() if self._writes else ""
        # What the others would read could be older, where a file system takes its time.
        state = world.broadcast(load_latest(self.folder.checkpoints) if self._writes else None)
        if state is not None:
            self.training.restore(state)
            # It was told when the trial began, and what is recorded cannot change.
            chosen = {}
        settings = self.training.settings
        self.described: dict[str, Any] = {
            **self._sizes(),
            **self._teacher_accuracy(),
            **chosen,
            names.PRECISION: settings.precision,
            names.PRECISION_REASON: settings.precision_reason,
            DATA: self._data(),
        }
        """Parameters and multiply-adds of the networks, and what else only this process knows."""
        if self._writes:
            self.folder.rewind(self.training.epoch)
        self._values = _numbers_at(job.watched, self.run)
        self._saved_epoch = self.training.epoch
        self._saved_at = time.monotonic()
        self._saving_s = 0.0
        self._tested: Evaluation | None = None

    @property
    def _has_teacher(self) -> bool:
        return self._stored is not None or self.training.teacher is not None

    def _sizes(self) -> dict[str, int]:
        learner = self.run.student if self.job.distils else self.run.teacher
        networks: dict[str, ModelSpec | None] = {"student" if self.job.distils else "teacher": learner}
        if len(self.job.teachers) == 1 and self._has_teacher:
            networks["teacher"] = TeacherSpec.model_validate(self.job.teachers[0]["model"])
        sizes: dict[str, int] = {}
        dataset = self._splits.dataset
        for name, model in networks.items():
            if model is not None:
                size = build.network_size(model, partial(build.build_network, model, dataset, 0), dataset)
                sizes |= {f"{name}.parameters": size.parameters, f"{name}.flops": size.multiply_adds}
        return sizes

    def _data(self) -> list[dict[str, Any]]:
        """The images that the trial uses, as `tracking.base.DataSet` has them."""
        data, dataset = self.run.data, self._splits.dataset
        learnt = self._splits.train if self.job.distils else self._splits.teacher_train
        parts = {"training": learnt, "validation": self._splits.val}
        if self.job.phase == Phase.FINAL:
            parts["testing"] = dataset.test
        samples = None if self.job.distils or self.run.teacher is None else self.run.teacher.train_samples
        key = (data.model_dump_json(), samples, self.job.distils, self.job.phase, self.job.split_seed)
        digests = self._cache.digests(key, parts)
        return [
            {
                "name": data.dataset,
                "context": name,
                "digest": digests[name],
                "shape": list(images.images.shape),
                "classes": len(dataset.classes),
                "root": data.root,
            }
            for name, images in parts.items()
        ]

    def _teacher_accuracy(self) -> dict[str, float]:
        """Validation accuracy of a teacher from a file, which may have been made for other images or classes."""
        job, cache, data = self.job, self._cache, self.run.data
        files = [t["model"]["checkpoint"] for t in job.teachers if t["model"].get("checkpoint")]
        if not self._has_teacher or not files:
            return {}
        key = (job.teachers, self.run.scheme, data.source, data.validation_fraction, job.split_seed)
        if cache.judged is None or cache.judged[0] != key:
            try:
                seen = self._evaluate(self._teacher(), self._splits.val)
            except NonFiniteLogitsError as error:
                raise TeacherError(f"teacher.checkpoint: {', '.join(files)}: {error}") from error
            cache.judged = (key, seen.acc1)
        return {"teacher.val_acc1": cache.judged[1]}

    def _evaluate(self, network: nn.Module, data: Images) -> Evaluation:
        training, dataset = self.training, self._splits.dataset
        return evaluate(
            network,
            data.to(training.world.device),
            dataset.mean,
            dataset.std,
            batch_size=training.settings.batch_size,
            precision=training.settings.precision,
            world=training.world,
        )

    @property
    def done(self) -> bool:
        """Whether all is trained that is to be trained now."""
        return self.training.done or self.training.epoch == self.job.until

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch, and after the last one do what the phase asks for; returns "epoch" and metrics."""
        metrics = self.training.train_epoch() | self._values
        if self._stored is not None:
            metrics |= self._stored.metrics()
        self._require_claim()
        if self.training.done:
            metrics |= self._complete(metrics)
        if self._writes:
            self._keep(metrics)
        if self._sharing:
            self._share(self._sharing)
        return {"epoch": self.training.epoch, **metrics}

    def last_epoch(self) -> dict[str, float]:
        """What `train_epoch` returned for the last completed epoch, which must not be the first to come."""
        return self.folder.metrics()[-1]

    def save(self) -> None:
        """Write a checkpoint of the last completed epoch, if that epoch has none yet."""
        if self._writes and self.training.epoch > self._saved_epoch:
            self._require_claim()
            begin = time.monotonic()
            # After a power cut the epochs of a checkpoint must not be missing in the logs.
            self.folder.sync_logs()
            save_checkpoint(self.folder.checkpoints, self.training.state())
            self._saved_epoch = self.training.epoch
            self._saved_at = time.monotonic()
            self._saving_s = self._saved_at - begin
            if self._sharing:
                self._sharing.tell()

    def _require_claim(self) -> None:
        if self._writes and not self.folder.is_claimed(self._claim):
            raise OrchestratorError(f"{self.job.trial}: another process goes on with this trial")

    def _keep(self, metrics: Mapping[str, float]) -> None:
        """Write what the epoch that has just ended leaves."""
        self.folder.add_metrics(self.training.epoch, metrics)
        if self.training.temperatures is not None:
            bounds = self.training.criterion.temperature.bounds
            self.folder.add_temperatures(self.training.epoch, self.training.temperatures, bounds)
        if self.training.done:
            self.folder.sync_logs()
            self._describe()
            return
        interval = min(self.run.training.checkpoint_interval_s, WORTH * self._saving_s)
        if self.done or time.monotonic() - self._saved_at >= interval:
            self.save()

    def _share(self, sharing: Sharing) -> None:
        if not self.done:
            sharing.tell()
            return
        # What others go on from, or build on, is there before the driver hears of the end.
        sharing.wait([Path(self.job.weights)] if self.job.weights and self.training.done else [])
        if self.training.done:
            shutil.rmtree(self.folder.checkpoints, ignore_errors=True)

    def _complete(self, metrics: Mapping[str, float]) -> dict[str, float]:
        job, training = self.job, self.training
        described = {"trial": job.trial, "val_acc1": f"{metrics[names.VAL_ACC1]:.2f}"}
        if job.weights and self._writes:
            save_weights(Path(job.weights), training.student, described)
        if job.phase == Phase.FINAL:
            self._tested = seen = self._evaluate(training.student, self._splits.dataset.test)
            if self._writes:
                made = build.blueprint(self.run.student, self.run.data, self._splits.dataset)
                about = {**described, "test_acc1": f"{seen.acc1:.2f}", KEY: made.to_text()}
                save_weights(self.folder.weights, training.student, about)
            return {names.TEST_LOSS: seen.loss, names.TEST_ACC1: seen.acc1, names.TEST_ECE: seen.ece}
        return {}

    def _describe(self) -> None:
        """Write the artifacts of a trial that has ended."""
        files = {"classes.csv": class_table(self._splits.dataset.classes, self._tested or self.training.validation)}
        if self.training.mistakes:
            files["mistakes.csv"] = mistake_table(self._splits.dataset.classes, self.training.mistakes)
        epochs = self.folder.temperatures()
        if epochs:
            files["temperatures.csv"] = temperature_table(epochs)
        self.folder.artifacts.mkdir(exist_ok=True)
        for name, text in files.items():
            write_atomically(self.folder.artifacts / name, text)


def _teacher(cache: Cache, job: Job, run: RunSpec, dataset: Dataset, device: torch.device) -> nn.Module:
    """What the student learns from, loaded where it has not been yet."""
    teacher = cache.teacher(job, run, dataset)
    if teacher is None:
        raise ValueError("this trial has no teacher")
    return teacher.to(device)


def _numbers_at(paths: Collection[str], run: RunSpec) -> dict[str, float]:
    """The numbers of a run at dotted paths and below them, as metrics."""
    flat = flatten(run.model_dump()) if paths else {}
    below = tuple(f"{path}." for path in paths)
    return {
        names.value_metric(path): float(value)
        for path, value in flat.items()
        if f"{path}.".startswith(below) and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
