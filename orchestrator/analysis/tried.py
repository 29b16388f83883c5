"""What a search tried: its trials' values beside the metric that they reached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.analysis.formats import short_names
from orchestrator.analysis.results import Results
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.domains import Choice, Domain, LogRandInt, LogUniform
from orchestrator.spec.variants import variants


@dataclass(frozen=True)
class Point:
    """One search trial."""

    trial: str
    variant: str
    value: float | str
    """Of the searched value; text for a choice."""
    metric: float
    status: str
    complete: bool
    """Whether it trained all of its epochs."""
    won: bool
    """Whether its values were chosen for its variant."""


@dataclass(frozen=True)
class Tried:
    """One searched value in all trials that have a result."""

    path: str
    label: str
    """The shortest name that tells it from the others."""
    logarithmic: bool
    categories: tuple[str, ...]
    """The values of a choice, in its order; none for numbers."""
    points: tuple[Point, ...]
    larger_is_better: bool


def tried_values(results: Results) -> list[Tried]:
    """Every searched value, in the order of the spec; those that no trial with a result had are left out."""
    arms = variants(results.spec)
    domains = {path: domain for arm in reversed(arms) for path, domain in arm.space.items()}
    paths = list(dict.fromkeys(path for arm in arms for path in arm.space))
    labels = short_names(paths)
    search = results.spec.search
    winners = {variant.best.trial.id for variant in results.variants if variant.best}
    found = []
    for path in paths:
        domain = domains[path]
        points = [
            Point(
                record.trial.id,
                record.trial.variant,
                as_text(record.params[path]) if isinstance(domain, Choice) else float(record.params[path]),
                float(record.metrics[search.first_metric]),
                str(record.status),
                record.status is Status.FINISHED,
                record.trial.id in winners,
            )
            for record in with_metric(results)
            if path in record.params
        ]
        categories = tuple(map(as_text, domain.values)) if isinstance(domain, Choice) else ()
        larger = search.objectives[search.first_metric] > 0
        if points:
            found.append(Tried(path, labels[path], is_logarithmic(domain), categories, tuple(points), larger))
    return found


def with_metric(results: Results) -> Sequence[Record]:
    """The search trials that have a result by the search's first metric."""
    metric = results.spec.search.first_metric
    return [
        record
        for record in results.records
        if record.trial.phase is Phase.SEARCH and record.status.has_result and metric in record.metrics
    ]


def is_logarithmic(domain: Domain) -> bool:
    """Whether its values are drawn on a logarithmic scale."""
    return isinstance(domain, (LogUniform, LogRandInt))


def as_text(value: Any) -> str:
    """A value of a choice, which may be a whole section."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
