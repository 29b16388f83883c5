"""Random numbers that depend on nothing but what they are drawn for."""

from __future__ import annotations

import torch
from torch import Tensor

# Odd 64-bit constants, from splitmix64 and its like: one for each thing that tells draws apart, two that mix.
_SEED, _EPOCH, _INDEX, _DRAW = 0xD1342543DE82EF95, 0xA0761D6478BD642F, 0x9E3779B97F4A7C15, 0x8CB92BA72F3D8DD7
_MIX1, _MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def draw(seed: int, epoch: int, indices: Tensor, count: int, below: Tensor) -> Tensor:
    """Whole numbers int64 [B, count] from 0 up to, and without, `below` (int64 [B, 1], 1 to 2^31).

    A pure function of seed, epoch and the sample's index (int64 [B]), the same on every device: a counter made
    of the four goes twice through splitmix64's finaliser, so that neighbouring samples share no draws.
    """
    samples = _mixed(indices * _signed(_INDEX) + _signed(seed * _SEED + epoch * _EPOCH))
    draws = torch.arange(1, count + 1, device=indices.device) * _signed(_DRAW)
    return _shifted(_mixed(samples[:, None] + draws), 1) % below


def _mixed(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _signed(_MIX1)
    bits = (bits ^ _shifted(bits, 27)) * _signed(_MIX2)
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Logical shift to the right: int64's own would copy the sign bit."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _signed(value: int) -> int:
    """`value` modulo 2^64 as int64 stores it."""
    return (value + 2**63) % 2**64 - 2**63
