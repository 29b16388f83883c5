"""Crops, mirroring, cutouts and affine maps of whole batches; every sample has its own parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor


def crop_and_flip(images: Tensor, padding: int, place: Tensor | None, mirrored: Tensor | None) -> Tensor:
    """Crops of the zero-padded images, at their own size, some of them mirrored left to right.

    Args:
        images: uint8 [B, C, H, W].
        padding: pixels on each side.
        place: int64 [B], top * (2 * padding + 1) + left of each crop within the padded image; None takes the middle.
        mirrored: bool [B]; None mirrors none.
    """
    batch, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(batch, height)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    if place is not None:
        images = F.pad(images, (padding, padding, padding, padding))
        places = 2 * padding + 1
        rows = rows + (place // places)[:, None]
        columns = columns + (place % places)[:, None]
    pixels = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).view(batch, 1, height * width)
    gathered = images.flatten(2).gather(2, pixels.expand(batch, channels, height * width))
    return gathered.view(batch, channels, height, width)


def inside(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """bool [B, 1, H, W]: the pixels of each sample's box, whose edges are int64 [B]; bottom and right are outside."""
    rows = torch.arange(height, device=top.device)
    columns = torch.arange(width, device=top.device)
    in_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
    in_columns = (columns >= left[:, None]) & (columns < right[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """torch.where(mask, yes, no) of uint8 tensors: bit by bit, which is eight times faster on the CPU."""
    return ((yes ^ no) & mask.view(torch.uint8).neg()).bitwise_xor_(no)


def cutout(images: Tensor, size: int, row: Tensor, column: Tensor, fill: Tensor) -> Tensor:
    """Images with a square of `size` pixels around (row, column) painted over, as far as it lies inside.

    DeVries and Taylor 2017: the centre may be any pixel, so squares at the border are smaller.

    Args:
        images: uint8 [B, C, H, W].
        size: side of the square, in pixels.
        row: int64 [B], of the centre; `column` likewise.
        fill: uint8 [1, C, 1, 1], its colour.
    """
    top, left = row - size // 2, column - size // 2
    hole = inside(top, top + size, left, left + size, images.shape[2], images.shape[3])
    return choose(hole, fill, images)


def affine(images: Tensor, maps: Tensor) -> Tensor:
    """Images sampled at affine maps of their pixels: the nearest pixel, and 0 outside.

    Args:
        images: uint8 [B, C, H, W].
        maps: float32 [B, 2, 3]; (x, y, 1) of a pixel in the output, in pixels right of and below the image's
            middle, times a map gives (x, y) in the input.
    """
    batch, channels, height, width = images.shape
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2

    def source(row: int, size: int) -> Tensor:
        """Coordinates in the input from its corner, [B, H, W]; everything outside lands on a border of one pixel."""
        along_x = maps[:, row, 0, None] * x
        along_y = maps[:, row, 1, None] * y + (maps[:, row, 2, None] + (size - 1) / 2)
        return (along_y[:, :, None] + along_x[:, None, :]).round_().clamp_(-1, size)

    pixels = ((source(1, height) + 1) * (width + 2)).add_(source(0, width) + 1).long().view(batch, 1, height * width)
    padded = F.pad(images, (1, 1, 1, 1)).flatten(2)
    return padded.gather(2, pixels.expand(batch, channels, height * width)).view(batch, channels, height, width)
