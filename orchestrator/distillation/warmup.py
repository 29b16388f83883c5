"""Weights of losses that rise at the start of training."""

from __future__ import annotations


def risen(progress: float, epochs: float) -> float:
    """Share of a weight, 0 to 1, after `progress` epochs of a linear rise over `epochs`; 1 without a rise."""
    return 1.0 if progress >= epochs else progress / epochs
