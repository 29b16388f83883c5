"""What an experiment can grow by without a change to any trial that it has: samples, final seeds, variants, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.search.halving import brackets_of
from orchestrator.search.plan import Arm, Plan, make_plan
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.loading import load_spec
from orchestrator.spec.schedulers import BracketScheduler
from orchestrator.spec.variants import flatten

SAMPLES, SEEDS, TIME, VARIANT = "search.num_samples", "search.final_seeds", "budget.time_s", "search.variants."
INDEPENDENT = ("none", "asha", "median")
"""Schedulers under which a trial's lot does not depend on how many are planned."""


@dataclass(frozen=True)
class Change:
    """A field that has grown, or a variant that was added."""

    path: str
    old: Any
    """None where there was nothing."""
    new: Any

    def __str__(self) -> str:
        return (
            f"{self.path} is new"
            if self.path.startswith(VARIANT)
            else f"{self.path} {self.old:.10g} -> {self.new:.10g}"
        )


@dataclass(frozen=True)
class Comparison:
    """A spec beside an earlier one."""

    changes: tuple[Change, ...] = ()
    """What it adds; nothing where both are the same experiment."""
    obstacle: str | None = None
    """What would change trials that the earlier one has; None where it only adds to them."""


def compare(old: ExperimentSpec, new: ExperimentSpec) -> Comparison:
    """Whether every trial of `old` is one of `new`, by the same values, seed and rules; and what is added to them."""
    for name in old.search.variants:
        if name not in new.search.variants:
            return Comparison(obstacle=f"search.variants, which lacks {name!r}")
    before, after = _rest(old, old), _rest(new, old)
    for path in {**before, **after}:
        if before.get(path) != after.get(path):
            return Comparison(obstacle=f"{path} {_told(after.get(path))} instead of {_told(before.get(path))}")
    changes = []
    for path, was, value in (
        (SAMPLES, old.search.samples, new.search.samples),
        (SEEDS, old.search.final_seeds, new.search.final_seeds),
    ):
        if value < was:
            return Comparison(obstacle=f"{path} {value} instead of {was}")
        changes += [Change(path, was, value)] if value > was else []
    added = [name for name in new.search.variants if name not in old.search.variants]
    if added and not old.search.variants:
        return Comparison(obstacle="search.variants, of which there were none: its one arm would be gone")
    changes += [Change(VARIANT + n, None, new.search.variants[n].model_dump(exclude_unset=True)) for n in added]
    obstacle = _moved(make_plan(old), make_plan(new)) if changes else None
    return Comparison(obstacle=obstacle) if obstacle else Comparison(tuple(changes))


def grown(spec: ExperimentSpec, changes: Iterable[Change]) -> ExperimentSpec:
    """The spec with the changes made; what it gives otherwise than they began with stays as it is.

    Raises `SpecError` where that is no valid spec.
    """
    content = spec.model_dump(exclude_unset=True)
    values = {SAMPLES: spec.search.samples, SEEDS: spec.search.final_seeds, TIME: spec.budget.time_s}
    made = False
    for change in changes:
        section, _, field = change.path.partition(".")
        if change.path.startswith(VARIANT):
            variants = content.setdefault("search", {}).setdefault("variants", {})
            name = change.path.removeprefix(VARIANT)
            made |= name not in variants
            variants.setdefault(name, change.new)
        elif values[change.path] == change.old:
            values[change.path] = content.setdefault(section, {})[field] = change.new
            made = True
    return load_spec(content) if made else spec


def recorded(changes: Iterable[Change], spec: ExperimentSpec) -> dict[str, Any]:
    """The journal's event of an extension, `spec` being what is in force from then on."""
    return {"event": "extended", "hash": spec.hash, "changes": [asdict(change) for change in changes]}


def replayed(events: Iterable[Mapping[str, Any]]) -> tuple[list[Change], set[str]]:
    """All changes that a journal's events tell of, in their order, and the hashes of the specs that came of them."""
    extensions = [event for event in events if event["event"] == "extended"]
    changes = [Change(**change) for event in extensions for change in event["changes"]]
    return changes, {event["hash"] for event in extensions}


def _rest(spec: ExperimentSpec, old: ExperimentSpec) -> dict[str, Any]:
    """What results depend on and an extension cannot change, by dotted path."""
    content = spec.hashed()
    search = {k: v for k, v in content["search"].items() if k not in ("num_samples", "final_seeds", "variants")}
    kept = {name: arm for name, arm in content["search"]["variants"].items() if name in old.search.variants}
    return flatten({**content, "search": {**search, "variants": kept}})


def _moved(old: Plan, new: Plan) -> str | None:
    """Why trials of the old plan would be others in the new one."""
    if new.spec.search.samples == old.spec.search.samples:
        return None
    scheduler = old.spec.search.scheduler
    for arm in old.arms:
        if not arm.variant.space:
            continue
        then = new.by_name[arm.name]
        if _drawn(old, arm, arm.count) != _drawn(new, then, arm.count):
            return f"{SAMPLES}: the points of variant {arm.name!r} would be others"
        if isinstance(scheduler, BracketScheduler):
            before = brackets_of(arm.count, arm.max_epochs, scheduler)
            if brackets_of(then.count, arm.max_epochs, scheduler)[: len(before)] != before:
                rule = (
                    f"scheduler {scheduler.method} compares the trials of a bracket with each other, and the last one"
                )
                return f"{SAMPLES}: {rule} of variant {arm.name!r} has places left, so that {arm.count} cannot grow"
        elif scheduler.method not in INDEPENDENT:
            return f"{SAMPLES}: under scheduler {scheduler.method} all trials depend on how many there are"
    return None


def _drawn(plan: Plan, arm: Arm, count: int) -> list[Any]:
    """Seeds, and values where they are planned, of an arm's first trials."""
    seeds = [plan.search_trial(arm, number, {}).seed for number in range(count)]
    return [seeds, arm.first, None if arm.points is None else arm.points[:count]]


def _told(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
