"""Mean and standard deviation of pixels."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 4096
"""Images counted at a time."""


def channel_stats(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 [N, C, H, W], N > 0, scaled to 0..1; both [C].

    Of all pixels, through their histogram. A channel of one value everywhere has the deviation 1, so that it can be
    divided by.
    """
    channels = images.shape[1]
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for chunk in images.split(_CHUNK):
        for channel in range(channels):
            counts[channel] += torch.bincount(chunk[:, channel].flatten(), minlength=256)
    shares = counts / counts.sum(1, keepdim=True).double()
    mean = shares @ values
    variance = (shares * (values - mean[:, None]) ** 2).sum(1)
    std = torch.where(variance > 0, variance.sqrt(), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
