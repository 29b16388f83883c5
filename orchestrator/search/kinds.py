"""The kinds of run that an experiment has, as far as their time is concerned: one example of each, to be measured."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.search.logits import LogitPlan
from orchestrator.search.plan import Arm, Plan
from orchestrator.search.teachers import Source
from orchestrator.spec.domains import Choice
from orchestrator.spec.experiment import RunSpec

EXAMPLES = 6
"""Runs of one variant's space that are measured at most."""
STILL = 1e-6
"""A learning rate at which nothing diverges in a probe."""


@dataclass(frozen=True)
class Kind:
    """Runs that take as long as each other, epoch by epoch; plain data, which travels to who measures it."""

    of: tuple[str, ...]
    """Names of variants, and keys of networks of stage 0."""
    run: Mapping[str, Any]
    """An example, a `RunSpec`."""
    teachers: tuple[Mapping[str, Any], ...]
    """The networks that it learns from, each a `TeacherSpec`; also where their logits are stored."""
    distils: bool
    """Whether the run's student is trained, and not its teacher."""
    stored: bool
    """Whether its teacher's logits are read from the store."""


def kinds_of(plan: Plan, logits: LogitPlan, there: Collection[str]) -> list[Kind]:
    """Every kind of run that is to come; `there` are the keys of teachers that need no run."""
    found: dict[str, Kind] = {}

    def add(name: str, run: RunSpec, sources: Sequence[Source], *, distils: bool) -> None:
        stored = distils and logits.shared(run, sources, run.seed) is not None
        teachers = tuple(source.model.model_dump(exclude_unset=True) for source in sources) if distils else ()
        key = json.dumps([_looks(run, distils), teachers, distils, stored], sort_keys=True)
        of = (*found[key].of, name) if key in found else (name,)
        found[key] = Kind(tuple(dict.fromkeys(of)), _still(run, distils), teachers, distils, stored)

    for key, teacher in plan.teachers.items():
        if key not in there:
            add(key, teacher.run, teacher.sources, distils=teacher.trains_student)
    for arm in plan.arms:
        for run in itertools.islice(_examples(arm), EXAMPLES):
            add(arm.name, run, arm.sources, distils=True)
    return list(found.values())


def _examples(arm: Arm) -> Iterator[RunSpec]:
    """Runs from both ends of an arm's space, and of every choice that it has."""
    space = arm.variant.space
    low, high = ({path: domain.extremes[end] for path, domain in space.items()} for end in (0, -1))
    chosen = [
        {**low, path: value}
        for path, domain in space.items()
        if isinstance(domain, Choice)
        for value in domain.extremes[1:]
    ]
    told = set()
    for point in (low, high, *chosen):
        try:
            run = arm.variant.run.with_values(arm.variant.repaired(point))
        except ValidationError:
            continue
        if (looks := json.dumps(_looks(run, True), sort_keys=True)) not in told:
            told.add(looks)
            yield run


def _looks(run: RunSpec, distils: bool) -> dict[str, Any]:
    """What the time of an epoch depends on: networks, images, methods and whole numbers, but no weights or rates."""
    training = run.training if distils else run.teacher_training
    learner = run.student if distils else run.teacher
    return {
        "learner": learner.model_dump(exclude={"training"}) if learner else None,
        "data": run.data.model_dump(),
        "training": _blurred(training.model_dump(exclude={"epochs", "schedule", "checkpoint_interval_s"})),
        **({"scheme": run.scheme.model_dump(), "loss": _blurred(run.distillation.model_dump())} if distils else {}),
    }


def _blurred(content: Any) -> Any:
    """Content in which all that is known of a fraction is whether it is 0."""
    if isinstance(content, Mapping):
        return {key: _blurred(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_blurred(value) for value in content]
    return content != 0 if isinstance(content, float) else content


def _still(run: RunSpec, distils: bool) -> dict[str, Any]:
    section = "training" if distils else "teacher.training"
    if not distils:
        run = run.with_values({section: run.teacher_training.model_dump(exclude_unset=True)})
    return run.with_values({f"{section}.optimizer.lr": STILL}).model_dump(exclude_unset=True)
