"""Residual networks for small images (He et al., "Deep Residual Learning", 2016).

- `resnet8` to `resnet110` (section 4.2, depth 6n + 2): a 3x3 stem, three stages of n two-layer blocks with 16,
  32 and 64 channels, a global average pool and a linear layer.
- `resnet8x4` and `resnet32x4`: the same with a stem of 32 and stages of 64, 128 and 256 channels (Tian et al.,
  "Contrastive Representation Distillation", 2020).
- `resnet18`, `resnet34` and `resnet50` (table 1): four stages from 64 to 512 channels, behind a 3x3 stem
  without max-pool in place of the 7x7 one for large images. The bottleneck of `resnet50` strides in its 3x3 layer.

Shortcuts that change shape are 1x1 convolutions, as in the networks of the distillation literature; the paper
pads with zeros in section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from orchestrator.models.layers import Settings, conv_norm, initialise_convolutions, pooled, stage_ends

BOTTLENECK_EXPANSION = 4


class ResNet(nn.Module):
    """Maps images [B, in_channels, H, W] to logits [B, num_classes], for any H and W.

    Args:
        blocks: number of blocks of each stage, >= 1; every stage but the first halves the image.
        channels: channels inside the blocks of each stage, before `width`.
        stem_channels: channels of the first layer, before `width`.
        bottleneck: blocks of three layers that put out four times their inner channels.
        num_classes, in_channels, width, norm, stem_stride: see `orchestrator.models.build_model`. Channels times
            `width` are rounded, to 1 at least.

    Raises:
        ValueError: an argument is out of its range.
    """

    feature_layers: tuple[str, ...]
    """The block that ends each stage, shallow to deep; it puts out maps [B, channels, h, w], after the ReLU."""
    classifier_layer = "head"
    """The linear layer; it reads the pooled features [B, channels]."""

    def __init__(
        self,
        blocks: Sequence[int],
        channels: Sequence[int],
        stem_channels: int,
        *,
        bottleneck: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        given = Settings(**settings)
        block_kind = _Bottleneck if bottleneck else _Block
        in_channels = given.channels(stem_channels)
        self.stem = conv_norm(given.in_channels, in_channels, 3, given.norm, stride=given.stem_stride)
        self.stages = nn.Sequential()
        for stage, (count, inner) in enumerate(zip(blocks, channels, strict=True)):
            inner_channels = given.channels(inner)
            for position in range(count):
                stride = 2 if stage > 0 and position == 0 else 1
                block = block_kind(in_channels, inner_channels, stride, given.norm)
                self.stages.append(block)
                in_channels = block.out_channels
        self.feature_layers = stage_ends(list(blocks))
        self.head = nn.Linear(in_channels, given.num_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(functional.relu(self.stem(images)))
        logits: Tensor = self.head(pooled(features))
        return logits


class _Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.out_channels = channels
        self.first = conv_norm(in_channels, channels, 3, norm, stride=stride)
        self.second = conv_norm(channels, channels, 3, norm)
        self.shortcut = _shortcut(in_channels, channels, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        residual = self.second(functional.relu(self.first(features)))
        return functional.relu(residual + self.shortcut(features))


class _Bottleneck(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.out_channels = BOTTLENECK_EXPANSION * channels
        self.first = conv_norm(in_channels, channels, 1, norm)
        self.second = conv_norm(channels, channels, 3, norm, stride=stride)
        self.third = conv_norm(channels, self.out_channels, 1, norm)
        self.shortcut = _shortcut(in_channels, self.out_channels, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.relu(self.second(functional.relu(self.first(features))))
        return functional.relu(self.third(inner) + self.shortcut(features))


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return conv_norm(in_channels, out_channels, 1, norm, stride=stride)


def cifar_resnet(
    depth: int, *, channels: Sequence[int] = (16, 32, 64), stem_channels: int = 16, **settings: Any
) -> ResNet:
    """The network of 6n + 2 layers with weights on its main path; raises `ValueError` for another depth."""
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth must be 6n + 2 with n >= 1, got {depth}")
    return ResNet([blocks] * 3, channels, stem_channels, **settings)


resnet8 = partial(cifar_resnet, 8)
resnet14 = partial(cifar_resnet, 14)
resnet20 = partial(cifar_resnet, 20)
resnet32 = partial(cifar_resnet, 32)
resnet44 = partial(cifar_resnet, 44)
resnet56 = partial(cifar_resnet, 56)
resnet110 = partial(cifar_resnet, 110)

resnet8x4 = partial(cifar_resnet, 8, channels=(64, 128, 256), stem_channels=32)
resnet32x4 = partial(cifar_resnet, 32, channels=(64, 128, 256), stem_channels=32)

resnet18 = partial(ResNet, (2, 2, 2, 2), (64, 128, 256, 512), 64)
resnet34 = partial(ResNet, (3, 4, 6, 3), (64, 128, 256, 512), 64)
resnet50 = partial(ResNet, (3, 4, 6, 3), (64, 128, 256, 512), 64, bottleneck=True)
