"""Statistics over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

MIN_FOR_INTERVAL = 3
"""Runs below which there is no interval: Student's t of two is 12.7 standard errors wide on each side."""


@dataclass(frozen=True)
class Summary:
    """Mean and spread of a percentage over a few independent runs."""

    count: int
    mean: float
    sd: float | None
    """Sample standard deviation (n - 1); None for a single run."""
    interval: tuple[float, float] | None
    """95% interval of the mean, by Student's t, clipped to 0 and 100; None below `MIN_FOR_INTERVAL` runs."""

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.sd is None else f"{self.mean:.2f} ± {self.sd:.2f}"


def summarise(values: Sequence[float]) -> Summary | None:
    """Summary of percentages; None when there are none."""
    if not values:
        return None
    mean, count = fmean(values), len(values)
    sd = stdev(values) if count > 1 else None
    if sd is None or count < MIN_FOR_INTERVAL:
        return Summary(count, mean, sd, None)
    half = t_quantile(0.975, count - 1) * sd / math.sqrt(count)
    return Summary(count, mean, sd, (max(mean - half, 0.0), min(mean + half, 100.0)))


def t_quantile(probability: float, freedom: float) -> float:
    """Student's t that is not exceeded with this probability, for so many degrees of freedom."""
    # scipy.stats has it too, and takes three times as long to import.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
