"""Changes of brightness, contrast, colour and sharpness of whole batches, each sample with its own parameter.

Images are uint8 [B, C, H, W] and so are results, rounded down as torchvision does. Colour operations take images
of three channels as red, green, blue, and leave others unchanged. All sums are exact and everything else is done
pixel by pixel, so that a result depends neither on the sample's place in the batch nor on its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

# ITU-R 601 in 65536ths; the weighted sum of three bytes is a whole number below 2^24, exact in float32.
_RED, _GREEN, _BLUE = 19595.0, 38470.0, 7471.0


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """images * factor (float32 [B], >= 0)."""
    return _bytes(images * factor.view(-1, 1, 1, 1))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the image's mean brightness by factor (float32 [B], >= 0): 0 is even grey, 1 the image itself."""
    pixels = images.to(torch.float32)
    mean = _grey(pixels).mean(dim=(1, 2, 3), dtype=torch.float64, keepdim=True).to(torch.float32)
    return _blend(pixels, mean, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the image in grey by factor (float32 [B], >= 0): 0 is grey, 1 the image itself."""
    if images.shape[1] != 3:
        return images
    pixels = images.to(torch.float32)
    return _blend(pixels, _grey(pixels), factor)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Hue turned by `turn` (float32 [B], 1 is the full circle, so -0.5 to 0.5 is every change there is).

    The largest and the smallest of the three channels stay (hue alone changes in HSV).
    """
    if images.shape[1] != 3:
        return images
    pixels = images.to(torch.float32)
    red, green, blue = pixels.unbind(1)
    low, high = pixels.aminmax(dim=1)
    span = high - low
    safe = span.clamp(min=1)
    sixths = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixths = sixths + (6 * turn).view(-1, 1, 1)
    # A channel is highest within one sixth of its own hue, falls to the lowest over the next sixth, and stays.
    peaks = torch.tensor([0.0, 2.0, 4.0], device=images.device).view(1, 3, 1, 1)
    distance = sixths[:, None] - peaks
    distance -= (distance / 6).round_().mul_(6)
    level = distance.abs_().neg_().add_(2).clamp_(0, 1)
    return level.mul_(span[:, None]).add_(low[:, None]).round_().to(torch.uint8)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the smoothed image by factor (float32 [B], >= 0): 0 is smooth, 1 the image itself.

    The 3 x 3 kernel weighs the middle 5 and its neighbours 1; the outermost pixels stay, and so do images of
    fewer than three rows or columns.
    """
    if min(images.shape[2:]) < 3:
        return images
    pixels = images.to(torch.float32)
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    middle = pixels[:, :, 1:-1, 1:-1]
    smooth = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * middle).div_(13).round_()
    sharp = images.clone()
    sharp[:, :, 1:-1, 1:-1] = _blend(middle, smooth, factor)
    return sharp


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only the upper `bits` (int64 [B], 0 to 8) of each byte kept."""
    lost = 8 - bits
    mask = ((255 >> lost) << lost).to(torch.uint8)
    return images & mask.view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Bytes from `threshold` (float32 [B], 0 to 255) up inverted."""
    return torch.where(images >= threshold.view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched from 0 to 255; a channel of one value stays."""
    low, high = (edge[:, :, None, None].to(torch.float32) for edge in images.flatten(2).aminmax(dim=2))
    flat = high == low
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return _bytes((images - torch.where(flat, 0.0, low)) / scale)


def equalize(images: Tensor) -> Tensor:
    """Each channel's histogram made even, the way Pillow does: by a table of whole numbers."""
    planes = images.flatten(2).long()
    counts = torch.zeros(*planes.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, planes, torch.ones((), dtype=torch.int64, device=images.device).expand_as(planes))
    # The largest value does not count: everything below it is spread over 255 steps.
    largest = planes.amax(dim=2, keepdim=True)
    step = (planes.shape[2] - counts.gather(2, largest)) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255).to(torch.uint8)
    return torch.where((step == 0)[..., None], images, table.gather(2, planes).view_as(images))


def _grey(pixels: Tensor) -> Tensor:
    """Brightness of float32 [B, C, H, W] pixels as whole numbers [B, 1 or C, H, W]."""
    if pixels.shape[1] != 3:
        return pixels
    red, green, blue = pixels.split(1, dim=1)
    return (red * _RED).add_(green * _GREEN).add_(blue * _BLUE).add_(32768).mul_(2.0**-16).floor_()


def _blend(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """pixels * factor + other * (1 - factor), as bytes; `pixels` and `other` are float32 and broadcast."""
    factor = factor.view(-1, 1, 1, 1)
    return _bytes((pixels * factor).add_(other * (1 - factor)))


def _bytes(pixels: Tensor) -> Tensor:
    """Float pixels as uint8, cut off at 0 and 255 and rounded down."""
    return pixels.clamp_(0, 255).to(torch.uint8)
