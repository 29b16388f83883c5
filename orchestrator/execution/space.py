"""Adaptive samplers: Ray Tune's searchers, over the spec's domains."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain as TuneDomain

from orchestrator.errors import UsageError
from orchestrator.search.plan import Arm
from orchestrator.spec.search import (
    Choice,
    Domain,
    LogRandInt,
    LogUniform,
    QUniform,
    RandInt,
    SearchSpec,
)

_METRIC = "value"


def tune_domain(domain: Domain) -> TuneDomain:
    """Ray's form of a domain. A choice becomes one of its positions, as its values may be whole sections."""
    if isinstance(domain, Choice):
        return tune.choice(list(range(len(domain.values))))
    if isinstance(domain, LogRandInt):
        return tune.lograndint(domain.low, domain.high + 1)
    if isinstance(domain, RandInt):
        return tune.randint(domain.low, domain.high + 1)
    if isinstance(domain, QUniform):
        return tune.quniform(domain.low, domain.high, domain.q)
    if isinstance(domain, LogUniform):
        return tune.loguniform(domain.low, domain.high)
    return tune.uniform(domain.low, domain.high)


def encode(domain: Domain, value: Any) -> Any:
    """A value as the searcher knows it."""
    return domain.values.index(value) if isinstance(domain, Choice) else value


def decode(domain: Domain, value: Any) -> Any:
    """A searcher's value as plain data within the domain."""
    if isinstance(domain, Choice):
        return domain.values[int(value)]
    if isinstance(domain, RandInt):
        return min(max(int(value), domain.low), domain.high)
    if isinstance(domain, QUniform):
        value = round(round(float(value) / domain.q) * domain.q, 12)
    return min(max(float(value), domain.low), domain.high)


class SearcherSampler:
    """A Ray Tune searcher as the sampler of one variant.

    Points are repaired by the variant's constraints after they are drawn; the searcher is told the
    result under the point it drew.
    """

    def __init__(self, arm: Arm, searcher: Searcher) -> None:
        self._variant = arm.variant
        self._searcher = searcher
        self._drawn: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        drawn = self._searcher.suggest(trial_id)
        if drawn is None or drawn == Searcher.FINISHED:
            return None
        self._drawn.add(trial_id)
        space = self._variant.space
        return self._variant.repaired({path: decode(space[path], value) for path, value in drawn.items()})

    def tell(self, trial_id: str, params: Mapping[str, Any], value: float | None) -> None:
        if trial_id in self._drawn:
            result = None if value is None else {_METRIC: value}
            self._searcher.on_trial_complete(trial_id, result, error=value is None)
        elif value is not None:
            space = self._variant.space
            point = {path: encode(space[path], params[path]) for path in space}
            self._searcher.add_evaluated_point(point, value)


def make_sampler(arm: Arm, drawn: int, search: SearchSpec, seed: int) -> SearcherSampler:
    """The spec's sampler for one variant.

    `drawn` counts the points of earlier sessions: it is part of the seed, as a searcher that starts again
    from the same seed would draw the same points again.
    """
    space = {path: tune_domain(domain) for path, domain in arm.variant.space.items()}
    mixed = int.from_bytes(hashlib.sha256(f"{seed}/{drawn}".encode()).digest()[:4], "big") % 2**31
    return SearcherSampler(arm, _searcher(search, space, mixed))


def _searcher(search: SearchSpec, space: dict[str, TuneDomain], seed: int) -> Searcher:
    if search.sampler == "hyperopt":
        try:
            import hyperopt  # noqa: F401
        except ImportError:
            raise UsageError(
                "search.sampler: hyperopt is not installed",
                hint="pip install 'distillation-orchestrator[hyperopt]', or choose optuna",
            ) from None
        from ray.tune.search.hyperopt import HyperOptSearch

        space = HyperOptSearch.convert_search_space(space)
        return HyperOptSearch(space, metric=_METRIC, mode=search.mode, random_state_seed=seed)
    from ray.tune.search.optuna import OptunaSearch

    space = OptunaSearch.convert_search_space(space)
    return OptunaSearch(space, metric=_METRIC, mode=search.mode, seed=seed)
