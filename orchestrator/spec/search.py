"""`search`: which values are tried, by which sampler, in which variants, with which budget."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, Tag, model_validator
from pydantic_core import PydanticCustomError

from orchestrator import names
from orchestrator.registry import nearest
from orchestrator.spec.base import Section, broken_rule, told_by

SEARCHED_SECTIONS = ("student", "distillation", "training", "data.augmentation")
VARIANT_SECTIONS = ("data", "teacher", "student", "scheme", "distillation", "training")
_VARIANT_NAME = r"^[A-Za-z0-9][A-Za-z0-9+._-]*$"


class RangeDomain(Section):
    """What domains between two ends share; both ends are included."""

    low: float = Field(description="Smallest value, in the unit of the field that is searched.")
    high: float = Field(description="Largest value, in the unit of the field that is searched.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise broken_rule("high", f"must be > low ({self.low})", self.high)
        if getattr(self, "type", "").startswith("log") and self.low <= 0:
            raise broken_rule("low", "must be > 0 on a logarithmic scale", self.low)
        return self

    @property
    def extremes(self) -> list[Any]:
        return [self.low, self.high]

    @property
    def size(self) -> int | None:
        """Number of values in the domain, None where they cannot be counted."""
        return None

    @property
    def grid(self) -> list[Any]:
        """Every value of the domain, where they can be counted."""
        return []

    def holds(self, value: Any) -> bool:
        """Whether a value lies between the ends."""
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{getattr(self, 'type', 'range')} {self.low:g} to {self.high:g}"


class Uniform(RangeDomain):
    """Any value, all equally likely."""

    type: Literal["uniform"]


class LogUniform(RangeDomain):
    """Any value, equally likely on a logarithmic scale."""

    type: Literal["loguniform"]


class QUniform(RangeDomain):
    """Multiples of q, all equally likely."""

    type: Literal["quniform"]
    q: float = Field(gt=0, description="Step; low and high are multiples of it.")

    @model_validator(mode="after")
    def _multiples(self) -> Self:
        for name in ("low", "high"):
            steps = getattr(self, name) / self.q
            if not math.isclose(steps, round(steps), abs_tol=1e-9):
                raise broken_rule(name, f"must be a multiple of q ({self.q})", getattr(self, name))
        return self

    @property
    def size(self) -> int:
        return round(self.high / self.q) - round(self.low / self.q) + 1

    @property
    def grid(self) -> list[Any]:
        return [round(n * self.q, 12) for n in range(round(self.low / self.q), round(self.high / self.q) + 1)]

    def __str__(self) -> str:
        return f"{super().__str__()} in steps of {self.q:g}"


class RandInt(RangeDomain):
    """Whole numbers, all equally likely; high is included."""

    type: Literal["randint"]
    low: int = Field(description="Smallest number.")
    high: int = Field(description="Largest number.")

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    @property
    def grid(self) -> list[Any]:
        return list(range(self.low, self.high + 1))


class LogRandInt(RandInt):
    """Whole numbers, equally likely on a logarithmic scale; high is included."""

    type: Literal["lograndint"]  # type: ignore[assignment]


class Choice(Section):
    """One of a list of values, which may be whole sections."""

    type: Literal["choice"]
    values: list[JsonValue] = Field(min_length=1, description="Values, all equally likely.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for a, b in itertools.combinations(self.values, 2):
            if a == b and type(a) is type(b):
                raise broken_rule("values", "must differ from each other", a)
        return self

    @property
    def extremes(self) -> list[Any]:
        return list(self.values)

    @property
    def size(self) -> int:
        return len(self.values)

    @property
    def grid(self) -> list[Any]:
        return list(self.values)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the list."""
        return value in self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)


Domain = Annotated[Uniform | LogUniform | QUniform | RandInt | LogRandInt | Choice, Field(discriminator="type")]

_CONSTRAINT = re.compile(r"^\s*(\S+)\s*(<=|>=)\s*(\S+)\s*$")


