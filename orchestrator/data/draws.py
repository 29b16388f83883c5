"""Random numbers as a pure function of (seed, view, sample index, stream), the same on every device."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

# Odd 64-bit constants: the first is splitmix64's increment, the next two its multipliers.
_INDEX, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_SEED, _VIEW, _STREAM = 0xD1342543DE82EF95, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB

_BETA_CELLS = 8192


class Stream(IntEnum):
    """What a draw decides. Results of stored runs depend on these numbers, so they never change."""

    CROP = 0
    FLIP = 1
    CUTOUT_ROW = 2
    CUTOUT_COLUMN = 3
    MIX_GATE = 4
    MIX_METHOD = 5
    MIX_PARTNER = 6
    MIX_SHARE = 7
    MIX_ROW = 8
    MIX_COLUMN = 9
    JITTER_FACTOR = 16
    """The first of four: brightness, contrast, saturation, hue."""
    JITTER_ORDER = 20
    """The first of four, likewise."""
    POLICY = 32
    """The first of three (operation, magnitude, sign) for each operation of a sample."""


def uniform(seed: int, view: int, indices: Tensor, stream: int) -> Tensor:
    """Random float32 [B] in [0, 1), one for each of `indices` (int64 [B]); the same on every device.

    A counter-based generator: the 64-bit counter, a sum of odd multiples of the four arguments, goes
    through splitmix64's finaliser, and the upper 24 bits are the number. `stream` tells apart several
    draws for one sample.
    """
    # The finaliser's last step (bits ^= bits >> 31) leaves the upper 31 bits as they are.
    return _shift_right(_bits(seed, view, indices, stream), 40).to(torch.float32) * 2.0**-24


def integers(seed: int, view: int, indices: Tensor, stream: int, count: int) -> Tensor:
    """Random int64 [B] in 0 .. count - 1, one for each of `indices` (int64 [B]), likely up to count / 2^31.

    Raises `ValueError` for a `count` outside 1 .. 2^31.
    """
    if not 1 <= count <= 2**31:
        raise ValueError(f"count must be 1 to 2^31, not {count}")
    return (_shift_right(_bits(seed, view, indices, stream), 33) * count) >> 31


def beta(draws: Tensor, alpha: float) -> Tensor:
    """Symmetric Beta(alpha, alpha) as float32 [B], from uniform `draws` (float32 [B]), by its inverse CDF.

    The quantiles come from a table of 8193 and lines between them. Raises `ValueError` for alpha <= 0.
    """
    table = _beta_table(alpha, draws.device)
    lower = torch.minimum(draws, 1 - draws) * (2 * _BETA_CELLS)
    cell = lower.long().clamp_(max=_BETA_CELLS - 1)
    left = table[cell]
    quantile = left + (table[cell + 1] - left) * (lower - cell)
    return torch.where(draws < 0.5, quantile, 1 - quantile)


@lru_cache(maxsize=16)
def _beta_table(alpha: float, device: torch.device) -> Tensor:
    """float32 [cells + 1], the quantiles of Beta(alpha, alpha) at 0 to 1/2 in equal steps.

    The density x^(alpha - 1) (1 - x)^(alpha - 1) is summed up by Simpson's rule; the other half mirrors this one.
    Below alpha = 1 it is infinite at 0, but not so over t, where x = t^(1/alpha) / 2: there the first factor is gone.
    """
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be finite and above 0, not {alpha}")
    power = max(1.0, 1 / alpha)
    nodes = torch.linspace(0, 1, 2 * 65536 + 1, dtype=torch.float64)
    x = 0.5 * nodes**power
    density = (1 - x) ** (alpha - 1) if alpha < 1 else (4 * x * (1 - x)) ** (alpha - 1)
    cells = density[:-2:2] + 4 * density[1::2] + density[2::2]
    cdf = torch.cat([cells.new_zeros(1), cells.cumsum(0)])
    cdf = cdf / cdf[-1]
    wanted = torch.linspace(0, 1, _BETA_CELLS + 1, dtype=torch.float64)
    right = torch.searchsorted(cdf, wanted).clamp(1, len(cdf) - 1)
    # A large alpha's first densities are too small for a number, so that the first quantile would be 0 / 0.
    part = (wanted - cdf[right - 1]) / (cdf[right] - cdf[right - 1]).clamp_(min=1e-300)
    t = (right - 1 + part) / (len(cdf) - 1)
    return (0.5 * t**power).to(device, torch.float32)


def _bits(seed: int, view: int, indices: Tensor, stream: int) -> Tensor:
    """int64 [B], of which the upper 31 bits are random."""
    offset = _signed(seed * _SEED + view * _VIEW + stream * _STREAM)
    bits = indices * _signed(_INDEX) + offset
    bits = (bits ^ _shift_right(bits, 30)) * _signed(_MIX1)
    return (bits ^ _shift_right(bits, 27)) * _signed(_MIX2)


def _signed(value: int) -> int:
    """`value` modulo 2^64 as int64 stores it."""
    return (value + 2**63) % 2**64 - 2**63


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Logical shift: int64's own shift would copy the sign bit."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
