"""Points that are known before anything runs: grids, random draws, and those that a spec wants tried first."""

from __future__ import annotations

from typing import Any

from orchestrator.spec.variants import Variant


def grid_points(variant: Variant, repeats: int) -> list[dict[str, Any]]:
    """Every combination of the space's values that keeps the constraints, `repeats` times over."""
    return list(variant.grid()) * repeats


def first_points(variant: Variant, seed: int) -> list[dict[str, Any]]:
    """The variant's points that are tried first; values that they leave out are drawn."""
    return [variant.drawn(n, seed, given) for n, given in enumerate(variant.points)]


def random_points(variant: Variant, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` points: those to be tried first, and draws.

    A value depends on the seed, its path and its number alone, so that variants that share a domain
    are given the same values of it: a paired comparison.
    """
    first = first_points(variant, seed)
    return first + [variant.drawn(n, seed) for n in range(len(first), count)]
