"""Changes of brightness, contrast, colour and sharpness of whole batches, each sample with its own parameter.

Images are uint8 [B, C, H, W] and so are results, rounded down as torchvision does. Colour operations take images
of three channels as red, green, blue, and leave others unchanged. All sums are exact and everything else is done
pixel by pixel, so that a result depends neither on the sample's place in the batch nor on its neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

# ITU-R 601 in whole 65536ths, as Pillow has it; weighted sums of three bytes have 24 bits, exact in float32.
_RED, _GREEN, _BLUE = 19595 / 65536, 38470 / 65536, 7471 / 65536


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """images * factor (float32 [B], >= 0)."""
    return _bytes(images.to(torch.float32).mul_(factor.view(-1, 1, 1, 1)))


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
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    span = high - low
    # The first of the largest channels, as 1 and 0: products with these are several times faster than torch.where.
    is_red = torch.eq(red, high, out=torch.empty_like(high))
    others = 1 - is_red
    is_green = torch.eq(green, high, out=torch.empty_like(high)).mul_(others)
    is_blue = others.sub_(is_green)
    sixths = (green - blue).mul_(is_red).addcmul_(is_green, blue - red).addcmul_(is_blue, red - green)
    sixths.div_(span.clamp(min=1)).add_(is_green, alpha=2).add_(is_blue, alpha=4).add_((6 * turn).view(-1, 1, 1))
    sixths.sub_((sixths / 6).floor_().mul_(6))
    # A channel is highest within one sixth of its own hue, falls to the lowest over the next sixth, and stays.
    levels = ((sixths - 3).abs_().sub_(1), 2 - (sixths - 2).abs_(), 2 - (sixths - 4).abs_())
    rounded_low = low.add_(0.5)
    result = torch.empty_like(images)
    for channel, level in enumerate(levels):
        result[:, channel] = level.clamp_(0, 1).mul_(span).add_(rounded_low).to(torch.int16)
    return result


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the smoothed image by factor (float32 [B], >= 0): 0 is smooth, 1 the image itself.

    The 3 x 3 kernel weighs the middle 5 and its neighbours 1; the outermost pixels stay, and so do images of
    fewer than three rows or columns.
    """
    if min(images.shape[2:]) < 3:
        return images
    batch, channels, height, width = images.shape
    pixels = images.to(torch.float32)
    # Rows one after the other: of what runs over their ends only the border columns are wrong, and those stay.
    sums = (pixels[:, :, :-2] + pixels[:, :, 1:-1]).add_(pixels[:, :, 2:]).flatten(2)
    length = (height - 2) * width - 2
    middle = pixels.flatten(2)[..., width + 1 : width + 1 + length]
    smooth = (sums[..., :-2] + sums[..., 1:-1]).add_(sums[..., 2:]).add_(middle * 4).div_(13).round_()
    # Each of these is a whole number of rows again, shifted by one pixel.
    blended = F.pad(_blend(middle.unsqueeze(-1), smooth.unsqueeze(-1), factor).squeeze(-1), (1, 1))
    sharp = images.clone()
    sharp[:, :, 1:-1, 1:-1] = blended.view(batch, channels, height - 2, width)[..., 1:-1]
    return sharp


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only the upper `bits` (int64 [B], 0 to 8) of each byte kept."""
    lost = 8 - bits
    mask = ((255 >> lost) << lost).to(torch.uint8)
    return images & mask.view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Bytes from `threshold` (float32 [B], 0 to 255) up inverted."""
    bright = images >= threshold.ceil().to(torch.uint8).view(-1, 1, 1, 1)
    return images ^ bright.view(torch.uint8).neg()


def autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched from 0 to 255; a channel of one value stays."""
    # Apart, the two are ten times faster than aminmax on the CPU.
    low = images.amin(dim=(2, 3), keepdim=True).to(torch.float32)
    high = images.amax(dim=(2, 3), keepdim=True).to(torch.float32)
    flat = high == low
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return _bytes(images.to(torch.float32).sub_(torch.where(flat, 0.0, low)).div_(scale))


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
    return (red * _RED).add_(green * _GREEN).add_(blue * _BLUE).add_(0.5).floor_()


def _blend(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """pixels * factor + other * (1 - factor), as bytes; `pixels` and `other` are float32 and broadcast."""
    factor = factor.view(-1, 1, 1, 1)
    return _bytes((pixels * factor).add_(other * (1 - factor)))


def _bytes(pixels: Tensor) -> Tensor:
    """Float pixels as uint8, cut off at 0 and 255 and rounded down; the way over int16 is faster on the CPU."""
    return pixels.clamp_(0, 255).to(torch.int16).to(torch.uint8)
