"""Statistics over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
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


def t_tails(t: float, freedom: float) -> float:
    """Probability that Student's t with so many degrees of freedom is farther from 0 than `t`."""
    # scipy.special has these three too, and takes twice as long to import as all else that `results` needs.
    return _incomplete_beta(freedom / (freedom + t * t), t * t / (freedom + t * t), freedom / 2, 0.5)


@cache
def t_quantile(probability: float, freedom: float) -> float:
    """Student's t that is not exceeded with this probability, above 1/2, for so many degrees of freedom."""
    tails = 2 * (1 - probability)
    return _falling(lambda t: t_tails(t, freedom), tails)


@cache
def t_shift(power: float, critical: float, freedom: float) -> float:
    """How far from 0 a noncentral t has to be centred to exceed `critical` with the probability `power`."""
    # Given the standard deviation's ratio s to the true one, t exceeds the value where a normal variate does.
    top, count = 1 + 12 / math.sqrt(freedom), 400
    grid = [top * i / count for i in range(1, count)]
    density = [s ** (freedom - 1) * math.exp(freedom * (1 - s * s) / 2) for s in grid]
    whole = sum(density)
    return _falling(lambda shift: _mean_normal([critical * s - shift for s in grid], density) / whole, 1 - power)


def _mean_normal(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(w * math.erfc(-v / math.sqrt(2)) / 2 for v, w in zip(values, weights, strict=True))


def _falling(function: Callable[[float], float], target: float) -> float:
    """Where a function that falls from 0 on takes the value, to the last digit."""
    low, high = 0.0, 1.0
    while function(high) > target:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return middle


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), where `rest` is 1 - x."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(rest, x, b, a)
    if x == 0:
        return 0.0
    # The continued fraction (DLMF 8.17.22), by Lentz's method.
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(1, 1000):
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        c, d = 1 + term / c, 1 / (1 + term * d)
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    log_front = a * math.log(x) + b * math.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / (a * fraction)
