"""ShuffleNets for small images.

- `ShuffleNetV1` (Zhang et al., "ShuffleNet", 2018, table 1): three groups, stages of 240, 480 and 960 channels.
- `ShuffleNetV2` (Ma et al., "ShuffleNet V2", 2018, table 5): the 1x form, 116, 232 and 464 channels.

As in the distillation literature the stem is a 1x1 convolution to 24 channels without max-pool; with a larger
`stem_stride` it is the papers' 3x3 one, since a strided 1x1 convolution would not see most pixels. Weights start
as torch's layers do, there as here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.models.layers import (
    Settings,
    conv_norm,
    conv_norm_relu,
    pooled,
    shuffle_channels,
    stage_ends,
)

STEM_CHANNELS = 24
BLOCKS = (4, 8, 4)
GROUPS = 3
V1_CHANNELS = (240, 480, 960)
V1_MULTIPLE = 4 * GROUPS
"""What divides the channels of V1: blocks narrow them to a quarter, in three groups."""
V2_CHANNELS = (116, 232, 464)
V2_LAST_CHANNELS = 1024


class ShuffleNetV1(nn.Module):
    """Maps images [B, in_channels, H, W] to logits [B, num_classes], for any H and W.

    Args:
        num_classes, in_channels, width, norm, stem_stride: see `orchestrator.models.build_model`. Channels times
            `width` are rounded to multiples of 12.

    Raises:
        ValueError: an argument is out of its range.
    """

    feature_layers: tuple[str, ...] = stage_ends(list(BLOCKS))
    """The last block of each stage; it puts out maps [B, channels, h, w], after the ReLU."""
    classifier_layer = "head"

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        given = Settings(**settings)
        channels = given.channels(STEM_CHANNELS, V1_MULTIPLE)
        self.stem = _stem(given, channels)
        self.stages = nn.Sequential()
        for count, base in zip(BLOCKS, V1_CHANNELS, strict=True):
            out_channels = max(given.channels(base, V1_MULTIPLE), channels + V1_MULTIPLE)
            self.stages.append(_UnitV1(channels, out_channels - channels, 2, given.norm, grouped=len(self.stages) > 0))
            channels = out_channels
            self.stages.extend(_UnitV1(channels, channels, 1, given.norm) for _ in range(count - 1))
        self.head = nn.Linear(channels, given.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(pooled(self.stages(self.stem(images))))
        return logits


class _UnitV1(nn.Module):
    """Figure 2b and 2c: at stride 2 the pooled input is put beside the residual, at stride 1 it is added."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str, *, grouped: bool = True) -> None:
        super().__init__()
        inner = out_channels // 4
        self._groups = GROUPS if grouped else 1
        self._stride = stride
        self.narrow = conv_norm_relu(in_channels, inner, 1, norm, groups=self._groups)
        # The paper has no activation after the filter; the networks of the distillation literature do.
        self.filter = conv_norm_relu(inner, inner, 3, norm, stride=stride, groups=inner)
        self.widen = conv_norm(inner, out_channels, 1, norm, groups=GROUPS)

    def forward(self, features: Tensor) -> Tensor:
        residual = self.widen(self.filter(shuffle_channels(self.narrow(features), self._groups)))
        if self._stride == 1:
            return functional.relu(residual + features)
        shortcut = functional.avg_pool2d(features, 3, self._stride, padding=1)
        return functional.relu(torch.cat([residual, shortcut], dim=1))


class ShuffleNetV2(nn.Module):
    """Maps images [B, in_channels, H, W] to logits [B, num_classes], for any H and W.

    Args:
        num_classes, in_channels, width, norm, stem_stride: see `orchestrator.models.build_model`. Channels times
            `width` are rounded to even numbers.

    Raises:
        ValueError: an argument is out of its range.
    """

    feature_layers: tuple[str, ...] = stage_ends(list(BLOCKS))
    """The last unit of each stage; it puts out maps [B, channels, h, w], after the ReLU."""
    classifier_layer = "head"

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        given = Settings(**settings)
        channels = given.channels(STEM_CHANNELS)
        self.stem = _stem(given, channels)
        self.stages = nn.Sequential()
        for count, base in zip(BLOCKS, V2_CHANNELS, strict=True):
            out_channels = given.channels(base, 2)
            self.stages.append(_DownUnitV2(channels, out_channels, given.norm))
            self.stages.extend(_UnitV2(out_channels, given.norm) for _ in range(count - 1))
            channels = out_channels
        last_channels = given.channels(V2_LAST_CHANNELS)
        self.last = conv_norm_relu(channels, last_channels, 1, given.norm)
        self.head = nn.Linear(last_channels, given.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(pooled(self.last(self.stages(self.stem(images)))))
        return logits


class _UnitV2(nn.Module):
    """Figure 3c: half of the channels pass untouched."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        half = channels // 2
        self.branch = _branch(half, half, 1, norm)

    def forward(self, features: Tensor) -> Tensor:
        kept, changed = features.chunk(2, dim=1)
        return shuffle_channels(torch.cat([kept, self.branch(changed)], dim=1), 2)


class _DownUnitV2(nn.Module):
    """Figure 3d: both branches see all channels and halve the image."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        half = out_channels // 2
        self.shortcut = nn.Sequential(
            conv_norm(in_channels, in_channels, 3, norm, stride=2, groups=in_channels),
            conv_norm_relu(in_channels, half, 1, norm),
        )
        self.branch = _branch(in_channels, half, 2, norm)

    def forward(self, features: Tensor) -> Tensor:
        return shuffle_channels(torch.cat([self.shortcut(features), self.branch(features)], dim=1), 2)


def _branch(in_channels: int, channels: int, stride: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        conv_norm_relu(in_channels, channels, 1, norm),
        conv_norm(channels, channels, 3, norm, stride=stride, groups=channels),
        conv_norm_relu(channels, channels, 1, norm),
    )


def _stem(given: Settings, channels: int) -> nn.Sequential:
    kernel = 1 if given.stem_stride == 1 else 3
    return conv_norm_relu(given.in_channels, channels, kernel, given.norm, stride=given.stem_stride)
