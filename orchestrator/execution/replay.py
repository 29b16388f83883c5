"""An Optuna sampler that takes known points for its own draws, so that its state comes out as if it had drawn them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState


class ReplayingSampler(BaseSampler):
    """`inner`, whose first draws are replaced by `points`.

    Optuna does not ask a sampler at all for a trial with fixed values. Algorithms that work in generations would
    learn nothing from such trials, as it is in being asked that they count a trial to a generation.
    """

    def __init__(
        self, inner: BaseSampler, space: Mapping[str, BaseDistribution], points: Iterable[Mapping[str, Any]]
    ) -> None:
        self._inner = inner
        self._points = [dict(point) for point in points][::-1]
        self._inner_space: dict[str, BaseDistribution] = {}
        self._whole = dict(space)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._inner_space = self._inner.infer_relative_search_space(study, trial)
        return self._whole if self._points else self._inner_space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self._inner.sample_relative(study, trial, self._inner_space)
        return self._points.pop() if self._points else drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()
