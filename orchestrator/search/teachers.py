"""What stage 0 trains: teachers, their assistants and earlier generations, and who learns from whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.search.sizes import ModelSize, size_in
from orchestrator.spec.experiment import RunSpec, digest
from orchestrator.spec.model import ModelSpec, TeacherSpec
from orchestrator.spec.scheme import BornAgain, Ensemble, TeacherAssistants
from orchestrator.spec.training import TrainingSpec

MEMBER_SEED, GENERATION_SEED = 200_000, 300_000
"""Distances of the seeds of an ensemble's further teachers, and of generations, from the run's own."""


@dataclass(frozen=True)
class Source:
    """A network that a run learns from."""

    model: ModelSpec
    key: str | None
    """Of the stage-0 run that makes it; None where it has a checkpoint."""

    @property
    def checkpoint(self) -> str | None:
        """Where its weights come from, if no stage-0 run makes them."""
        return self.model.checkpoint if isinstance(self.model, TeacherSpec) else None


@dataclass(frozen=True)
class TeacherRun:
    """One run of stage 0."""

    key: str
    """What its weights are stored and found again under: a hash of all that made them."""
    run: RunSpec
    trains_student: bool
    """Whether it trains `run.student` by distillation, and not `run.teacher` on labels."""
    sources: tuple[Source, ...] = ()

    @property
    def network(self) -> ModelSpec | None:
        """What it trains."""
        return self.run.student if self.trains_student else self.run.teacher

    @property
    def model(self) -> str:
        return self.network.model if self.network else ""

    @property
    def size(self) -> ModelSize | None:
        """Of its network, where the table tells it."""
        return size_in(self.network, self.run.data) if self.network else None

    @property
    def training(self) -> TrainingSpec:
        return self.run.training if self.trains_student else self.run.teacher_training

    @property
    def after(self) -> list[str]:
        """Keys of the stage-0 runs that have to end before it."""
        return [source.key for source in self.sources if source.key is not None]


@dataclass(frozen=True)
class Teaching:
    """All that has to be there before a student can be trained."""

    runs: Mapping[str, TeacherRun]
    """Stage-0 runs by key, each after those it needs."""
    sources: tuple[Source, ...]
    """Networks that the student learns from."""


def teaching(run: RunSpec) -> Teaching:
    """What a run's scheme asks of stage 0."""
    if not run.needs_teacher or run.teacher is None:
        return Teaching({}, ())
    runs: dict[str, TeacherRun] = {}
    scheme = run.scheme
    sources = [_teacher(run, run.teacher, run.seed, runs)]
    if isinstance(scheme, Ensemble):
        for number, teacher in enumerate(scheme.teachers, start=1):
            # Further teachers of the same kind would otherwise be the same network.
            sources.append(_teacher(run, teacher, run.seed + MEMBER_SEED + number, runs))
    if isinstance(scheme, TeacherAssistants):
        for assistant in scheme.assistants:
            network = assistant.model_dump(exclude={"training"}, exclude_unset=True)
            sources = [_assistant(run, network, assistant.training or run.training, run.seed, sources, runs)]
    if isinstance(scheme, BornAgain):
        for number in range(1, scheme.generations + 1):
            network = run.student.model_dump(exclude_unset=True)
            sources = [_assistant(run, network, run.training, run.seed + GENERATION_SEED + number, sources, runs)]
    return Teaching(runs, tuple(sources))


def _teacher(run: RunSpec, teacher: TeacherSpec, seed: int, runs: dict[str, TeacherRun]) -> Source:
    if teacher.checkpoint is not None:
        return Source(teacher, None)
    mine = run.model_copy(update={"teacher": teacher, "seed": seed})
    key = digest(
        {
            "data": run.data.teacher_content(),
            "teacher": teacher.model_dump(exclude={"training"}, exclude_defaults=True),
            "training": mine.teacher_training.model_dump(exclude={"checkpoint_interval_s"}, exclude_defaults=True),
            "seed": seed,
        }
    )
    runs[key] = TeacherRun(key, mine, trains_student=False)
    return Source(teacher, key)


def _assistant(
    run: RunSpec,
    network: dict[str, Any],
    training: TrainingSpec,
    seed: int,
    sources: Sequence[Source],
    runs: dict[str, TeacherRun],
) -> Source:
    student = type(run.student).model_validate(network)
    mine = run.model_copy(update={"student": student, "training": training, "seed": seed})
    key = digest(
        {
            "data": {**run.data.teacher_content(), **run.data.student_content()},
            "student": student.model_dump(exclude_defaults=True),
            "training": training.model_dump(exclude={"checkpoint_interval_s"}, exclude_defaults=True),
            "distillation": run.distillation.model_dump(exclude_defaults=True),
            "sources": [source.key or source.model.model_dump(exclude_defaults=True) for source in sources],
            "seed": seed,
        }
    )
    runs[key] = TeacherRun(key, mine, trains_student=True, sources=tuple(sources))
    return Source(student, key)
