"""`scheme`: who teaches the student: one teacher, a chain of assistants, generations, several, or its peers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from orchestrator.spec.base import Section, told_by
from orchestrator.spec.model import ModelSpec, StudentSpec, TeacherSpec
from orchestrator.spec.training import TrainingSpec


class SingleTeacher(Section):
    """The student learns from the teacher (Hinton et al. 2015)."""

    method: Literal["single"] = "single"


class AssistantSpec(ModelSpec):
    """A network between the teacher and the student in size."""

    training: TrainingSpec | None = Field(None, description="How the assistant is trained; unset: as the student.")


class TeacherAssistants(Section):
    """A chain of networks, each distilled from the one before it (Mirzadeh et al. 2020, TAKD).

    All are trained once, before the search, with the variant's own loss: logits adjustment and dynamic
    temperatures act in every step of the chain. Searched values act on the student alone.
    """

    method: Literal["teacher_assistants"]
    assistants: list[AssistantSpec] = Field(min_length=1, description="From the teacher's side to the student's.")


class BornAgain(Section):
    """Students of one architecture, each distilled from the one before it (Furlanello et al. 2018).

    The first learns from the teacher, the student of a trial from the last. Trained as assistants are.
    """

    method: Literal["born_again"]
    generations: int = Field(1, ge=1, le=20, description="Students that are trained before the one of a trial.")


class Ensemble(Section):
    """Several teachers, whose outputs are averaged.

    Logits adjustment and dynamic temperatures act on the average: a target is wrong where the teachers are
    wrong together.
    """

    method: Literal["ensemble"]
    teachers: list[TeacherSpec] = Field(min_length=1, description="Teachers besides the one under `teacher`.")
    average: Literal["logits", "probabilities"] = Field(
        "logits", description="What is averaged: logits, or probabilities at temperature 1."
    )


class Mutual(Section):
    """The student and its peers are trained together, each on the others' outputs (Zhang et al. 2018, DML).

    There is no teacher. Every peer is to every other one what a teacher is elsewhere: logits adjustment
    repairs its wrong targets, and dynamic temperatures compare with it. Results are those of the student.
    """

    method: Literal["mutual"]
    peers: list[StudentSpec] = Field(min_length=1, description="Networks that are trained along with the student.")


SchemeSpec = Annotated[
    Annotated[SingleTeacher, Tag("single")]
    | Annotated[TeacherAssistants, Tag("teacher_assistants")]
    | Annotated[BornAgain, Tag("born_again")]
    | Annotated[Ensemble, Tag("ensemble")]
    | Annotated[Mutual, Tag("mutual")],
    told_by("method", "single"),
]
