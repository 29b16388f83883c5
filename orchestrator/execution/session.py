"""One trial on one process, epoch by epoch: build or restore it, train, checkpoint, test, keep the result.

Knows no Ray, so that whatever runs trials (a Tune actor, a group of Ray Train workers) does the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from orchestrator import build, names
from orchestrator.data import Dataset
from orchestrator.errors import CheckpointError, TeacherError
from orchestrator.execution.job import Job
from orchestrator.search.trials import Phase
from orchestrator.spec.data import DataSpec
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import TeacherSpec
from orchestrator.store.home import TrialFolder
from orchestrator.training import evaluate, load_latest, save_checkpoint, save_weights


class Cache:
    """Data sets and teachers of one process, kept from trial to trial; only the latest of each."""

    def __init__(self) -> None:
        self._dataset: tuple[object, Dataset] | None = None
        self._teacher: tuple[object, nn.Module] | None = None

    def dataset(self, data: DataSpec, folder: str | None = None) -> Dataset:
        """The data set of a spec; `folder` is where decoded images are kept for other processes."""
        if self._dataset is None or self._dataset[0] != data.source:
            self._dataset = (data.source, build.load_data(data, Path(folder) if folder else None))
        return self._dataset[1]

    def teacher(self, job: Job, run: RunSpec, dataset: Dataset) -> nn.Module | None:
        """The network, or the average of several, that the job's student learns from."""
        if not job.teachers:
            return None
        source = (job.teachers, run.scheme, run.data.source)
        if self._teacher is None or self._teacher[0] != source:
            networks = [_trained(TeacherSpec.model_validate(t["model"]), t["weights"], dataset) for t in job.teachers]
            self._teacher = (source, build.join_teachers(run.scheme, networks))
        return self._teacher[1]


def _trained(teacher: TeacherSpec, path: str, dataset: Dataset) -> nn.Module:
    network = build.build_network(teacher, dataset, 0)
    try:
        build.load_teacher(teacher, Path(path), network)
    except CheckpointError as error:
        hint = error.hint if teacher.checkpoint else "remove the file, and it is trained again"
        raise TeacherError(error.message, hint=hint) from error
    return network


class Session:
    """A trial under way."""

    def __init__(self, job: Job, cache: Cache) -> None:
        self.job = job
        self.run = RunSpec.model_validate(job.run)
        self.folder = TrialFolder(Path(job.folder))
        self.folder.path.mkdir(parents=True, exist_ok=True)
        dataset = cache.dataset(self.run.data, job.cache)
        self._splits = build.build_splits(self.run, dataset, job.split_seed)
        if not job.distils:
            self.training = build.build_teacher_run(self.run, self._splits, trial=job.trial)
        else:
            teacher = cache.teacher(job, self.run, dataset)
            self.training = build.build_student_run(self.run, self._splits, teacher, trial=job.trial)
        state = load_latest(self.folder.checkpoints)
        if state is not None:
            self.training.restore(state)
        self.folder.rewind(self.training.epoch)
        self._saved_epoch = self.training.epoch
        self._saved_at = time.monotonic()

    @property
    def done(self) -> bool:
        return self.training.done

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch, and after the last one do what the phase asks for; returns "epoch" and metrics."""
        metrics = self.training.train_epoch()
        if self.done:
            metrics |= self._complete(metrics)
        self.folder.add_metrics(self.training.epoch, metrics)
        interval = self.run.training.checkpoint_interval_s
        if not self.done and time.monotonic() - self._saved_at >= interval:
            self.save()
        return {"epoch": self.training.epoch, **metrics}

    def save(self) -> None:
        """Write a checkpoint of the last completed epoch, if that epoch has none yet."""
        if self.training.epoch > self._saved_epoch:
            save_checkpoint(self.folder.checkpoints, self.training.state())
            self._saved_epoch = self.training.epoch
        self._saved_at = time.monotonic()

    def _complete(self, metrics: Mapping[str, float]) -> dict[str, float]:
        job, training = self.job, self.training
        described = {"trial": job.trial, "val_acc1": f"{metrics[names.VAL_ACC1]:.2f}"}
        if job.weights:
            save_weights(Path(job.weights), training.student, described)
        if job.phase == Phase.FINAL:
            dataset = self._splits.dataset
            loss, acc1 = evaluate(
                training.student,
                dataset.test.to(training.world.device),
                dataset.mean,
                dataset.std,
                batch_size=training.settings.batch_size,
                precision=training.settings.precision,
            )
            save_weights(self.folder.weights, training.student, {**described, "test_acc1": f"{acc1:.2f}"})
            return {names.TEST_LOSS: loss, names.TEST_ACC1: acc1}
        return {}
