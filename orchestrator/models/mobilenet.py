"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2).

In the form of the distillation literature (Tian et al., 2020): half of the paper's channels but for the last layer,
of 1280, strides for images of 32 pixels, ReLU in place of ReLU6, and an expanding layer in the first block too.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from orchestrator.models.layers import Settings, conv_norm, conv_norm_relu, initialise_convolutions, pooled

STEM_CHANNELS = 16
LAST_CHANNELS = 1280
STAGES = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))
"""Expansion, channels, blocks, stride of each row of the table; the channels are half of the paper's."""


class MobileNetV2(nn.Module):
    """Maps images [B, in_channels, H, W] to logits [B, num_classes], for any H and W.

    Args:
        num_classes, in_channels, width, norm, stem_stride: see `orchestrator.models.build_model`. The stem's own
            stride is 2. `width` 2 gives the channels of the paper; it scales the last layer only above that, as
            the paper's multiplier does.

    Raises:
        ValueError: an argument is out of its range.
    """

    feature_layers: tuple[str, ...] = ("stages.1", "stages.2", "stages.4", "stages.6")
    """The last row of the table at each size of the maps [B, channels, h, w]; their values are signed."""
    classifier_layer = "head"

    def __init__(self, *, width: float = 1.0, **settings: Any) -> None:
        super().__init__()
        given = Settings(width=width, own_stride=2, **settings)
        channels = given.channels(STEM_CHANNELS)
        self.stem = conv_norm_relu(given.in_channels, channels, 3, given.norm, stride=given.stem_stride)
        self.stages = nn.Sequential()
        for expansion, base, count, stride in STAGES:
            row = nn.Sequential()
            for position in range(count):
                out_channels = given.channels(base)
                row.append(_Block(channels, out_channels, expansion, stride if position == 0 else 1, given.norm))
                channels = out_channels
            self.stages.append(row)
        last_channels = round(LAST_CHANNELS * max(1.0, width / 2))
        self.last = conv_norm_relu(channels, last_channels, 1, given.norm)
        self.head = nn.Linear(last_channels, given.num_classes)
        initialise_convolutions(self)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.last(self.stages(self.stem(images)))
        logits: Tensor = self.head(pooled(features))
        return logits


class _Block(nn.Module):
    """The inverted residual of figure 4: expand, filter each channel, project without activation."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int, norm: str) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = conv_norm_relu(in_channels, inner, 1, norm)
        self.filter = conv_norm_relu(inner, inner, 3, norm, stride=stride, groups=inner)
        self.project = conv_norm(inner, out_channels, 1, norm)
        self._adds_its_input = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.project(self.filter(self.expand(features)))
        return features + residual if self._adds_its_input else residual
