"""`search`: which values are tried, by which sampler, in which variants, with which budget."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from orchestrator import names
from orchestrator.registry import nearest
from orchestrator.spec.base import Section, broken_rule
from orchestrator.spec.constraints import ConstraintText
from orchestrator.spec.domains import Choice, Domain
from orchestrator.spec.metrics import SIZES, MetricSpec, ModeSpec, better, with_one_mode
from orchestrator.spec.mutation import FREE, may_change
from orchestrator.spec.samplers import BY_NAME, SamplerSection, SamplerSpec
from orchestrator.spec.schedulers import NoScheduler, PopulationScheduler, SchedulerSpec
from orchestrator.spec.tracking import without_password

SEARCHED_SECTIONS = ("student", "distillation", "training", "data.augmentation")
VARIANT_SECTIONS = ("data", "teacher", "student", "scheme", "distillation", "training")
_VARIANT_NAME = r"^[A-Za-z0-9][A-Za-z0-9+._-]*$"
_ANY_SAMPLER = ("none", "asha", "median", "hyperband")
_POPULATION = ("pbt", "pb2")
GOES_WITH = {
    "grid": (*_ANY_SAMPLER, *_POPULATION),
    "random": (*_ANY_SAMPLER, *_POPULATION),
    "optuna": _ANY_SAMPLER,
    "hyperopt": _ANY_SAMPLER,
    "bohb": ("bohb",),
}
"""Sampler: the schedulers that it works with."""

Point = dict[str, JsonValue]


class VariantSpec(Section):
    """One arm of the comparison: values it fixes, and values that only it searches."""

    set: dict[str, JsonValue] = Field(
        {}, description="Dotted path of a field or section: its value in this variant, where it is not searched."
    )
    space: dict[str, Domain] = Field({}, description="Dotted path: domain, added to search.space.")
    points: list[Point] = Field([], description="Points that this variant tries after those of search.points.")
    reference: str | None = Field(None, description="Variant that this one is compared with, if not search.reference.")


class WarmStartSpec(Section):
    """Trials of an earlier experiment that adaptive samplers learn from, variant by variant of the same name."""

    experiment: str | None = Field(None, description="Name or id of an experiment in the same home folder.")
    mlflow: str | None = Field(None, description="Name of an MLflow experiment.")
    uri: Annotated[str, AfterValidator(without_password)] | None = Field(
        None, description="MLflow's tracking URI, where that is not this experiment's own; may hold ${env:NAME}."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.experiment is None) == (self.mlflow is None):
            raise broken_rule("experiment", "give either experiment or mlflow", self.experiment)
        if self.uri is not None and self.mlflow is None:
            raise broken_rule("uri", "is where an experiment under mlflow is: give that, or remove it", None)
        return self

    @property
    def name(self) -> str:
        """Of the experiment, ours or MLflow's."""
        return str(self.mlflow or self.experiment)


