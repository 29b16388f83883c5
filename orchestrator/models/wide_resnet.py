"""Wide residual networks (Zagoruyko and Komodakis, "Wide Residual Networks", 2016, table 1).

Depth 6n + 4 and factor k: a 3x3 stem of 16 channels, three stages of n pre-activation blocks with 16k, 32k and 64k
channels, a norm with ReLU, a global average pool and a linear layer. There is no dropout.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from orchestrator.models.layers import Settings, initialise_convolutions, pooled, stage_ends
from orchestrator.models.norm import make_norm

STAGE_CHANNELS = (16, 32, 64)


class WideResNet(nn.Module):
    """Maps images [B, in_channels, H, W] to logits [B, num_classes], for any H and W.

    Args:
        depth: convolutions on the main path with the linear layer and the shortcuts of the stages, 6n + 4, n >= 1.
        factor: k of the paper, >= 1; widens the stages and not the stem.
        num_classes, in_channels, width, norm, stem_stride: see `orchestrator.models.build_model`; `width` scales
            the stem as well.

    Raises:
        ValueError: an argument is out of its range.
    """

    feature_layers: tuple[str, ...]
    """The block that ends each stage; it puts out the sum [B, channels, h, w] that the next norm reads, signed."""
    classifier_layer = "head"

    def __init__(self, depth: int, factor: int, **settings: Any) -> None:
        super().__init__()
        given = Settings(**settings)
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n + 4 with n >= 1, got {depth}")
        if factor < 1:
            raise ValueError(f"factor must be >= 1, got {factor}")
        channels = given.channels(STAGE_CHANNELS[0])
        self.stem = nn.Conv2d(given.in_channels, channels, 3, given.stem_stride, padding=1, bias=False)
        self.stages = nn.Sequential()
        for stage, base in enumerate(STAGE_CHANNELS):
            out_channels = given.channels(base * factor)
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                self.stages.append(_Block(channels, out_channels, stride, given.norm))
                channels = out_channels
        self.feature_layers = stage_ends([blocks] * len(STAGE_CHANNELS))
        self.norm = make_norm(given.norm, channels)
        self.head = nn.Linear(channels, given.num_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(self.stem(images))
        logits: Tensor = self.head(pooled(functional.relu(self.norm(features))))
        return logits


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.first_norm = make_norm(norm, in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.second_norm = make_norm(norm, out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes_shape else None

    def forward(self, features: Tensor) -> Tensor:
        active = functional.relu(self.first_norm(features))
        residual: Tensor = self.second(functional.relu(self.second_norm(self.first(active))))
        # A shortcut that changes shape reads the activated features, an identity the features themselves.
        return residual + (features if self.shortcut is None else self.shortcut(active))


def by_name(name: str) -> partial[WideResNet]:
    """The factory of `wrn_<depth>_<factor>`; raises `ValueError` for another form of name."""
    match = re.fullmatch(r"wrn_(\d+)_(\d+)", name)
    if match is None:
        raise ValueError(f"the name must be wrn_<depth>_<factor>, got {name!r}")
    return partial(WideResNet, int(match[1]), int(match[2]))
