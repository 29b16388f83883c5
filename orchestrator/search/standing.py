"""How far an experiment is: whether anything of it is left to run, and what to call that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from orchestrator.search.agenda import Agenda, Told
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Phase, Record, Status


class State(StrEnum):
    """What an experiment is doing, in the words that people read."""

    RUNNING = "running"
    INTERRUPTED = "not running"
    COMPLETE = "complete"
    FAILED = "ended with failures"
    """Nothing is left to run, and some variant has no result."""
    SPENT = "budget spent"
    """The same, where the budget has cut the variant's search short."""


def anything_left(
    plan: Plan, records: Mapping[str, Record], stored: Callable[[str], bool], *, out_of_budget: bool = False
) -> bool:
    """Whether a next session would run a trial that can work; see `what_is_left`."""
    return what_is_left(plan, records, stored, out_of_budget=out_of_budget)[0]


def what_is_left(
    plan: Plan, records: Mapping[str, Record], stored: Callable[[str], bool], *, out_of_budget: bool = False
) -> tuple[bool, str | None]:
    """Whether a next session would run a trial that can work, and the field of the limit that ends the search, if any.

    `stored` tells whether a teacher's weights exist, `out_of_budget` that the spec's time is spent. What needs
    a teacher whose training failed cannot work, though a next session tries that again; where its process died,
    that is worth a session.
    """
    teachers = [record for record in records.values() if record.trial.phase is Phase.TEACHER]
    failed = {record.trial.variant for record in teachers if record.status is Status.FAILED and not record.died}
    blocked = {arm.name for arm in plan.arms if failed.intersection(plan.teachers_wanting([arm], stored))}
    agenda = Agenda(plan, lambda arm, drawn: Anything(), records, plan.teachers, lambda: out_of_budget)
    left = (
        not records
        or bool(agenda.out or agenda.exploits or agenda.outdated)
        or any(trial.variant not in blocked for trial in iter(agenda.next, None))
    )
    return left, agenda.spent


def unstoppable(trial: str, records: Mapping[str, Record]) -> str | None:
    """Why this trial of a running experiment cannot be ended early; None where it can."""
    record = records.get(trial)
    if record is None:
        return "has not begun, or does not exist"
    if record.status.ended:
        return f"has ended already: it is {record.status}"
    if record.trial.phase is Phase.TEACHER:
        return "trains what students learn from, which cannot be left out; stop or pause the whole experiment"
    if record.trial.phase is Phase.FINAL:
        return "is a final run, which has a result at its end alone; stop or pause the whole experiment"
    return None


class Anything:
    """A sampler for asking what is left, without drawing it."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {}

    def tell(self, trial_id: str, params: Mapping[str, Any], value: Told) -> None: ...

    def observe(self, trial_id: str, params: Mapping[str, Any], epochs: int, value: float) -> None: ...