class Constraint:
    """`left <= right` (or >=) between dotted paths or numbers, kept by moving a searched value.

    Where a drawn point breaks the rule, the left side is set to the right side's value if it is
    searched, else the right side to the left's. A grid leaves such points out.
    """

    def __init__(self, text: str) -> None:
        match = _CONSTRAINT.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not of the form 'path <= path' or 'path >= path'")
        self.text = text
        self.left, self.operator, self.right = match.groups()

    @property
    def paths(self) -> list[str]:
        return [side for side in (self.left, self.right) if _number(side) is None]

    def holds(self, look_up: Mapping[str, Any]) -> bool:
        """Whether the rule holds; where a field is absent, as in another form of its section, it does."""
        if any(path not in look_up for path in self.paths):
            return True
        left, right = self._values(look_up)
        return bool(left <= right if self.operator == "<=" else left >= right)

    def repair(self, point: Mapping[str, Any], look_up: Mapping[str, Any]) -> dict[str, Any]:
        """`point` with one searched value moved so that the rule holds, if either side is searched."""
        if self.holds(look_up):
            return dict(point)
        left, right = self._values(look_up)
        if self.left in point:
            return {**point, self.left: right}
        return {**point, self.right: left} if self.right in point else dict(point)

    def _values(self, look_up: Mapping[str, Any]) -> tuple[Any, Any]:
        return tuple(  # type: ignore[return-value]
            look_up[side] if (number := _number(side)) is None else number for side in (self.left, self.right)
        )


def _number(text: str) -> float | None:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None


def _constraint_text(text: str) -> str:
    try:
        constraint = Constraint(text)
    except ValueError as error:
        raise PydanticCustomError("rule", "{rule}", {"rule": str(error)}) from None
    if not constraint.paths:
        raise PydanticCustomError("rule", "{rule}", {"rule": "must name at least one field"})
    return text


class VariantSpec(Section):
    """One arm of the comparison: values it fixes, and values that only it searches."""

    set: dict[str, JsonValue] = Field(
        {}, description="Dotted path of a field or section: its value in this variant, where it is not searched."
    )
    space: dict[str, Domain] = Field({}, description="Dotted path: domain, added to search.space.")
    reference: str | None = Field(None, description="Variant that this one is compared with, if not search.reference.")


class NoScheduler(Section):
    """Every trial runs to its end."""

    method: Literal["none"] = "none"


class ASHAScheduler(Section):
    """Asynchronous successive halving: weak trials end early, within each variant."""

    method: Literal["asha"]
    grace_period: int = Field(1, ge=1, description="Epochs that every trial gets.")
    reduction_factor: float = Field(3, gt=1, description="One in this many trials goes on at each rung.")


SchedulerSpec = Annotated[
    Annotated[NoScheduler, Tag("none")] | Annotated[ASHAScheduler, Tag("asha")], told_by("method", "none")
]


class SearchSpec(Section):
    """The search; without a space every variant is one fixed configuration."""

    metric: Literal["val/acc1", "val/loss"] = Field(
        names.VAL_ACC1,
        description="Validation metric that configurations are chosen by.",
    )
    mode: Literal["max", "min"] = Field("max", description="Whether a larger or a smaller metric is better.")
    sampler: Literal["grid", "random", "optuna", "hyperopt"] = Field(
        "optuna", description="How points are drawn: grid, random, optuna (TPE) or hyperopt (TPE)."
    )
    scheduler: SchedulerSpec = Field(NoScheduler(), description="What stops weak trials early: none or asha.")
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
    constraints: list[Annotated[str, AfterValidator(_constraint_text)]] = Field(
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

    @property
    def samples(self) -> int:
        """`num_samples`, or what it is when unset."""
        return self.num_samples or (1 if self.sampler == "grid" else 20)

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

    @model_validator(mode="after")
    def _mode_fits_metric(self) -> Self:
        better = "max" if self.metric == names.VAL_ACC1 else "min"
        if self.mode != better:
            raise broken_rule("mode", f"must be {better} for metric {self.metric}", self.mode)
        return self

    @model_validator(mode="after")
    def _countable_grid(self) -> Self:
        if self.sampler == "grid":
            spaces = {"space": self.space} | {f"variants.{n}.space": v.space for n, v in self.variants.items()}
            for where, space in spaces.items():
                for path, domain in space.items():
                    if domain.size is None:
                        raise broken_rule(
                            f"{where}.{path}",
                            "cannot be a grid: use choice, quniform or randint",
                            domain.type,
                        )
        return self
