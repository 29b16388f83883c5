"""Statistics over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Summary:
    """Mean and spread of a few independent runs."""

    count: int
    mean: float
    sd: float | None
    """Sample standard deviation (n - 1); None for a single run."""
    interval: tuple[float, float] | None
    """95% interval of the mean, by Student's t; None for a single run."""

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.sd is None else f"{self.mean:.2f} ± {self.sd:.2f}"


def summarise(values: Sequence[float]) -> Summary | None:
    """Summary of the values; None when there are none."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Summary(1, mean, None, None)
    from scipy import stats

    sd = stdev(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    return Summary(len(values), mean, sd, (mean - half, mean + half))
