"""Colour jitter of whole batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from orchestrator.data import color
from orchestrator.data.draws import Stream, uniform

_OPERATIONS = (color.brightness, color.contrast, color.saturation, color.hue)


class ColorJitter:
    """Random brightness, contrast, saturation and hue, in an order drawn for each sample, as torchvision does.

    Args:
        brightness: the factor is drawn evenly from max(0, 1 - brightness) to 1 + brightness; 0 is off.
        contrast: likewise.
        saturation: likewise.
        hue: the turn is drawn evenly from -hue to hue, in full circles; 0 to 0.5.

    Raises:
        ValueError: a value is negative or not finite, or the hue is above 0.5.
    """

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
    ) -> None:
        strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, strength in strengths.items():
            if not 0 <= strength < math.inf:
                raise ValueError(f"{name} must be finite and 0 or above, not {strength}")
        if hue > 0.5:
            raise ValueError(f"hue must be at most 0.5, half a circle, not {hue}")
        self.ranges = [(max(0.0, 1 - strength), 1 + strength) for strength in (brightness, contrast, saturation)]
        self.ranges.append((-hue, hue))
        self._active = [number for number, strength in enumerate(strengths.values()) if strength > 0]

    def __call__(self, images: Tensor, indices: Tensor, *, seed: int, view: int) -> Tensor:
        """Changed copies of `images` (uint8 [B, C, H, W]) whose indices in the data set are int64 [B]."""
        active = [number for number in self._active if number < 2 or images.shape[1] == 3]
        if not active:
            return images
        factors = {}
        for number in active:
            low, high = self.ranges[number]
            factors[number] = uniform(seed, view, indices, Stream.JITTER_FACTOR + number) * (high - low) + low
        keys = torch.stack([uniform(seed, view, indices, Stream.JITTER_ORDER + number) for number in active], dim=1)
        # Row k holds what each sample does k-th, as a position in `active`.
        steps = keys.argsort(dim=1, stable=True).T
        for step in steps:
            # In the order of their operations, images are slices; the counts are all that leaves the device.
            order = step.argsort()
            counts = step.bincount(minlength=len(active)).tolist()
            groups = zip(active, images.index_select(0, order).split(counts), order.split(counts), strict=True)
            changed = [_OPERATIONS[number](group, factors[number][chosen]) for number, group, chosen in groups]
            images = torch.cat(changed).index_select(0, order.argsort())
        return images
