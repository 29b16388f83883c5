"""RandAugment and TrivialAugment on whole batches: a few of fourteen operations drawn for each sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from orchestrator.data import color
from orchestrator.data.draws import Stream, integers, uniform
from orchestrator.data.geometry import affine

BINS = 31
"""Magnitudes are 0 to 30, as in RandAugment."""

_MAPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_OTHERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": color.brightness,
    "color": color.saturation,
    "contrast": color.contrast,
    "sharpness": color.sharpness,
    "posterize": lambda images, bits: color.posterize(images, bits.long()),
    "solarize": color.solarize,
    "autocontrast": lambda images, _: color.autocontrast(images),
    "equalize": lambda images, _: color.equalize(images),
    "identity": lambda images, _: images,
}
OPERATIONS = (*_MAPS, *_OTHERS)
"""In the order of their numbers, on which stored results depend."""


@dataclass(frozen=True)
class Ranges:
    """How far the operations go at the strongest magnitude."""

    shear: float
    """Slope."""
    translate_share: float
    """Of the image's side, on top of `translate_pixels`."""
    translate_pixels: float
    rotate: float
    """Degrees."""
    enhance: float
    """Change of the factor 1 of brightness, color, contrast and sharpness."""
    posterize: int
    """Bits lost."""


RAND_AUGMENT = Ranges(0.3, 150 / 331, 0.0, 30.0, 0.9, 4)
TRIVIAL_AUGMENT = Ranges(0.99, 0.0, 32.0, 135.0, 0.99, 6)


class Policy:
    """Draws operations for each sample and applies them one after the other.

    An operation comes with one of 31 magnitudes, from none to the strongest of its range, and where it has a
    direction with a fair sign. Maps take the nearest pixel; what they bring in from outside is black.

    Args:
        num_ops: operations of each sample; 0 changes nothing.
        magnitude: 0 to 30, for all operations; None draws one for each.
        ranges: what magnitude 30 means.

    Raises:
        ValueError: num_ops is negative or the magnitude outside 0 to 30.
    """

    def __init__(self, num_ops: int, magnitude: int | None, ranges: Ranges) -> None:
        if num_ops < 0:
            raise ValueError(f"num_ops must be 0 or above, not {num_ops}")
        if magnitude is not None and not 0 <= magnitude < BINS:
            raise ValueError(f"magnitude must be 0 to {BINS - 1}, not {magnitude}")
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.ranges = ranges

    def __call__(self, images: Tensor, indices: Tensor, *, seed: int, view: int) -> Tensor:
        """Changed copies of `images` (uint8 [B, C, H, W]) whose indices in the data set are int64 [B]."""
        for number in range(self.num_ops):
            images = self._apply_one(images, indices, seed, view, Stream.POLICY + 3 * number)
        return images

    def _apply_one(self, images: Tensor, indices: Tensor, seed: int, view: int, stream: int) -> Tensor:
        operation = integers(seed, view, indices, stream, len(OPERATIONS))
        if self.magnitude is None:
            magnitude = integers(seed, view, indices, stream + 1, BINS)
        else:
            magnitude = torch.full_like(operation, self.magnitude)
        negative = (uniform(seed, view, indices, stream + 2) < 0.5).long()
        row = (operation * BINS + magnitude) * 2 + negative
        maps, values = _tables(self.ranges, images.shape[2], images.shape[3], images.device)
        # In the order of their operations, images are slices; the counts are all that leaves the device.
        order = operation.argsort()
        counts = operation.bincount(minlength=len(OPERATIONS)).tolist()
        mapped = sum(counts[: len(_MAPS)])
        sizes = [mapped, *counts[len(_MAPS) :]]
        groups = images.index_select(0, order).split(sizes)
        rows = row.index_select(0, order).split(sizes)
        changed = [affine(groups[0], maps[rows[0]])]
        for change, group, of in zip(_OTHERS.values(), groups[1:], rows[1:], strict=True):
            changed.append(change(group, values[of]) if len(group) else group)
        return torch.cat(changed).index_select(0, order.argsort())


class RandAugment(Policy):
    """RandAugment (Cubuk et al. 2020): `num_ops` operations for each sample, all of one `magnitude` (0 to 30).

    Operations and ranges are those of torchvision, which follow the paper's code: shear 0.3, translation 150/331
    of the side, rotation 30 degrees, enhancement 0.9, posterize to 4 bits, solarize from nothing to everything.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9) -> None:
        super().__init__(num_ops, magnitude, RAND_AUGMENT)


class TrivialAugment(Policy):
    """TrivialAugment Wide (Müller and Hutter 2021): one operation for each sample, of a magnitude drawn as well.

    Shear 0.99, translation 32 pixels, rotation 135 degrees, enhancement 0.99, posterize to 2 bits.
    """

    def __init__(self) -> None:
        super().__init__(1, None, TRIVIAL_AUGMENT)


POLICIES: dict[str, Callable[..., Policy]] = {"randaugment": RandAugment, "trivialaugment": TrivialAugment}


def affine_map(name: str, value: float, height: int, width: int) -> list[list[float]]:
    """The map of `geometry.affine` for an operation: a shear by slope `value`, from the upper left corner; a
    translation by whole pixels; a rotation in degrees, counterclockwise, around the middle.
    """
    if name == "shear_x":
        return [[1, value, value * height / 2], [0, 1, 0]]
    if name == "shear_y":
        return [[1, 0, 0], [value, 1, value * width / 2]]
    if name == "translate_x":
        return [[1, 0, -int(value)], [0, 1, 0]]
    if name == "translate_y":
        return [[1, 0, 0], [0, 1, -int(value)]]
    cosine, sine = math.cos(math.radians(value)), math.sin(math.radians(value))
    return [[cosine, -sine, 0], [sine, cosine, 0]]


def operation_value(name: str, ranges: Ranges, magnitude: int, sign: int, height: int, width: int) -> float:
    """An operation's parameter at a magnitude (0 to 30), in the direction of `sign` (1 or -1) where it has one."""
    strength = magnitude / (BINS - 1)
    if name.startswith("shear"):
        return sign * strength * ranges.shear
    if name.startswith("translate"):
        side = width if name == "translate_x" else height
        return sign * strength * (ranges.translate_share * side + ranges.translate_pixels)
    if name == "rotate":
        return sign * strength * ranges.rotate
    if name == "posterize":
        return round(8 - strength * ranges.posterize)
    if name == "solarize":
        return 255 * (1 - strength)
    return 1 + sign * strength * ranges.enhance


@lru_cache(maxsize=16)
def _tables(ranges: Ranges, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Maps float32 [rows, 2, 3] and values float32 [rows], by operation, magnitude and sign.

    Sines are taken here, once: in a batch their last bit may depend on a sample's place.
    """
    rows = [
        (name, operation_value(name, ranges, magnitude, sign, height, width))
        for name in OPERATIONS
        for magnitude in range(BINS)
        for sign in (1, -1)
    ]
    # The maps are the first operations, so they have the same row numbers.
    maps = [affine_map(name, value, height, width) for name, value in rows if name in _MAPS]
    values = [value for _, value in rows]
    return (
        torch.tensor(maps, dtype=torch.float32, device=device),
        torch.tensor(values, dtype=torch.float32, device=device),
    )
