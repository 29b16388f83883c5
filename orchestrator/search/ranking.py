"""Which of several trials come first, by one metric or by several."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.search import SearchSpec


def values_of(record: Record, search: SearchSpec) -> tuple[float, ...] | None:
    """A trial's value of each of the search's metrics; None where it lacks one, or has no result."""
    found = [record.value(metric) for metric in search.objectives]
    known = [value for value in found if value is not None]
    return tuple(known) if record.status.has_result and len(known) == len(found) else None


def best_record(records: Iterable[Record], search: SearchSpec) -> Record | None:
    """The best of the trials that have a result, by the first metric; complete ones go before stopped ones."""
    gains = _gains(records, search)
    return max(gains, key=lambda pair: pair[1], default=(None,))[0]


def leading(records: Iterable[Record], search: SearchSpec) -> Record | None:
    """The best of the search trials that have not ended, by the first metric as it is now."""
    sign = search.objectives[search.first_metric]
    known = [
        (sign * value, record)
        for record in records
        if record.trial.phase is Phase.SEARCH
        and not record.status.ended
        and (value := record.value(search.first_metric)) is not None
    ]
    return max(known, key=lambda pair: pair[0], default=(0.0, None))[1]


def best_first(records: Iterable[Record], search: SearchSpec, count: int) -> list[Record]:
    """So many of the trials that have a result, the best first; those of the Pareto front before the others.

    After the front comes that of the rest, and so on; each goes by the first metric.
    """
    left = sorted(_gains(records, search), key=lambda pair: pair[1], reverse=True)
    found: list[Record] = []
    while left and len(found) < count:
        # What is better than another in everything comes before it in this order.
        front: list[tuple[Record, tuple[float, ...]]] = []
        rest: list[tuple[Record, tuple[float, ...]]] = []
        for pair in left:
            beaten = any(other != pair[1] and all(map(float.__ge__, other, pair[1])) for _, other in front)
            (rest if beaten else front).append(pair)
        found += [record for record, _ in front]
        left = rest
    return found[:count]


def _gains(records: Iterable[Record], search: SearchSpec) -> list[tuple[Record, tuple[float, ...]]]:
    """Trials with a result, complete ones if there are any, and their metrics, each the larger the better."""
    signs = search.objectives.values()
    with_result = [
        (record, tuple(sign * float(value) for sign, value in zip(signs, values, strict=True)))
        for record in records
        if (values := values_of(record, search)) is not None
    ]
    return [pair for pair in with_result if pair[0].status is Status.FINISHED] or with_result
