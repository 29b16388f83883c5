"""What trials' own files tell beyond their last metrics: epochs, temperatures and classes, as plain data."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, NamedTuple


class Repairs(NamedTuple):
    """Training images of one class in the last epoch whose targets were repaired."""

    images: float
    taken_for: str
    """What the teacher most often took them for."""
    times: float


@dataclass(frozen=True)
class Run:
    """One trial over its epochs."""

    id: str
    variant: str
    seed: int
    epochs: Sequence[Mapping[str, float]]
    """The metrics of each epoch, with the key "epoch" counted from 1."""
    temperatures: Sequence[Mapping[str, Any]] = ()
    """The histogram of temperatures of each epoch, under "epoch", "counts" and "bounds"."""
    classes: Mapping[str, float] | None = None
    """Accuracy by class in percent, of the images that the trial was evaluated on last; None where it is not told."""
    repairs: Mapping[str, Repairs] = field(default_factory=dict)
    """By class; those without any are left out."""


@dataclass(frozen=True)
class Band:
    """One metric of one variant over the epochs, and its spread over runs."""

    variant: str
    epochs: tuple[int, ...]
    means: tuple[float, ...]
    spreads: tuple[float | None, ...]
    """Sample standard deviations; None where one run alone has the epoch."""
    runs: int
    """The most that have one epoch."""


def bands(runs: Sequence[Run], metric: str) -> list[Band]:
    """Mean and spread of a metric in every epoch, variant by variant; those without a value are left out."""
    found: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        by_epoch = found.setdefault(run.variant, {})
        for epoch in run.epochs:
            if metric in epoch:
                by_epoch.setdefault(int(epoch["epoch"]), []).append(float(epoch[metric]))
    return [
        Band(
            variant,
            tuple(sorted(by_epoch)),
            tuple(fmean(by_epoch[epoch]) for epoch in sorted(by_epoch)),
            tuple(stdev(values) if len(values := by_epoch[epoch]) > 1 else None for epoch in sorted(by_epoch)),
            max(map(len, by_epoch.values())),
        )
        for variant, by_epoch in found.items()
        if by_epoch
    ]


@dataclass(frozen=True)
class TemperatureMap:
    """How many of a variant's samples had which temperature, epoch by epoch, over all of its runs."""

    variant: str
    epochs: tuple[int, ...]
    edges: tuple[float, ...]
    """Of the bins, one more than these are."""
    shares: tuple[tuple[float, ...], ...]
    """By bin, then by epoch: percent of the epoch's samples."""


def temperature_maps(runs: Sequence[Run]) -> list[TemperatureMap]:
    """The histograms of each variant put together, in equal bins between the outermost bounds of its runs.

    Older logs lack the bounds, and are left out.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        found.setdefault(run.variant, []).extend(entry for entry in run.temperatures if "bounds" in entry)
    return [_map(variant, entries) for variant, entries in found.items() if entries]


def class_accuracies(table: str) -> dict[str, float]:
    """Accuracy by class in percent of a trial's `classes.csv`; classes without an image are left out."""
    return {row["class"]: float(row["acc1"]) for row in csv.DictReader(io.StringIO(table)) if row["acc1"]}


def class_repairs(table: str) -> dict[str, Repairs]:
    """Repaired targets by class of a trial's `mistakes.csv`."""
    rows = csv.DictReader(io.StringIO(table))
    return {row["class"]: Repairs(int(row["repaired"]), row["taken_for"], int(row["times"])) for row in rows}


def _map(variant: str, entries: Sequence[Mapping[str, Any]]) -> TemperatureMap:
    import numpy as np

    bins = len(entries[0]["counts"])
    edges = np.linspace(min(e["bounds"][0] for e in entries), max(e["bounds"][1] for e in entries), bins + 1)
    by_epoch: dict[int, Any] = {}
    for entry in entries:
        counts = np.asarray(entry["counts"], float)
        low, high = entry["bounds"]
        own = np.linspace(low, high, len(counts) + 1)
        # Samples of a bin that others cut are shared out evenly over it.
        below = np.interp(edges, own, np.concatenate([[0.0], counts.cumsum()]))
        by_epoch[int(entry["epoch"])] = by_epoch.get(int(entry["epoch"]), 0) + np.diff(below)
    epochs = sorted(by_epoch)
    shares = np.stack([100 * by_epoch[epoch] / max(by_epoch[epoch].sum(), 1) for epoch in epochs], axis=1)
    return TemperatureMap(variant, tuple(epochs), tuple(edges.tolist()), tuple(map(tuple, shares.tolist())))
