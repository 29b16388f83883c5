"""Early stopping within each variant, so that one variant's success never ends another's trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from orchestrator.search.plan import Arm
from orchestrator.search.trials import Phase, Trial
from orchestrator.spec.schedulers import ASHAScheduler, MedianScheduler
from orchestrator.spec.search import SearchSpec


class VariantScheduler(FIFOScheduler):
    """First come, first served, with one stopping scheduler for each variant's search trials.

    `look_up` gives the orchestrator's trial for Tune's; teachers and final runs are never stopped.
    `history` gives the epochs that a trial has behind it from an earlier session: its rungs lie there, and
    without them its later epochs would be compared with the first ones of others.
    """

    def __init__(
        self,
        inner: dict[str, TrialScheduler],
        look_up: Callable[[str], Trial],
        history: Callable[[Trial], Iterable[dict[str, float]]] = lambda trial: (),
    ) -> None:
        super().__init__()
        self._inner = inner
        self._look_up = look_up
        self._history = history

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if inner := self._for(trial):
            mine = self._look_up(trial.trial_id)
            relive(inner, mine.id, self._history(mine))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        inner = self._for(trial)
        if inner is None or "epoch" not in result:
            return str(TrialScheduler.CONTINUE)
        return str(inner.on_trial_result(tune_controller, self._stand_in(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        inner = self._for(trial)
        if inner is not None and "epoch" in result:
            inner.on_trial_complete(tune_controller, self._stand_in(trial), result)

    def _stand_in(self, trial: Any) -> StandIn:
        return StandIn(self._look_up(trial.trial_id).id)

    def _for(self, trial: Any) -> TrialScheduler | None:
        mine = self._look_up(trial.trial_id)
        return self._inner.get(mine.variant) if mine.phase is Phase.SEARCH else None


class _MedianRule(MedianStoppingRule):
    """Tune's rule, that takes the same result once, and forgets whom it has stopped.

    A trial that it is shown again after it was stopped has been stopped by nobody: its history is shown, and
    what the rule would have said depends on the order in which trials are shown.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = str(super().on_trial_result(tune_controller, trial, result))
        self._stopped_trials.discard(trial)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        seen = self._results[trial]
        if not seen or seen[-1]["epoch"] < result["epoch"]:
            super().on_trial_complete(tune_controller, trial, result)


def variant_schedulers(search: SearchSpec, arms: Iterable[Arm]) -> dict[str, TrialScheduler]:
    """The stopping scheduler of each variant; empty where trials run to their end, or wait for others."""
    chosen = search.scheduler
    if isinstance(chosen, MedianScheduler):
        return {
            arm.name: _MedianRule(
                time_attr="epoch",
                metric=search.first_metric,
                mode=search.mode,
                grace_period=chosen.grace_period,
                min_samples_required=chosen.min_trials,
                # A trial that has too few others to be compared with goes on instead of making way for them.
                min_time_slice=inf,
            )
            for arm in arms
        }
    if not isinstance(chosen, ASHAScheduler):
        return {}
    return {
        arm.name: AsyncHyperBandScheduler(
            time_attr="epoch",
            metric=search.first_metric,
            mode=search.mode,
            max_t=max(arm.max_epochs, chosen.grace_period + 1),
            grace_period=chosen.grace_period,
            reduction_factor=chosen.reduction_factor,
        )
        for arm in arms
    }


def relive(scheduler: TrialScheduler, trial_id: str, history: Iterable[dict[str, float]]) -> None:
    """Show a scheduler the epochs of a trial of an earlier session, so that later ones are judged by them.

    `history` holds what the scheduler was shown then, up to where it stopped the trial. What it would
    decide now is of no interest: it depends on the order in which trials reached their rungs.
    """
    trial = StandIn(trial_id)
    scheduler.on_trial_add(None, trial)
    for epoch in history:
        scheduler.on_trial_result(None, trial, dict(epoch))


@dataclass(frozen=True)
class StandIn:
    """What a scheduler needs to see of a trial, under our id: Tune's is another one after a restart."""

    trial_id: str
