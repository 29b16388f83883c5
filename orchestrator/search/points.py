"""Points that are known before anything runs: grids and random draws."""

from __future__ import annotations

import math
import random
from typing import Any

from orchestrator.spec.search import Choice, Domain, LogRandInt, LogUniform, QUniform, RandInt
from orchestrator.spec.variants import Variant


def grid_points(variant: Variant, repeats: int) -> list[dict[str, Any]]:
    """Every combination of the space's values that keeps the constraints, `repeats` times over."""
    return list(variant.grid()) * repeats


def random_points(variant: Variant, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` draws, repaired by the constraints.

    A value depends on the seed, its path and its number alone, so that variants that share a domain
    are given the same values of it: a paired comparison.
    """
    return [
        variant.repaired(
            {path: draw(domain, random.Random(f"{seed}/{path}/{n}")) for path, domain in variant.space.items()}
        )
        for n in range(count)
    ]


def draw(domain: Domain, rng: random.Random) -> Any:
    """One value of the domain."""
    if isinstance(domain, Choice):
        return rng.choice(domain.values)
    if isinstance(domain, QUniform):
        return rng.choice(domain.grid)
    if isinstance(domain, LogRandInt):
        # Half a unit on both sides gives the ends their full share.
        value = math.exp(rng.uniform(math.log(domain.low - 0.5), math.log(domain.high + 0.5)))
        return min(max(round(value), domain.low), domain.high)
    if isinstance(domain, RandInt):
        return rng.randint(domain.low, domain.high)
    if isinstance(domain, LogUniform):
        value = math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
        return min(max(value, domain.low), domain.high)
    return rng.uniform(domain.low, domain.high)
