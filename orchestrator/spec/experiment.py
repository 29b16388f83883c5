"""The whole spec: one run's sections, and around them the search, resources, budget and tracking."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from orchestrator.spec.augmentation import AugmentationSpec
from orchestrator.spec.base import Section, broken_rule
from orchestrator.spec.budget import BudgetSpec
from orchestrator.spec.data import DataSpec
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.spec.model import StudentSpec, TeacherSpec
from orchestrator.spec.resources import ResourcesSpec
from orchestrator.spec.schedulers import PopulationScheduler
from orchestrator.spec.scheme import Ensemble, Mutual, SchemeSpec, SingleTeacher, TeacherAssistants
from orchestrator.spec.search import SearchSpec
from orchestrator.spec.tracking import TrackingSpec
from orchestrator.spec.training import TrainingSpec

SPEC_VERSION = 2
"""Part of every hash: raised when the same spec would give other results than before, as by another default."""


def assign(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `tree` with the values at the dotted paths set, sections before their fields."""
    result = copy.deepcopy(dict(tree))
    for path in sorted(values, key=lambda path: path.count(".")):
        put(result, path.split("."), values[path])
    return result


def put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set the value under the keys; a number names an item that a list has, counted from 0.

    What is neither a mapping nor such a list on the way is replaced by a mapping. Those on the way are replaced by
    copies, as a YAML alias makes one mapping of several places.
    """
    node: Any = tree
    for key, following in itertools.pairwise(keys):
        place: Any = int(key) if isinstance(node, list) else key
        inner = node[place] if isinstance(node, list) else node.get(key)
        node[place] = list(inner) if _has_item(inner, following) else dict(inner) if isinstance(inner, dict) else {}
        node = node[place]
    last: Any = int(keys[-1]) if isinstance(node, list) else keys[-1]
    node[last] = copy.deepcopy(value)


def _has_item(node: Any, key: str) -> bool:
    """Whether `node` is a list and `key` the number of an item in it."""
    return isinstance(node, list) and key.isascii() and key.isdecimal() and int(key) < len(node)


def digest(content: Any) -> str:
    """A hash of JSON-like content; the order of keys and how numbers are written do not change it; 16 hex digits."""
    text = json.dumps([SPEC_VERSION, _written_alike(content)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _written_alike(content: Any) -> Any:
    """The content with 4 for 4.0, which are the same to every field."""
    if isinstance(content, Mapping):
        return {key: _written_alike(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_written_alike(value) for value in content]
    return int(content) if isinstance(content, float) and content.is_integer() else content


class RunSpec(Section):
    """What one distillation needs; every trial has one, all its values fixed."""

    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Fixes splits, initial weights, data order, augmentation and drawn points.",
    )
    data: DataSpec = Field(description="The images, their split and augmentation.")
    teacher: TeacherSpec | None = Field(None, description="The network that is distilled from.")
    student: StudentSpec = Field(description="The network that is trained in every trial.")
    scheme: SchemeSpec = Field(
        SingleTeacher(), description="Who teaches: single, teacher_assistants, born_again, ensemble or mutual."
    )
    distillation: DistillationSpec = Field(
        DistillationSpec(), description="The loss, its temperatures, and the repair of wrong targets."
    )
    training: TrainingSpec = Field(TrainingSpec(), description="How the student is trained.")

    @model_validator(mode="after")
    def _teacher_is_there(self) -> Self:
        if self.needs_teacher and self.teacher is None:
            raise broken_rule(
                "teacher", "is needed where distillation.kd_weight is above 0 or there are features", None
            )
        return self

    @model_validator(mode="after")
    def _teacher_has_images(self) -> Self:
        if self.teacher and (rule := self.data.refused_subset(self.teacher.train_samples)):
            raise broken_rule("teacher.train_samples", rule, self.teacher.train_samples)
        return self

    @model_validator(mode="after")
    def _scheme_fits(self) -> Self:
        if isinstance(self.scheme, Mutual) and self.distillation.kd_weight == 0:
            raise broken_rule(
                "scheme.method", "peers learn from each other by distillation.kd_weight, which is 0", "mutual"
            )
        if isinstance(self.scheme, Mutual) and self.distillation.features:
            rule = "has no finished teacher, whose features could be matched; remove distillation.features"
            raise broken_rule("scheme.method", rule, "mutual")
        if isinstance(self.scheme, Mutual) and self.distillation.teacher_logits.keep == "stored":
            rule = "has no finished teacher, whose logits could be stored; remove distillation.teacher_logits.keep"
            raise broken_rule("scheme.method", rule, "mutual")
        if isinstance(self.scheme, Ensemble) and self.distillation.features:
            rule = "averages outputs, and features cannot be averaged; remove distillation.features"
            raise broken_rule("scheme.method", rule, "ensemble")
        return self

    @model_validator(mode="after")
    def _parts_are_enough(self) -> Self:
        parts = self.training.accumulation
        if parts > 1 and (needing := self.distillation.relating_samples):
            rule = f"must be 1 with {needing}, which needs a whole batch at once; more workers can share one"
            raise broken_rule("training.accumulation", rule, parts)
        return self

    @model_validator(mode="after")
    def _samples_are_one_image(self) -> Self:
        given = self.data.augmentation
        mixes = isinstance(given, AugmentationSpec) and given.mix_probability > 0 and (given.mixup or given.cutmix)
        for number, feature in enumerate(self.distillation.features):
            if mixes and feature.method == "crd":
                rule = "tells samples apart by their own label and index, and mixup and cutmix make one of two"
                raise broken_rule(f"distillation.features.{number}.method", rule, "crd")
        return self

    @model_validator(mode="after")
    def _weights_rise_in_time(self) -> Self:
        """What is warmed up reaches its weight, in the assistants' training too."""
        trained = {"training": self.training}
        if isinstance(self.scheme, TeacherAssistants):
            for number, assistant in enumerate(self.scheme.assistants):
                if assistant.training is not None:
                    trained[f"scheme.assistants.{number}.training"] = assistant.training
        rising = {"distillation.warmup_epochs": self.distillation.warmup_epochs}
        for number, feature in enumerate(self.distillation.features):
            if "warmup_epochs" in feature.model_fields_set:
                rising[f"distillation.features.{number}.warmup_epochs"] = feature.warmup_epochs
        for path, epochs in rising.items():
            for name, training in trained.items():
                if epochs > training.epochs:
                    raise broken_rule(path, f"must be <= {name}.epochs ({training.epochs})", epochs)
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether a finished network is learnt from."""
        if isinstance(self.scheme, Mutual):
            return False
        return self.distillation.kd_weight > 0 or bool(self.distillation.features)

    @property
    def teacher_training(self) -> TrainingSpec:
        """How the teacher is trained: its own section, or the student's."""
        return (self.teacher and self.teacher.training) or self.training

    def with_values(self, values: Mapping[str, Any]) -> RunSpec:
        """This run with the values at the dotted paths set; raises pydantic.ValidationError."""
        return RunSpec.model_validate(assign(self.model_dump(exclude_unset=True), values))


