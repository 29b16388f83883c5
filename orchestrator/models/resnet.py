"""Residual networks for small images (He et al., "Deep Residual Learning", 2016, section 4.2).

Depth 6n + 2: a 3x3 stem, three stages of n two-layer blocks with 16, 32 and 64 channels, a global average
pool and a linear layer. Shortcuts that change shape are 1x1 convolutions, as in the networks of the
distillation literature; the paper pads with zeros instead.
"""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from orchestrator.models.norm import make_norm

STAGE_CHANNELS = (16, 32, 64)


class ResNet(nn.Module):
    """Maps images [B, in_channels, H, W] to logits [B, num_classes], for any H and W.

    Args:
        depth: layers with weights on the main path, 6n + 2 with n >= 1.
        num_classes, in_channels, width, norm, stem_stride: see `orchestrator.models.build_model`. A stage's
            channels times `width` are rounded, to 1 at least.

    Raises:
        ValueError: an argument is out of its range.
    """

    feature_layers: tuple[str, ...]
    """The block that ends each stage, shallow to deep; it puts out maps [B, channels, h, w], after the ReLU."""
    classifier_layer = "head"
    """The linear layer; it reads the pooled features [B, channels]."""

    def __init__(
        self,
        depth: int,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        norm: str = "batch",
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        blocks_per_stage, rest = divmod(depth - 2, 6)
        if rest or blocks_per_stage < 1:
            raise ValueError(f"depth must be 6n + 2 with n >= 1, got {depth}")
        if not 0 < width < math.inf:
            raise ValueError(f"width must be finite and > 0, got {width}")
        for name, value in (
            ("num_classes", num_classes),
            ("in_channels", in_channels),
            ("stem_stride", stem_stride),
        ):
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")

        stage_channels = [max(1, round(channels * width)) for channels in STAGE_CHANNELS]
        channels = stage_channels[0]
        self.stem = _conv_norm(in_channels, channels, 3, stem_stride, norm)
        self.stages = nn.Sequential()
        for stage, out_channels in enumerate(stage_channels):
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(_Block(channels, out_channels, stride, norm))
                channels = out_channels
        self.feature_layers = tuple(f"stages.{blocks_per_stage * stage - 1}" for stage in (1, 2, 3))
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(functional.relu(self.stem(images)))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.first = _conv_norm(in_channels, out_channels, 3, stride, norm)
        self.second = _conv_norm(out_channels, out_channels, 3, 1, norm)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = _conv_norm(in_channels, out_channels, 1, stride, norm) if changes_shape else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        residual = self.second(functional.relu(self.first(features)))
        return functional.relu(residual + self.shortcut(features))


def _conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        make_norm(norm, out_channels),
    )


resnet8 = partial(ResNet, 8)
resnet14 = partial(ResNet, 14)
resnet20 = partial(ResNet, 20)
resnet32 = partial(ResNet, 32)
resnet44 = partial(ResNet, 44)
resnet56 = partial(ResNet, 56)
resnet110 = partial(ResNet, 110)
