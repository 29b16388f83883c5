"""Comparing two variants seed by seed: what both have in common, the seed, drops out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from orchestrator.analysis.statistics import t_quantile


@dataclass(frozen=True)
class Paired:
    """Differences of a variant to a reference over the seeds that both have run."""

    count: int
    difference: float
    """Mean of variant minus reference."""
    interval: tuple[float, float]
    """95% interval of the mean difference, by Student's t."""
    p: float
    """Two-sided paired t-test: probability of a mean difference at least this large, were there none."""
    effect: float
    """Cohen's d of the differences: their mean over their standard deviation; infinite where that is 0."""


def paired(reference: Mapping[int, float], variant: Mapping[int, float]) -> Paired | None:
    """Compare values by seed; None with fewer than two seeds in common."""
    differences = [variant[seed] - reference[seed] for seed in reference if seed in variant]
    count = len(differences)
    if count < 2:
        return None
    from scipy.special import stdtr

    mean, sd = fmean(differences), stdev(differences)
    if sd == 0:
        effect = math.copysign(math.inf, mean) if mean else 0.0
        return Paired(count, mean, (mean, mean), 0.0 if mean else 1.0, effect)
    error = sd / math.sqrt(count)
    half = t_quantile(0.975, count - 1) * error
    p = float(2 * stdtr(count - 1, -abs(mean) / error))
    return Paired(count, mean, (mean - half, mean + half), p, mean / sd)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction for several comparisons (Holm 1979): adjusted p-values in the given order."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted
