"""Augmentation of whole batches on any device, as a pure function of (seed, view, sample index).

A sample's crop and flip do not depend on its place in a batch, on the batch's size or on the worker that
computes it, so one worker and many see the same images.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

# Odd 64-bit constants: the first is splitmix64's increment, the next two its multipliers.
_INDEX, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_SEED, _VIEW, _STREAM = 0xD1342543DE82EF95, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB

_CROP_STREAM, _FLIP_STREAM = 0, 1


def uniform(seed: int, view: int, indices: Tensor, stream: int) -> Tensor:
    """Random float32 [B] in [0, 1), one for each of `indices` (int64 [B]); the same on every device.

    A counter-based generator: the 64-bit counter, a sum of odd multiples of the four arguments, goes
    through splitmix64's finaliser, and the upper 24 bits are the number. `stream` tells apart several
    draws for one sample.
    """
    offset = _signed(seed * _SEED + view * _VIEW + stream * _STREAM)
    bits = indices * _signed(_INDEX) + offset
    bits = (bits ^ _shift_right(bits, 30)) * _signed(_MIX1)
    bits = (bits ^ _shift_right(bits, 27)) * _signed(_MIX2)
    # The finaliser's last step (bits ^= bits >> 31) leaves the upper 24 bits as they are.
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24


def _signed(value: int) -> int:
    """`value` modulo 2^64 as int64 stores it."""
    return (value + 2**63) % 2**64 - 2**63


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Logical shift: int64's own shift would copy the sign bit."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


class Augmentation:
    """Random crop after zero padding, and random mirroring.

    `crop_padding` is in pixels on each side. With no padding and no flip images pass unchanged.
    """

    def __init__(self, crop_padding: int, flip: bool) -> None:
        if crop_padding < 0:
            raise ValueError(f"crop_padding must be 0 or above, not {crop_padding}")
        self.crop_padding = crop_padding
        self.flip = flip

    def __call__(self, images: Tensor, indices: Tensor, *, seed: int, view: int) -> Tensor:
        """Augmented copies of `images` (uint8 [B, C, H, W]) whose indices in the data set are int64 [B].

        `view` numbers the variants of one sample, such as the epoch.
        """
        padding = self.crop_padding
        if padding == 0 and not self.flip:
            return images
        batch, channels, height, width = images.shape
        rows = torch.arange(height, device=images.device).expand(batch, height)
        columns = torch.arange(width, device=images.device).expand(batch, width)
        if self.flip:
            mirrored = uniform(seed, view, indices, _FLIP_STREAM) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        if padding:
            images = F.pad(images, (padding, padding, padding, padding))
            places = 2 * padding + 1
            # Rounding cannot reach places^2: u <= 1 - 2^-24, and the product rounds down from there.
            place = (uniform(seed, view, indices, _CROP_STREAM) * places**2).long()
            rows = rows + (place // places)[:, None]
            columns = columns + (place % places)[:, None]
        pixels = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).view(batch, 1, height * width)
        gathered = images.flatten(2).gather(2, pixels.expand(batch, channels, height * width))
        return gathered.view(batch, channels, height, width)


def normalise(
    images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype = torch.float32
) -> Tensor:
    """(images / 255 - mean) / std per channel, in `dtype` and the layout of `images` (uint8 [B, C, H, W])."""
    scale, shift = _scale_and_shift(mean, std, images.device, dtype)
    return images.to(dtype).mul_(scale).add_(shift)


@lru_cache(maxsize=16)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """[1, C, 1, 1] each; kept, because copying them to a GPU in every step would make it wait."""
    deviation = torch.tensor(std, dtype=torch.float64).view(1, -1, 1, 1)
    scale = 1 / (255 * deviation)
    shift = -torch.tensor(mean, dtype=torch.float64).view(1, -1, 1, 1) / deviation
    return scale.to(device, dtype), shift.to(device, dtype)
