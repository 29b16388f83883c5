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
    if not isinstance(domain, Choice):
        return value
    return next(n for n, known in enumerate(domain.values) if known == value and type(known) is type(value))


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
    result under the point it drew. When it is to learn of a point that it did not draw, from an earlier
    session, it is made anew: being asked again for known points is all that every searcher understands.
    """

    def __init__(self, arm: Arm, drawn: int, search: SearchSpec, seed: int) -> None:
        self._variant = arm.variant
        self._drawn_before = drawn
        self._search = search
        self._seed = seed
        self._searcher: Searcher | None = None
        self._drawn: dict[str, dict[str, Any]] = {}
        """What was drawn in this session, in the searcher's terms."""
        self._waiting: set[str] = set()
        """Trials of which the searcher expects the result."""
        self._told: list[tuple[dict[str, Any], float]] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self._searcher is None:
            self._searcher = self._informed()
            self._waiting.clear()
        drawn = self._searcher.suggest(trial_id)
        if drawn is None or drawn == Searcher.FINISHED:
            return None
        self._drawn[trial_id] = drawn
        self._waiting.add(trial_id)
        space = self._variant.space
        return self._variant.repaired({path: decode(space[path], value) for path, value in drawn.items()})

    def tell(self, trial_id: str, params: Mapping[str, Any], value: float | None) -> None:
        expected = trial_id in self._waiting
        if self._searcher is not None and expected:
            self._waiting.remove(trial_id)
            result = None if value is None else {_METRIC: value}
            self._searcher.on_trial_complete(trial_id, result, error=value is None)
        point = self._drawn.get(trial_id) or self._encoded(params)
        if value is not None and point is not None:
            self._told.append((point, value))
            if not expected:
                self._searcher = None

    def _encoded(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """A point in the searcher's terms; None where a constraint has moved it out of a domain."""
        space = self._variant.space
        if not all(domain.holds(params[path]) for path, domain in space.items()):
            return None
        return {path: encode(domain, params[path]) for path, domain in space.items()}

    def _informed(self) -> Searcher:
        """A searcher that knows all results so far.

        The number of points drawn is part of its seed, as it would otherwise draw the same ones again.
        """
        drawn = self._drawn_before + len(self._drawn)
        mixed = hashlib.sha256(f"{self._seed}/{drawn}".encode()).digest()
        space = {path: tune_domain(domain) for path, domain in self._variant.space.items()}
        points = [dict(point) for point, _ in self._told]
        searcher = _searcher(self._search, space, points, int.from_bytes(mixed[:4], "big") % 2**31)
        for number, (_, value) in enumerate(self._told):
            searcher.suggest(f"told-{number}")
            searcher.on_trial_complete(f"told-{number}", {_METRIC: value})
        return searcher


def make_sampler(arm: Arm, drawn: int, search: SearchSpec, seed: int) -> SearcherSampler:
    """The spec's sampler for one variant, of which earlier sessions have drawn so many points."""
    if search.sampler == "hyperopt":
        _require_hyperopt()
    return SearcherSampler(arm, drawn, search, seed)


def _require_hyperopt() -> None:
    try:
        import hyperopt  # noqa: F401
    except ImportError:
        raise UsageError(
            "search.sampler: hyperopt is not installed",
            hint="pip install 'distillation-orchestrator[hyperopt]', or choose optuna",
        ) from None


def _searcher(search: SearchSpec, space: dict[str, TuneDomain], points: list[dict[str, Any]], seed: int) -> Searcher:
    """The searcher, which suggests `points` before its own."""
    known = {"points_to_evaluate": points} if points else {}
    if search.sampler == "hyperopt":
        from ray.tune.search.hyperopt import HyperOptSearch

        space = HyperOptSearch.convert_search_space(space)
        return HyperOptSearch(space, metric=_METRIC, mode=search.mode, random_state_seed=seed, **known)
    from ray.tune.search.optuna import OptunaSearch

    space = OptunaSearch.convert_search_space(space)
    return OptunaSearch(space, metric=_METRIC, mode=search.mode, seed=seed, **known)
