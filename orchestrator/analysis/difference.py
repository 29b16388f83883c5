"""How much two configurations differ over seeds: the difference, its interval, its test and its size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from orchestrator.analysis.statistics import MIN_FOR_INTERVAL, t_quantile, t_shift, t_tails

LEVEL = 0.05
"""Probability, over all comparisons of a table, of taking chance for a difference."""
POWER = 0.8
"""Share of experiments that would show a difference as large as `Difference.detectable`."""
NO_SPREAD = 1e-9
"""Standard deviation, in the unit of the values, below which they are equal but for rounding."""


@dataclass(frozen=True)
class Difference:
    """The mean of a variant minus that of a reference.

    What takes a spread is None below `MIN_FOR_INTERVAL` runs, and where there is none: accuracies are multiples of
    one image's share, so that a few equal differences are no proof.
    """

    count: int
    """Runs of the variant; where runs are paired, seeds that both have run."""
    mean: float
    interval: tuple[float, float] | None = None
    """95% interval of the difference, by Student's t."""
    p: float | None = None
    """Two-sided t-test: probability of a difference at least this large, were there none."""
    effect: float | None = None
    """Hedges' g: the difference in standard deviations, corrected for few runs.

    They are those of the differences where runs are paired, else the root mean square of both sides' own.
    """
    error: float = 0.0
    """Standard error of the difference."""
    freedom: float = 0.0
    """Degrees of freedom."""

    def detectable(self, comparisons: int) -> float | None:
        """The smallest true difference that `POWER` of such experiments would show, were the spread as seen here.

        `comparisons` made at once share `LEVEL`.
        """
        if self.p is None or self.error <= NO_SPREAD:
            return None
        needed = t_quantile(1 - LEVEL / (2 * comparisons), self.freedom)
        return t_shift(POWER, needed, self.freedom) * self.error


def paired(reference: Mapping[int, float], variant: Mapping[int, float]) -> Difference | None:
    """Compare values seed by seed, so that what the seed decides drops out; None without a seed in common."""
    differences = [variant[seed] - reference[seed] for seed in reference if seed in variant]
    count = len(differences)
    if count == 0:
        return None
    mean = fmean(differences)
    sd = math.sqrt(variance(differences)) if count > 1 else 0.0
    return _tested(count, mean, sd, sd / math.sqrt(count), count - 1, count - 1, count)


def unpaired(reference: Sequence[float], variant: Sequence[float]) -> Difference | None:
    """Compare runs that have nothing in common, by Welch's test; None where a side has none."""
    m, n = len(reference), len(variant)
    if not m or not n:
        return None
    mean = fmean(variant) - fmean(reference)
    if min(m, n) < 2:
        return Difference(n, mean)
    of_reference, of_variant = variance(reference), variance(variant)
    sd = math.sqrt((of_reference + of_variant) / 2)
    if sd < NO_SPREAD:
        return _tested(n, mean, 0.0, 0.0, m + n - 2, m + n - 2, min(m, n))
    parts = of_reference / m, of_variant / n
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
    return _tested(n, mean, sd, math.sqrt(sum(parts)), freedom, m + n - 2, min(m, n))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction for several comparisons (Holm 1979): adjusted p-values in the given order."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def _tested(
    count: int, mean: float, sd: float, error: float, freedom: float, freedom_of_sd: int, fewest: int
) -> Difference:
    """The t-test of a mean difference with this standard error, and its size in units of `sd`."""
    if fewest < MIN_FOR_INTERVAL:
        return Difference(count, mean)
    if sd < NO_SPREAD:
        same = abs(mean) < NO_SPREAD
        return Difference(count, mean, (mean, mean), 1.0 if same else None, 0.0 if same else None)
    half = t_quantile(0.975, freedom) * error
    p = t_tails(mean / error, freedom)
    effect = _small_sample(freedom_of_sd) * mean / sd
    return Difference(count, mean, (mean - half, mean + half), p, effect, error, freedom)


def _small_sample(freedom: int) -> float:
    """Hedges' factor (1981, equation 6e): the mean over a sample's standard deviation overstates the true ratio."""
    return math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
