"""Bringing features of two networks to one shape."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from orchestrator.distillation.features.base import Shape


def require_maps(method: str, *shapes: Shape) -> None:
    """Raises `ValueError` where a shape is a vector's, for methods that compare places in an image."""
    for shape in shapes:
        if len(shape) != 3:
            raise ValueError(f"{method} compares places in maps (C, H, W), and a layer gives vectors {tuple(shape)}")


def as_maps(features: Tensor) -> Tensor:
    """Maps as they are; vectors [B, D] as maps [B, D, 1, 1]."""
    return features[:, :, None, None] if features.dim() == 2 else features


def as_vectors(features: Tensor) -> Tensor:
    """[B, D] of all values of a sample."""
    return features.flatten(1)


def pooled(features: Tensor) -> Tensor:
    """[B, C]: vectors as they are, maps averaged over places."""
    return features.flatten(2).mean(2) if features.dim() == 4 else features


def same_places(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps averaged down to the smaller height and the smaller width of the two."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    return _averaged(first, size), _averaged(second, size)


def channels(shape: Shape) -> int:
    """C of a map, D of a vector."""
    return shape[0]


def pointwise(in_channels: int, out_channels: int, *, bias: bool = True) -> nn.Conv2d:
    """A 1x1 convolution, which is a linear layer at each place."""
    layer = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[2:] == size else functional.adaptive_avg_pool2d(maps, size)
