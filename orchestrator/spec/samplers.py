"""`search.sampler`: how points are drawn; a plain name, or a section where a sampler has options."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from orchestrator.spec.base import Section, broken_rule, told_by

SamplerName = Literal["grid", "random", "optuna", "hyperopt", "bohb"]


class PlainSampler(Section):
    """What samplers without options share: another sampler's option says which one was meant."""

    @model_validator(mode="before")
    @classmethod
    def _no_options(cls, value: Any) -> Any:
        if isinstance(value, dict):
            meant = {"algorithm": "optuna", "startup_trials": "optuna", "population_size": "optuna"}
            for key in (key for key in value if key in meant):
                rule = f"is an option of sampler {meant[key]}; {value.get('method')} has none: remove it, or use that"
                raise broken_rule(key, rule, value[key])
        return value


class GridSampler(PlainSampler):
    """Every combination of the space's values."""

    method: Literal["grid"]


class RandomSampler(PlainSampler):
    """Independent draws, the same in every variant that shares a domain."""

    method: Literal["random"]


class OptunaSampler(Section):
    """One of Optuna's algorithms."""

    method: Literal["optuna"] = "optuna"
    algorithm: Literal["tpe", "gp", "cmaes", "nsgaii"] = Field(
        "tpe",
        description="tpe (tree of Parzen estimators), gp (Gaussian process), cmaes (covariance matrix adaptation) or "
        "nsgaii (a genetic algorithm).",
    )
    startup_trials: int | None = Field(
        None,
        ge=1,
        description="Results before the algorithm takes over from random draws (tpe and gp 10, cmaes 1 if unset).",
    )
    population_size: int | None = Field(
        None, ge=2, description="Trials of a generation (nsgaii 10, cmaes 4 + 3 ln(number of values) if unset)."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.startup_trials is not None and self.algorithm == "nsgaii":
            rule = "is for tpe, gp and cmaes; nsgaii begins with a random population: set population_size"
            raise broken_rule("startup_trials", rule, self.startup_trials)
        if self.population_size is not None and self.algorithm in ("tpe", "gp"):
            rule = f"is for cmaes and nsgaii; {self.algorithm} has no population: remove it"
            raise broken_rule("population_size", rule, self.population_size)
        return self


class HyperOptSampler(Section):
    """HyperOpt's tree of Parzen estimators."""

    method: Literal["hyperopt"]
    startup_trials: int = Field(20, ge=1, description="Random draws before the estimators take over.")


class BOHBSampler(Section):
    """Kernel densities over the results at the largest number of epochs that has enough (Falkner et al. 2018)."""

    method: Literal["bohb"]
    startup_trials: int | None = Field(
        None,
        ge=2,
        description="Results at one number of epochs before they are modelled (number of values + 1 if unset).",
    )
    random_fraction: float = Field(
        1 / 3, ge=0, le=1, description="Share of trials that are drawn at random all the same."
    )


SamplerSection = Annotated[
    Annotated[GridSampler, Tag("grid")]
    | Annotated[RandomSampler, Tag("random")]
    | Annotated[OptunaSampler, Tag("optuna")]
    | Annotated[HyperOptSampler, Tag("hyperopt")]
    | Annotated[BOHBSampler, Tag("bohb")],
    told_by("method", "optuna"),
]


def _form(value: Any) -> str:
    return "section" if isinstance(value, (dict, Section)) else "name"


def _plain(value: SamplerName | SamplerSection) -> SamplerName | SamplerSection:
    """A section without options as the plain name, so that both are one spec."""
    bare = not isinstance(value, str) and value == type(value)(method=value.method)  # type: ignore[arg-type]
    return value.method if bare else value  # type: ignore[union-attr]


SamplerSpec = Annotated[
    Annotated[SamplerName, Tag("name")] | Annotated[SamplerSection, Tag("section")],
    Discriminator(_form),
    AfterValidator(_plain),
]

BY_NAME: dict[str, type[Section]] = {
    "grid": GridSampler,
    "random": RandomSampler,
    "optuna": OptunaSampler,
    "hyperopt": HyperOptSampler,
    "bohb": BOHBSampler,
}
"""What a plain name stands for."""
