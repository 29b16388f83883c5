"""PB2's values (Parker-Holder et al. 2020): those whose gain a time-varying Gaussian process hopes most of.

The kernel and the acquisition are those of Ray Tune's PB2; it fits the process without noise, this with it.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ray.tune.schedulers.pb2_utils import UCB, TV_SquaredExp, optimize_acq, standardize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel

from orchestrator.execution.space import seeded
from orchestrator.search.brackets import Exploit
from orchestrator.search.trials import Record
from orchestrator.spec.domains import Choice, RangeDomain, draw, from_unit, to_unit
from orchestrator.spec.variants import Variant

MOST = 1000
"""Intervals that are modelled, the latest ones: the time of a fit grows with their cube."""
CONTEXT = 2
"""Columns of a row before its values: when the interval began, and the metric then."""


class Start(NamedTuple):
    """Where a trial began an interval, and with which values."""

    epoch: int
    value: float
    """The metric then, of the trial whose weights it went on with."""
    values: list[float]
    """Each from 0 to 1 in its domain."""

    @property
    def row(self) -> list[float]:
        return [self.epoch, self.value, *self.values]


def proposed(variant: Variant, exploit: Exploit, members: Sequence[Record], better: int) -> dict[str, Any]:
    """Values for a trial that goes on from another's checkpoint, by what all of the population has gained so far.

    At the first comparison nothing has been gained yet: the values are drawn. `members` are the population's records;
    what those were given that have taken over others at this comparison counts as tried, with a gain that is not
    known yet. `better` is 1 where a larger metric is better, else -1.
    """
    space = {path: domain for path, domain in variant.space.items() if not isinstance(domain, Choice)}
    passed, by_id = len(exploit.loser.rungs), {record.trial.id: record for record in members}
    interval = exploit.epoch // passed
    starts: list[Start] = []
    gains: list[float] = []
    open_starts: list[Start] = []
    for record in members:
        for number in range(1, min(len(record.rungs), passed) + 1):
            start = _start(record, number, interval, by_id, space)
            if number < passed and number < len(record.rungs):
                starts.append(start)
                gains.append(better * (record.rungs[number] - start.value) / interval)
            elif any(change.epoch == exploit.epoch for change in record.changes):
                open_starts.append(start)
    if not starts:
        drawn = {path: draw(domain, random.Random(f"{exploit.key}/{path}")) for path, domain in space.items()}
        return variant.repaired(drawn)
    latest = sorted(range(len(starts)), key=lambda n: starts[n].epoch)[-MOST:]
    here = [exploit.epoch, exploit.source.rungs[passed - 1]]
    found = _best_shares([starts[n].row for n in latest], [gains[n] for n in latest], open_starts, here, exploit.key)
    shares = zip(space.items(), found, strict=True)
    return variant.repaired({path: from_unit(domain, share) for (path, domain), share in shares})


def _start(
    record: Record, number: int, interval: int, by_id: Mapping[str, Record], space: Mapping[str, RangeDomain]
) -> Start:
    """Where a trial stood after so many comparisons."""
    epoch = number * interval
    made = [change for change in record.changes if change.epoch <= epoch]
    params = made[-1].params if made else record.trial.params
    whose = by_id[str(made[-1].source)] if made and made[-1].epoch == epoch else record
    values = [to_unit(domain, params[path]) for path, domain in space.items()]
    return Start(epoch, whose.rungs[number - 1], values)


def _best_shares(
    rows: list[list[float]], gains: list[float], open_starts: list[Start], here: list[float], key: str
) -> list[float]:
    """Values, each 0 to 1, of the largest upper bound of the gain from where a trial stands, `here`."""
    context = np.array([row[:CONTEXT] for row in rows] + [start.row[:CONTEXT] for start in open_starts] + [here])
    low, span = context.min(axis=0), np.ptp(context, axis=0) + 1e-8

    def scaled(rows: Sequence[Sequence[float]]) -> np.ndarray:
        table = np.array(rows, dtype=float)
        table[:, :CONTEXT] = (table[:, :CONTEXT] - low) / span
        return table

    known, target = scaled(rows), standardize(np.array(gains))
    kernel = TV_SquaredExp() + WhiteKernel(0.1, (1e-3, 1.0))
    with warnings.catch_warnings(), seeded(key):
        # A bound of the kernel is no bad place to be.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mean = GaussianProcessRegressor(kernel, alpha=1e-8).fit(known, target)
        spread = mean
        if open_starts:
            # What is tried already makes the process surer there, whatever comes of it.
            tried = scaled([start.row for start in open_starts])
            spread = GaussianProcessRegressor(mean.kernel_, alpha=1e-8, optimizer=None)
            spread.fit(np.vstack([known, tried]), np.concatenate([target, np.zeros(len(tried))]))
        found = optimize_acq(UCB, mean, spread, scaled([here])[0], CONTEXT)
    return [float(share) for share in found]