class SearchSpec(Section):
    """The search; without a space every variant is one fixed configuration."""

    metric: MetricSpec = Field(
        names.VAL_ACC1,
        description="Validation metric that configurations are chosen by; or a list, all of which samplers weigh, and "
        "the first of which schedulers take.",
    )
    mode: ModeSpec = Field(
        "max", description="Whether a larger or a smaller metric is better; a list may say it for each of several."
    )
    sampler: SamplerSpec = Field(
        "optuna",
        description="How points are drawn: grid, random, optuna, hyperopt or bohb; a section where it has options.",
    )
    scheduler: SchedulerSpec = Field(
        NoScheduler(),
        description="What stops weak trials early (asha, median, hyperband, bohb) or gives them other values (pbt, "
        "pb2); none: nothing.",
    )
    num_samples: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Trials of each variant that has a space (20 if unset); of a grid, its repeats (1).",
    )
    space: dict[str, Domain] = Field({}, description="Dotted path: domain, for all variants.")
    variants: dict[Annotated[str, Field(pattern=_VARIANT_NAME, max_length=40)], VariantSpec] = Field(
        {},
        json_schema_extra={"propertyNames": {"pattern": _VARIANT_NAME, "maxLength": 40}},
        description="Named arms, compared with each other; none: the spec's own values are the only arm.",
    )
    points: list[Point] = Field(
        [],
        description="Points that every variant tries first, as dotted path: value; what one leaves out is drawn.",
    )
    warm_start: WarmStartSpec | None = Field(
        None, description="An earlier experiment that adaptive samplers learn from; unset: none."
    )
    constraints: list[ConstraintText] = Field(
        [], description="Rules between searched values, such as 'distillation.temperature.min <= 2'."
    )
    reference: str | None = Field(
        None,
        description="Variant that the others are compared with; unset: the one named kd, else the first.",
    )
    final_seeds: int = Field(
        3,
        ge=0,
        le=1000,
        description="Fresh seeds that each variant's best configuration is run on, and tested.",
    )
    final_configs: int = Field(
        1,
        ge=1,
        le=100,
        description="Configurations of each variant that are run on the final seeds: the best, then the next best; of "
        "several metrics those on the Pareto front before others.",
    )

    @property
    def samples(self) -> int:
        """`num_samples`, or what it is when unset."""
        return self.num_samples or (1 if self.method == "grid" else 20)

    @property
    def method(self) -> str:
        """The sampler's name."""
        return self.sampler if isinstance(self.sampler, str) else self.sampler.method

    @property
    def sampling(self) -> SamplerSection:
        """The sampler with its options, also where it is given as a plain name."""
        if isinstance(self.sampler, str):
            return BY_NAME[self.sampler](method=self.sampler)  # type: ignore[call-arg,return-value]
        return self.sampler

    @property
    def drawing(self) -> str:
        """The sampler in a word or two: its name, and its algorithm where it has another than usual."""
        algorithm = getattr(self.sampler, "algorithm", None)
        return f"{self.method} ({algorithm})" if algorithm else self.method

    @property
    def first_metric(self) -> str:
        """The metric, or the first of several: what schedulers and tables go by."""
        return self.metric if isinstance(self.metric, str) else self.metric[0]

    @property
    def objectives(self) -> dict[str, int]:
        """Every metric, and 1 where a larger one is better, else -1."""
        metrics = [self.metric] if isinstance(self.metric, str) else self.metric
        return {metric: 1 if better(metric) == "max" else -1 for metric in metrics}

    @property
    def adaptive(self) -> bool:
        """Whether points depend on results."""
        return self.method not in ("grid", "random")

    @model_validator(mode="after")
    def _references_are_variants(self) -> Self:
        named = {"reference": self.reference}
        named |= {f"variants.{name}.reference": variant.reference for name, variant in self.variants.items()}
        for where, name in named.items():
            if name is not None and (name not in self.variants or where == f"variants.{name}.reference"):
                close = nearest(name, self.variants)
                hint = f"; did you mean {close!r}?" if close and close != name else ""
                raise broken_rule(where, f"must name {'another' if '.' in where else 'a'} variant{hint}", name)
        return self

    @model_validator(mode="before")
    @classmethod
    def _modes_fit_metrics(cls, value: Any) -> Any:
        return with_one_mode(value)

    @model_validator(mode="after")
    def _mode_fits_metric(self) -> Self:
        mode = better(self.first_metric)
        if self.mode != mode:
            raise broken_rule("mode", f"must be {mode} for metric {self.first_metric}", self.mode)
        return self

    @model_validator(mode="after")
    def _several_metrics_can_be_weighed(self) -> Self:
        if len(self.objectives) == 1:
            return self
        if self.method in ("hyperopt", "bohb") or getattr(self.sampler, "algorithm", None) == "cmaes":
            rule = "cannot weigh several metrics: use optuna with algorithm tpe, gp or nsgaii, or random"
            raise broken_rule("sampler", rule, self.drawing)
        if self.warm_start is not None:
            rule = "takes one metric: leave it out where search.metric has several"
            raise broken_rule("warm_start", rule, self.warm_start.name)
        varies = any(path.partition(".")[0] == "student" for space in self._spaces.values() for path in space)
        for metric in SIZES:
            if metric in self.objectives and not varies:
                rule = f"{metric} is the same in all trials of a variant: search a field of student, or leave it out"
                raise broken_rule("metric", rule, [*self.objectives])
        return self

    @model_validator(mode="after")
    def _sampler_goes_with_scheduler(self) -> Self:
        method = self.scheduler.method
        if method not in GOES_WITH[self.method]:
            if method in _POPULATION:
                why = "takes values as they were drawn, and a result here is of values that changed in mid-training"
                instead = f"{why}; sampler {self.method} would learn from it: use sampler random"
            elif self.method == "bohb":
                instead = "sampler bohb learns from its own scheduler's rungs: use {method: bohb}, or sampler optuna"
            else:
                use = f"use that, or {{method: hyperband}} with {self.method}"
                instead = f"tells only sampler bohb what it learns from: {use}"
            raise broken_rule("scheduler.method", instead, method)
        return self

    @model_validator(mode="after")
    def _epochs_are_alike(self) -> Self:
        """What waits for others is compared with them after the same epochs, on the same schedule."""
        if self.scheduler.method in ("hyperband", "bohb"):
            for where, space in self._spaces.items():
                for path in ("training.epochs", "training"):
                    if path in space:
                        rule = (
                            f"cannot be searched with scheduler {self.scheduler.method}, which compares trials of "
                            "equally many epochs: use asha, or search other fields of training"
                        )
                        raise broken_rule(f"{where}.{path}", rule, space[path].type)
        return self

    @model_validator(mode="after")
    def _values_may_change(self) -> Self:
        """What is searched under a population can be given to a run that goes on from another's checkpoint."""
        if not isinstance(self.scheduler, PopulationScheduler):
            return self
        method = self.scheduler.method
        for where, space in self._spaces.items():
            for path, domain in space.items():
                if not may_change(path):
                    rule = (
                        f"cannot change in mid-training, as scheduler {method} would have it; these can: {FREE}. Set "
                        "it, compare its values as variants, or use scheduler asha or hyperband"
                    )
                    raise broken_rule(f"{where}.{path}", rule, domain.type)
                if method == "pb2" and isinstance(domain, Choice):
                    rule = "is nothing that pb2 has a model of: use a domain of numbers, or scheduler pbt"
                    raise broken_rule(f"{where}.{path}", rule, domain.type)
        return self

    @model_validator(mode="after")
    def _learns_from_results(self) -> Self:
        if self.warm_start is not None and not self.adaptive:
            rule = f"{self.method} learns nothing from results: use optuna, hyperopt or bohb, or remove warm_start"
            raise broken_rule("sampler", rule, self.method)
        places = {"points": self.points} | {f"variants.{n}.points": v.points for n, v in self.variants.items()}
        for where, points in places.items():
            if points and self.method == "grid":
                raise broken_rule(where, "a grid has every point already: remove them, or use sampler random", points)
        return self

    @property
    def _spaces(self) -> dict[str, dict[str, Domain]]:
        return {"space": self.space} | {f"variants.{n}.space": v.space for n, v in self.variants.items()}

    @model_validator(mode="after")
    def _countable_grid(self) -> Self:
        if self.method == "grid":
            for where, space in self._spaces.items():
                for path, domain in space.items():
                    if domain.size is None:
                        raise broken_rule(
                            f"{where}.{path}",
                            "cannot be a grid: use choice, quniform or randint",
                            domain.type,
                        )
        return self
