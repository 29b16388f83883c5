"""`search.scheduler`: what ends weak trials early or gives them other values, within each variant."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

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


class PopulationScheduler(Section):
    """What schedulers share under which a variant's trials are a population that trains in step."""

    perturbation_interval: int | None = Field(
        None,
        ge=1,
        description="Epochs that all train before they are compared (a tenth of training.epochs if unset).",
    )
    quantile_fraction: float = Field(
        0.25,
        gt=0,
        le=0.5,
        description="Share of the population, from the bottom, that goes on from the weights of one of as many at the "
        "top.",
    )

    def interval(self, epochs: int) -> int:
        """Epochs between two comparisons of trials of so many epochs."""
        return self.perturbation_interval or max(1, epochs // 10)


class PBTScheduler(PopulationScheduler):
    """Population based training: weak trials take over strong ones with perturbed values (Jaderberg et al. 2017)."""

    method: Literal["pbt"]
    resample_probability: float = Field(
        0.25, ge=0, le=1, description="How often a value is drawn anew instead of being perturbed."
    )
    perturbation_factors: list[float] = Field(
        [0.8, 1.2],
        description="What a number is multiplied by, all equally likely; of a choice, a factor above 1 takes the next "
        "value, one below 1 the one before.",
    )

    @model_validator(mode="after")
    def _factors_go_both_ways(self) -> Self:
        factors = self.perturbation_factors
        if not factors or min(factors) <= 0 or not min(factors) < 1 < max(factors):
            rule = "must be above 0, some below 1 and some above, so that values can fall and rise"
            raise broken_rule("perturbation_factors", rule, factors)
        return self


class PB2Scheduler(PopulationScheduler):
    """Population based bandits: as PBT, the values chosen by a model of their gain (Parker-Holder et al. 2020)."""

    method: Literal["pb2"]


SchedulerSpec = Annotated[
    Annotated[NoScheduler, Tag("none")]
    | Annotated[ASHAScheduler, Tag("asha")]
    | Annotated[MedianScheduler, Tag("median")]
    | Annotated[HyperBandScheduler, Tag("hyperband")]
    | Annotated[BOHBScheduler, Tag("bohb")]
    | Annotated[PBTScheduler, Tag("pbt")]
    | Annotated[PB2Scheduler, Tag("pb2")],
    told_by("method", "none"),
]
