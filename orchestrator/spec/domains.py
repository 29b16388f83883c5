"""Domains: which values a searched field may take."""

from __future__ import annotations

import itertools
import math
import random
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from orchestrator.spec.base import Section, broken_rule


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

    def takes(self, value: Any) -> bool:
        """Whether a value could have been drawn from the domain."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.holds(value)

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

    def takes(self, value: Any) -> bool:
        """Whether a value could have been drawn from the domain."""
        return super().takes(value) and math.isclose(value / self.q, round(value / self.q), abs_tol=1e-9)

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

    def takes(self, value: Any) -> bool:
        """Whether a value could have been drawn from the domain."""
        return isinstance(value, int) and super().takes(value)


class QRandInt(RandInt):
    """Whole multiples of q, all equally likely; high is included."""

    type: Literal["qrandint"]  # type: ignore[assignment]
    q: int = Field(ge=1, description="Step; low and high are multiples of it.")

    @model_validator(mode="after")
    def _multiples(self) -> Self:
        for name in ("low", "high"):
            if getattr(self, name) % self.q:
                raise broken_rule(name, f"must be a multiple of q ({self.q})", getattr(self, name))
        return self

    @property
    def size(self) -> int:
        return len(self.grid)

    @property
    def grid(self) -> list[Any]:
        return list(range(self.low, self.high + 1, self.q))

    def takes(self, value: Any) -> bool:
        """Whether a value could have been drawn from the domain."""
        return super().takes(value) and value % self.q == 0

    def __str__(self) -> str:
        return f"{super().__str__()} in steps of {self.q}"


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

    def takes(self, value: Any) -> bool:
        """Whether a value is one of the list; a number is not a truth value."""
        return any(known == value and isinstance(known, bool) == isinstance(value, bool) for known in self.values)

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)


Domain = Annotated[
    Uniform | LogUniform | QUniform | RandInt | QRandInt | LogRandInt | Choice, Field(discriminator="type")
]


def snapped(domain: RangeDomain, value: float) -> Any:
    """The domain's value that is nearest to a number."""
    value = min(max(value, domain.low), domain.high)
    if isinstance(domain, QUniform):
        return round(round(value / domain.q) * domain.q, 12)
    if isinstance(domain, QRandInt):
        return round(value / domain.q) * domain.q
    return round(value) if isinstance(domain, RandInt) else float(value)


def scaled(domain: Domain, value: Any, factor: float) -> Any:
    """A value times a factor, in the domain; of a choice, the next value in the list or the one before.

    Where the nearest value is the same one, it is a step from it, if the domain goes on there.
    """
    up = factor > 1
    if isinstance(domain, Choice):
        at = domain.values.index(value) + (1 if up else -1)
        return domain.values[min(max(at, 0), len(domain.values) - 1)]
    found = snapped(domain, value * factor)
    if found == value and domain.size is not None:
        step = getattr(domain, "q", 1)
        return snapped(domain, value + (step if up else -step))
    return found


def to_unit(domain: RangeDomain, value: float) -> float:
    """Where a value lies between the ends, 0 to 1; on the scale that the domain is drawn on."""
    low, high, value = _on_scale(domain, domain.low, domain.high, value)
    return (value - low) / (high - low)


def from_unit(domain: RangeDomain, share: float) -> Any:
    """The domain's value at a place between its ends, 0 to 1: what `to_unit` gives, turned back."""
    low, high = _on_scale(domain, domain.low, domain.high)
    value = low + (high - low) * share
    return snapped(domain, math.exp(value) if _is_logarithmic(domain) else value)


def _is_logarithmic(domain: RangeDomain) -> bool:
    return isinstance(domain, (LogUniform, LogRandInt))


def _on_scale(domain: RangeDomain, *values: float) -> list[float]:
    return [math.log(value) for value in values] if _is_logarithmic(domain) else [*values]


def draw(domain: Domain, rng: random.Random) -> Any:
    """One value of the domain."""
    if isinstance(domain, Choice):
        return rng.choice(domain.values)
    if isinstance(domain, (QUniform, QRandInt)):
        return rng.choice(domain.grid)
    if isinstance(domain, LogRandInt):
        # Half a unit on both sides gives the ends their full share.
        value = math.exp(rng.uniform(math.log(domain.low - 0.5), math.log(domain.high + 0.5)))
        return min(max(round(value), domain.low), domain.high)
    if isinstance(domain, RandInt):
        return rng.randint(domain.low, domain.high)
    if isinstance(domain, LogUniform):
        value = math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
        return min(max(value, domain.low), domain.high)
    return rng.uniform(domain.low, domain.high)
