"""What a process that runs trials keeps from one to the next: data sets, teachers, and how files get elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import build
from orchestrator.data import Dataset, Images
from orchestrator.data.digest import quick_digest
from orchestrator.errors import BuildError, CheckpointError, OrchestratorError, TeacherError
from orchestrator.execution.job import Job
from orchestrator.execution.logits import images_digest
from orchestrator.execution.sharing import Sharing
from orchestrator.spec.data import DataSpec
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import TeacherSpec
from orchestrator.store.data import with_local_root

if TYPE_CHECKING:
    import torch
    from torch import nn


class Cache:
    """Data sets and teachers of one process, kept from trial to trial; only the latest of each."""

    def __init__(self) -> None:
        self._dataset: tuple[object, Dataset] | None = None
        self._splits: tuple[object, build.Splits] | None = None
        self._teacher: tuple[object, nn.Module] | None = None
        self._images: tuple[object, str] | None = None
        self._digests: tuple[object, Mapping[str, str]] | None = None
        self.judged: tuple[object, float] | None = None
        """A teacher from a file, and its validation accuracy in percent."""
        self._tried: str | None = None
        self._sharing: Sharing | None = None

    def dataset(self, data: DataSpec, folder: str | None = None) -> Dataset:
        """The data set of a spec; `folder` is where decoded images are kept for other processes."""
        if self._dataset is None or self._dataset[0] != data.source:
            cache = Path(folder) if folder else None
            self._splits = None
            self._dataset = (data.source, build.load_data(with_local_root(data, cache), cache))
        return self._dataset[1]

    def splits(self, job: Job, run: RunSpec, device: torch.device) -> build.Splits:
        """The images of a run, on its device."""
        key = (run.data, run.teacher.train_samples if run.teacher else None, job.split_seed, device)
        dataset = self.dataset(run.data, job.cache)
        if self._splits is None or self._splits[0] != key:
            self._splits = None
            self._splits = (key, build.build_splits(run, dataset, job.split_seed).to(device))
        return self._splits[1]

    def sharing(self, job: Job) -> Sharing | None:
        """How a job's files get to other machines, its teachers' weights brought to this one; None where all see them.

        What an earlier job left is brought to the store first.
        """
        if self._sharing is None or self._sharing.job != job:
            self.close()
            self._sharing = Sharing(job) if job.home else None
        if self._sharing:
            self._sharing.bring_teachers()
        return self._sharing

    def close(self) -> None:
        """The process ends: bring what the last job has left to the store."""
        if self._sharing:
            self._sharing.leave()
        self._sharing = None

    def load(self, job: Job) -> None:
        """Have a job's data set, and a teacher that is run in every step, at hand."""
        self.sharing(job)
        run = RunSpec.model_validate(job.run)
        dataset = self.dataset(run.data, job.cache)
        self.try_out(job, dataset)
        if not (job.logits and job.logits["stored"]):
            self.teacher(job, run, dataset)

    def try_out(self, job: Job, dataset: Dataset) -> None:
        """Build each of the job's `students` once; raises `BuildError` that names the one that cannot be."""
        if self._tried == job.trial:
            return
        for student in job.students:
            teachers = [TeacherSpec.model_validate(teacher) for teacher in student["teachers"]]
            try:
                build.try_out(RunSpec.model_validate(student["run"]), teachers, dataset)
            except Exception as error:
                told, hint = f"{type(error).__name__}: {error}", None
                if isinstance(error, OrchestratorError):
                    told, hint = error.message, error.hint
                raise BuildError(f"{student['name']} cannot be built: {told}", hint=hint) from error
        self._tried = job.trial

    def images(self, job: Job, run: RunSpec, splits: build.Splits) -> str:
        """A digest of the images that a run's student learns from."""
        key = (run.data.source, run.data.validation_fraction, run.data.train_samples, job.split_seed)
        if self._images is None or self._images[0] != key:
            self._images = (key, images_digest(splits.train))
        return self._images[1]

    def digests(self, key: object, parts: Mapping[str, Images]) -> Mapping[str, str]:
        """A short digest of each part of a data set; `key` stands for all that decides on their images."""
        if self._digests is None or self._digests[0] != key:
            self._digests = (key, {name: quick_digest(images) for name, images in parts.items()})
        return self._digests[1]

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