class ExperimentSpec(RunSpec):
    """One experiment: one YAML file."""

    seed: int = Field(
        0,
        ge=0,
        lt=2_000_000_000,
        description="Fixes splits, initial weights, data order and drawn points; repeats use seeds above it.",
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=60,
        description="Names the experiment and its folder.",
    )
    description: str | None = Field(
        None, max_length=500, description="What the experiment asks, in a sentence or two; its report begins with it."
    )
    search: SearchSpec = Field(SearchSpec(), description="Variants, values that are tried, and seeds.")
    resources: ResourcesSpec = Field(ResourcesSpec(), description="What one trial takes.")
    budget: BudgetSpec = Field(BudgetSpec(), description="When the search ends, and what becomes of failures.")
    tracking: TrackingSpec = Field(TrackingSpec(), description="Where runs are recorded.")

    @model_validator(mode="after")
    def _population_of_single_workers(self) -> Self:
        method = self.search.scheduler.method
        if self.resources.workers[1] > 1 and isinstance(self.search.scheduler, PopulationScheduler):
            rule = (
                "hands checkpoints from trial to trial, which is not offered for trials that are runs of several "
                "workers themselves: set resources.num_workers to 1, or use asha or hyperband"
            )
            raise broken_rule("search.scheduler.method", rule, method)
        return self

    @property
    def hash(self) -> str:
        """Identifies the results: all but name, description, download, references, where stores are, resources, budget
        and tracking.

        Defaults are left out, so that a field that a later version adds changes no hash.
        """
        return digest(self.hashed(exclude_defaults=True))

    def hashed(self, *, exclude_defaults: bool = False) -> dict[str, Any]:
        """What the hash is of, as plain data."""
        apart: dict[str, Any] = {
            "name": True,
            "description": True,
            "data": {"download"},
            "search": {"reference": True, "variants": {"__all__": {"reference"}}, "warm_start": {"uri"}},
            "resources": True,
            "budget": True,
            "tracking": True,
        }
        return self.model_dump(exclude=apart, exclude_defaults=exclude_defaults)

    @property
    def id(self) -> str:
        """Name of the experiment's folder, job and parent run."""
        return f"{self.name}-{self.hash[:8]}"

    def run_content(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The sections of one run as plain data, with the values at the dotted paths set.

        The teacher's training is written out, so that no variant or searched value changes it by accident.
        """
        content = self.model_dump(include=set(RunSpec.model_fields), exclude_unset=True)
        chosen = {
            path: values[path] for path in ("teacher", "teacher.training", "teacher.checkpoint") if path in values
        }
        teacher = assign(content, chosen).get("teacher")
        if isinstance(teacher, dict) and teacher.get("checkpoint") is None and teacher.get("training") is None:
            values = {**values, "teacher.training": self.training.model_dump(exclude_unset=True)}
        return assign(content, values)
