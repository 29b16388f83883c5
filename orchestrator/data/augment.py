"""Augmentation of whole batches on any device, as a pure function of (seed, view, sample index).

What happens to a sample does not depend on its place in a batch, on the batch's size or on the worker that
computes it, so one worker and many see the same images.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from orchestrator.data.draws import Stream, integers, uniform
from orchestrator.data.geometry import crop_and_flip, cutout
from orchestrator.data.images import Images
from orchestrator.data.jitter import ColorJitter
from orchestrator.data.mixing import Mixing, Partners
from orchestrator.data.policy import Policy


class Augmentation:
    """Random crop after zero padding, mirroring, colour jitter, a policy and cutout, in this order; then mixing.

    Args:
        crop_padding: pixels of black on each side before the crop; 0 crops nothing.
        flip: whether every second image is mirrored left to right.
        color_jitter: see `ColorJitter`; None is off.
        policy: RandAugment or TrivialAugment; None is off.
        cutout: side, in pixels, of the square that is painted over (DeVries and Taylor 2017); 0 is off.
        cutout_fill: its colour, 0 to 255 for each channel, or one for all. The paper's is the data set's mean.
        mixing: Mixup, CutMix or both, which `batch` applies; None is off.

    With everything off images pass unchanged. Raises `ValueError` for a negative padding or cutout, and for a colour
    outside 0 to 255.
    """

    def __init__(
        self,
        crop_padding: int,
        flip: bool,
        *,
        color_jitter: ColorJitter | None = None,
        policy: Policy | None = None,
        cutout: int = 0,
        cutout_fill: tuple[int, ...] = (0,),
        mixing: Mixing | None = None,
    ) -> None:
        for name, pixels in (("crop_padding", crop_padding), ("cutout", cutout)):
            if pixels < 0:
                raise ValueError(f"{name} must be 0 or above, not {pixels}")
        if not all(0 <= level <= 255 for level in cutout_fill):
            raise ValueError(f"cutout_fill must be 0 to 255, not {cutout_fill}")
        self.crop_padding = crop_padding
        self.flip = flip
        self.color_jitter = color_jitter
        self.policy = policy
        self.cutout = cutout
        self.cutout_fill = cutout_fill
        self.mixing = mixing

    @property
    def varies(self) -> bool:
        """Whether views of an image differ."""
        changes = self.crop_padding, self.flip, self.color_jitter, self.policy, self.cutout, self.mixing
        return any(change not in (0, None) for change in changes)

    def batch(self, train: Images, indices: Tensor, *, seed: int, view: int) -> tuple[Tensor, Partners | None]:
        """What the networks see of the samples at `indices` (int64 [B], on the device of `train`).

        Returns uint8 [B, C, H, W] and what was mixed in, None without mixing. A partner's image is augmented as that
        sample's own is in this view. `view` numbers the variants of one sample, such as the epoch. See `Mixing` for
        what mixed images mean to a distillation.
        """
        if self.mixing is None:
            return self(train.images.index_select(0, indices), indices, seed=seed, view=view), None
        partners = self.mixing.partners(indices, len(train), seed=seed, view=view)
        samples = torch.cat([indices, partners])
        images, others = self(train.images.index_select(0, samples), samples, seed=seed, view=view).chunk(2)
        images, share = self.mixing(images, others, indices, seed=seed, view=view)
        return images, Partners(train.labels.index_select(0, partners), share)

    def __call__(self, images: Tensor, indices: Tensor, *, seed: int, view: int) -> Tensor:
        """Augmented copies of `images` (uint8 [B, C, H, W]) whose indices in the data set are int64 [B], not mixed."""
        if self.crop_padding or self.flip:
            images = self._crop_and_flip(images, indices, seed, view)
        for change in (self.color_jitter, self.policy):
            if change is not None:
                images = change(images, indices, seed=seed, view=view)
        if self.cutout:
            row = integers(seed, view, indices, Stream.CUTOUT_ROW, images.shape[2])
            column = integers(seed, view, indices, Stream.CUTOUT_COLUMN, images.shape[3])
            images = cutout(images, self.cutout, row, column, _colour(self.cutout_fill, images.device))
        return images

    def _crop_and_flip(self, images: Tensor, indices: Tensor, seed: int, view: int) -> Tensor:
        place = mirrored = None
        if self.flip:
            mirrored = uniform(seed, view, indices, Stream.FLIP) < 0.5
        if self.crop_padding:
            places = (2 * self.crop_padding + 1) ** 2
            # Rounding cannot reach `places`: u <= 1 - 2^-24, and the product rounds down from there.
            place = (uniform(seed, view, indices, Stream.CROP) * places).long()
        return crop_and_flip(images, self.crop_padding, place, mirrored)


@lru_cache(maxsize=16)
def _colour(levels: tuple[int, ...], device: torch.device) -> Tensor:
    """uint8 [1, C, 1, 1]; kept, because copying it to a GPU in every step would make it wait."""
    return torch.tensor(levels, dtype=torch.uint8).view(1, -1, 1, 1).to(device)


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
