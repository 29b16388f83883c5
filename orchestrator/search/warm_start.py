"""What samplers learn from an earlier experiment: its trials inside the domains, variant by variant of one name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.search.plan import Arm, Plan
from orchestrator.search.trials import Phase, Record
from orchestrator.spec.domains import Choice, Domain
from orchestrator.spec.variants import flatten

MISSING = object()
"""What a trial without such a field has there."""


@dataclass(frozen=True)
class Earlier:
    """One trial of an earlier experiment."""

    params: Mapping[str, Any]
    """Values by dotted path, one for each domain."""
    value: float
    """Its metric after `epochs` epochs."""
    epochs: int


@dataclass(frozen=True)
class Told:
    """What one variant's sampler is told."""

    trials: tuple[Earlier, ...]
    left_out: int
    """Trials of the variant with a result whose values lie outside the domains, or that lack a field."""


@dataclass(frozen=True)
class Past:
    """One trial of an earlier experiment, of whatever store."""

    variant: str
    value: float
    epochs: int
    look_up: Callable[[str, Domain], Any]
    """The value at a dotted path in the domain's form, `MISSING` where there is none."""


def selected(plan: Plan, past: Iterable[Past]) -> dict[str, Told]:
    """What each variant with a space is told: the trials of the variant of its name."""
    by_variant: dict[str, list[Past]] = {}
    for trial in past:
        by_variant.setdefault(trial.variant, []).append(trial)
    return {arm.name: _fitting(arm, by_variant.get(arm.name, [])) for arm in plan.arms if arm.variant.space}


def _fitting(arm: Arm, past: list[Past]) -> Told:
    trials = []
    for trial in past:
        params = {path: trial.look_up(path, domain) for path, domain in arm.variant.space.items()}
        if all(value is not MISSING and arm.variant.space[path].takes(value) for path, value in params.items()):
            trials.append(Earlier(params, trial.value, trial.epochs))
    return Told(tuple(trials), len(past) - len(trials))


def past_of(plan: Plan, records: Iterable[Record], metric: str) -> list[Past]:
    """The search trials of one of our own experiments that have a result, of the values that they began with."""
    return [
        Past(record.trial.variant, record.metrics[metric], record.epochs, _in(plan.run_of(record.trial).model_dump()))
        for record in records
        if record.trial.phase is Phase.SEARCH and record.status.has_result and metric in record.metrics
        if not record.changes
    ]


def _in(run: Mapping[str, Any]) -> Callable[[str, Domain], Any]:
    """How a resolved run is asked for a field or section."""
    flat = flatten(run)

    def look_up(path: str, domain: Domain) -> Any:
        if path in flat and flat[path] is not None:
            return flat[path]
        return chosen(path, domain, flat)

    return look_up


def chosen(path: str, domain: Domain, flat: Mapping[str, Any], *, as_text: bool = False) -> Any:
    """The value of a choice, which may be a section, whose every field is in `flat`; `MISSING` where there is none.

    Of several, which is possible where one leaves fields out that another one gives, the one of most fields.
    `as_text`: whether `flat` holds the text of values.
    """
    if not isinstance(domain, Choice):
        return MISSING
    fitting = []
    for value in domain.values:
        leaves = flatten({path: value})
        if all(p in flat and flat[p] == (str(v) if as_text else v) for p, v in leaves.items()):
            fitting.append((len(leaves), value))
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else MISSING


def recorded(told: Mapping[str, Told]) -> dict[str, Any]:
    """The journal's event, from which later sessions go on."""
    return {"event": "warm_start", "variants": {name: asdict(one) for name, one in told.items()}}


def replayed(event: Mapping[str, Any]) -> dict[str, Told]:
    """What the journal's event says."""
    return {
        name: Told(tuple(Earlier(**trial) for trial in one["trials"]), one["left_out"])
        for name, one in event["variants"].items()
    }
