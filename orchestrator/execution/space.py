"""Adaptive samplers: Ray Tune's searchers, over the spec's domains."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain as TuneDomain

from orchestrator.execution.searchers import Value, make_searcher, observe, result_of, takes_results
from orchestrator.search.plan import Arm
from orchestrator.search.warm_start import Earlier
from orchestrator.spec.domains import Choice, Domain, LogRandInt, LogUniform, QRandInt, QUniform, RandInt
from orchestrator.spec.search import SearchSpec


def tune_domain(domain: Domain) -> TuneDomain:
    """Ray's form of a domain.

    A choice becomes one of its positions, as its values may be whole sections; so do whole numbers with a step,
    which not every searcher knows.
    """
    if isinstance(domain, Choice):
        return tune.choice(list(range(len(domain.values))))
    if isinstance(domain, QRandInt):
        return tune.randint(0, domain.size)
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
    """A value that the domain takes, as the searcher knows it."""
    if isinstance(domain, QRandInt):
        return domain.grid.index(value)
    if not isinstance(domain, Choice):
        return value
    equal = [n for n, known in enumerate(domain.values) if known == value]
    return next((n for n in equal if type(domain.values[n]) is type(value)), equal[0])


def decode(domain: Domain, value: Any) -> Any:
    """A searcher's value as plain data within the domain."""
    if isinstance(domain, Choice):
        return domain.values[int(value)]
    if isinstance(domain, QRandInt):
        return domain.grid[int(value)]
    if isinstance(domain, RandInt):
        return min(max(int(value), domain.low), domain.high)
    if isinstance(domain, QUniform):
        value = round(round(float(value) / domain.q) * domain.q, 12)
    return min(max(float(value), domain.low), domain.high)


@dataclass
class _Result:
    """What is known of one trial, in the searcher's terms."""

    point: dict[str, Any]
    values: list[tuple[int, Value]] = field(default_factory=list)
    """The metric after so many epochs; where a sampler has no use for these, once, after 0."""


class SearcherSampler:
    """A Ray Tune searcher as the sampler of one variant, of which earlier sessions have drawn so many points.

    Points are repaired by the variant's constraints after they are drawn; the searcher is told the
    result under the point it drew. Where it cannot be told of a point that it did not draw, from an earlier
    session or experiment or from the spec, it is made anew: with all results, and asked for the points of
    trials under way, so that it expects theirs.
    """

    def __init__(self, arm: Arm, drawn: int, search: SearchSpec, seed: int, earlier: Sequence[Earlier] = ()) -> None:
        self._variant = arm.variant
        self._drawn_before = drawn
        self._search = search
        self._seed = seed
        self._by_rung = search.method == "bohb"
        self._searcher: Searcher | None = None
        self._drawn: dict[str, dict[str, Any]] = {}
        """What was drawn in this session, in the searcher's terms."""
        self._open: dict[str, dict[str, Any]] = {}
        """Points of the trials that have not ended, as far as it is known of them."""
        self._expected: set[str] = set()
        """Trials of which the searcher expects the result."""
        self._results: dict[str, _Result] = {}
        for number, trial in enumerate(earlier):
            self._learn(f"earlier-{number}", trial.params, trial.epochs, trial.value)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        with seeded(f"{self._seed}/{self._drawn_before + len(self._drawn)}"):
            if self._searcher is None:
                self._searcher = self._informed()
                self._expected = set(self._open)
            drawn = self._searcher.suggest(trial_id)
        if drawn is None or drawn == Searcher.FINISHED:
            return None
        self._drawn[trial_id] = self._open[trial_id] = drawn
        self._expected.add(trial_id)
        space = self._variant.space
        return self._variant.repaired({path: decode(space[path], value) for path, value in drawn.items()})

    def observe(self, trial_id: str, params: Mapping[str, Any], epochs: int, value: float) -> None:
        if self._by_rung and (result := self._learn(trial_id, params, epochs, value)) is not None:
            self._open[trial_id] = result.point
            if trial_id not in self._expected:
                self._searcher = None
            elif self._searcher is not None:
                observe(self._searcher, self._search, trial_id, epochs, value)

    def tell(self, trial_id: str, params: Mapping[str, Any], value: Value | None) -> None:
        self._open.pop(trial_id, None)
        expected = trial_id in self._expected
        self._expected.discard(trial_id)
        if self._searcher is not None and expected:
            told = None if value is None else result_of(value)
            self._searcher.on_trial_complete(trial_id, told, error=value is None)
        if value is None or self._by_rung:
            return
        result = self._learn(trial_id, params, 0, value)
        if result is not None and not expected and self._searcher is not None:
            if takes_results(self._search):
                self._searcher.add_evaluated_point(result.point, value)
            else:
                self._searcher = None

    def _learn(self, trial_id: str, params: Mapping[str, Any], epochs: int, value: Value) -> _Result | None:
        """Keep a result; None for one that the searcher cannot be told."""
        point = self._drawn.get(trial_id) or self._encoded(params)
        if point is None:
            return None
        result = self._results.setdefault(trial_id, _Result(point))
        result.values.append((epochs, value))
        return result

    def _encoded(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """A point in the searcher's terms; None where a constraint has moved it out of a domain."""
        space = self._variant.space
        if not all(domain.takes(params[path]) for path, domain in space.items()):
            return None
        return {path: encode(domain, params[path]) for path, domain in space.items()}

    def _informed(self) -> Searcher:
        """A searcher that knows all results so far.

        The number of points drawn is part of its seed, as it would otherwise draw the same ones again.
        """
        drawn = self._drawn_before + len(self._drawn)
        mixed = hashlib.sha256(f"{self._seed}/{drawn}".encode()).digest()
        space = {path: tune_domain(domain) for path, domain in self._variant.space.items()}
        results = [(result.point, result.values) for id, result in self._results.items() if id not in self._open]
        begun = {
            id: (point, self._results[id].values if id in self._results else []) for id, point in self._open.items()
        }
        return make_searcher(self._search, space, results, begun, int.from_bytes(mixed[:4], "big") % 2**31)


@contextmanager
def seeded(text: str) -> Iterator[None]:
    """NumPy's global generator, which some searchers draw from, seeded with a text; afterwards as it was."""
    state = np.random.get_state()
    np.random.seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"))
    try:
        yield
    finally:
        np.random.set_state(state)
