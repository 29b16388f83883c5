"""`search.scheduler`: what ends weak trials early, within each variant."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag

from orchestrator.spec.base import Section, broken_rule, told_by


class NoScheduler(Section):
    """Every trial runs to its end."""

    method: Literal["none"] = "none"


class ASHAScheduler(Section):
    """Asynchronous successive halving: weak trials end early, within each variant."""

    method: Literal["asha"]
    grace_period: int = Field(1, ge=1, description="Epochs that every trial gets.")
    reduction_factor: float = Field(3, gt=1, description="One in this many trials goes on at each rung.")


class MedianScheduler(Section):
    """A trial ends when its best value is below the median of the others' averages so far (Golovin et al. 2017)."""

    method: Literal["median"]
    grace_period: int = Field(1, ge=1, description="Epochs that every trial gets; earlier ones do not count.")
    min_trials: int = Field(3, ge=1, description="Other trials that a trial must be compared with.")


class BracketScheduler(Section):
    """What schedulers share under which trials wait for the others of their bracket."""

    grace_period: int = Field(1, ge=1, description="Epochs that every trial gets.")
    reduction_factor: float = Field(3, ge=2, description="One in this many trials of a bracket goes on at each rung.")


class HyperBandScheduler(BracketScheduler):
    """HyperBand: trials wait for the others of their bracket, and the best of them go on (Li et al. 2018)."""

    method: Literal["hyperband"]


class BOHBScheduler(BracketScheduler):
    """HyperBand that tells sampler bohb the results at every rung (Falkner et al. 2018)."""

    method: Literal["bohb"]


def _values_stay(value: Any) -> Any:
    method = value.get("method") if isinstance(value, dict) else None
    if method in ("pbt", "pb2"):
        rule = "would change a trial's values in mid-training, which is not offered: use asha, hyperband or bohb"
        raise broken_rule("method", rule, method)
    return value


SchedulerSpec = Annotated[
    Annotated[NoScheduler, Tag("none")]
    | Annotated[ASHAScheduler, Tag("asha")]
    | Annotated[MedianScheduler, Tag("median")]
    | Annotated[HyperBandScheduler, Tag("hyperband")]
    | Annotated[BOHBScheduler, Tag("bohb")],
    told_by("method", "none"),
    BeforeValidator(_values_stay),
]
