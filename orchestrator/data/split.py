"""Deterministic splits in which every class keeps its share."""

from __future__ import annotations

import torch
from torch import Tensor

from orchestrator.errors import DataError

TEST_FRACTION = 0.2
SPLIT_SEED = 0
"""For sets that come without test images: this split is ours and never changes."""


def stratified_subset(labels: Tensor, size: int, seed: int) -> Tensor:
    """Sorted int64 [size] indices of a random subset in which each class has its share of `labels`.

    `labels` is int64 [N] with classes 0..max. Shares are rounded by largest remainder (ties go to the
    lower class), so that the subset has exactly `size` samples. Raises `DataError` when `size` is not
    between the number of classes and N, and when a class has no sample.
    """
    labels = labels.cpu()
    counts = _class_counts(labels)
    total, classes = len(labels), len(counts)
    if size > total:
        raise DataError(f"a subset of {size} samples cannot come from a set of {total}")
    if size < classes:
        raise DataError(f"a stratified subset of {classes} classes needs at least {classes} samples, not {size}")
    return draw_by_class(labels, counts, size, torch.Generator().manual_seed(seed)).sort().values


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Sorted (kept, held-out) indices, int64, that part `labels` ([N]) into two.

    The held-out part is the stratified subset of round(N * fraction) samples. Raises `DataError` as
    `stratified_subset` does, when `fraction` is not between 0 and 1, and when a class is held out whole.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the held-out fraction must lie between 0 and 1, not {fraction}")
    labels = labels.cpu()
    held_out = stratified_subset(labels, round(len(labels) * fraction), seed)
    is_kept = torch.ones(len(labels), dtype=torch.bool)
    is_kept[held_out] = False
    kept = is_kept.nonzero().flatten()
    lost = labels[kept].bincount(minlength=int(labels.max()) + 1) == 0
    if lost.any():
        raise DataError(f"holding out {fraction} of the samples leaves none of class {int(lost.nonzero()[0])}")
    return kept, held_out


def draw_by_class(labels: Tensor, counts: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Indices, int64 [size], of random samples of which each class has its share, by largest remainder.

    `labels` is int64 [N], `counts` the number of samples of each class, int64 [classes], some maybe 0.
    """
    total = len(labels)
    if size == 0:
        return torch.empty(0, dtype=torch.int64)
    quota = counts * size // total
    remainder = counts * size % total
    by_remainder = remainder.argsort(descending=True, stable=True)
    quota[by_remainder[: size - int(quota.sum())]] += 1
    shuffled = torch.randperm(total, generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    position_in_class = torch.arange(total) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return by_class[position_in_class < quota.repeat_interleave(counts)]


def _class_counts(labels: Tensor) -> Tensor:
    """int64 [classes], every entry above 0."""
    if labels.numel() == 0:
        raise DataError("an empty set cannot be split")
    if labels.min() < 0:
        raise DataError(f"labels must be 0 or above, but one is {int(labels.min())}")
    counts = labels.bincount()
    if (counts == 0).any():
        raise DataError(f"class {int((counts == 0).nonzero()[0])} of {len(counts)} has no sample")
    return counts
