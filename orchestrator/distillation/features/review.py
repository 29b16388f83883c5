"""Knowledge review (Chen et al., "Distilling knowledge via knowledge review", 2021)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import DefaultLayers, FeatureLoss, Setup
from orchestrator.distillation.features.shapes import as_maps, channels, pointwise

MAX_WIDTH = 512
PYRAMID = (4, 2, 1)
"""Sizes in places that the hierarchical loss averages maps down to, beside their own."""

ConnectorNorm = Literal["batch", "group"]


def hierarchical_loss(first: Tensor, second: Tensor) -> Tensor:
    """[B]: mean squared difference of two [B, C, H, W] at their own size and at each smaller one of `PYRAMID`.

    A weighted mean: each level has half the weight of the one above (HCL, section 3.3).
    """
    total = (first - second).square().mean((1, 2, 3))
    weight, weights = 1.0, 1.0
    for size in PYRAMID:
        if size < min(first.shape[2:]):
            weight /= 2
            weights += weight
            coarse = [functional.adaptive_avg_pool2d(maps, size) for maps in (first, second)]
            total = total + weight * (coarse[0] - coarse[1]).square().mean((1, 2, 3))
    return total / weights


class Review(FeatureLoss):
    """mean_x sum over layers of `hierarchical_loss`(u_l(x), t_l(x)); u_l fuses the student's layers l and deeper.

    From the deepest layer to the shallowest, attention-based fusion (ABF, section 3.3) mixes a layer's features
    with what came from the deeper ones, and a 3x3 convolution brings the result to the teacher's channels. A
    vector counts as a map of one place. Public code adds the loss over the first 20 epochs.

    Args:
        norm: after each convolution: "batch", as in the paper, over this worker's samples; "group" normalises
            each sample alone, so that the result does not depend on the number of workers.
    """

    default_layers: ClassVar[DefaultLayers] = "stages_and_embedding"

    def __init__(self, setup: Setup, *, norm: ConnectorNorm = "batch") -> None:
        super().__init__(setup)
        if norm not in ("batch", "group"):
            raise ValueError(f"norm must be 'batch' or 'group', got {norm!r}")
        width = min(MAX_WIDTH, channels(setup.student[-1]))
        deepest = len(setup.pairs) - 1
        self.fusions = nn.ModuleList(
            _Fusion(channels(s), width, channels(t), norm, fuses=layer < deepest)
            for layer, (s, t) in enumerate(setup.pairs)
        )

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        per_sample = student[0].new_zeros(len(student[0]))
        deeper: Tensor | None = None
        for fusion, s, t in reversed(list(zip(self.fusions, student, teacher, strict=True))):
            t = as_maps(t)
            features, deeper = fusion(as_maps(s), deeper, (t.shape[2], t.shape[3]))
            per_sample = per_sample + hierarchical_loss(features, t)
        return batch.workers.share_of_mean(per_sample)


class _Fusion(nn.Module):
    """ABF of one layer."""

    def __init__(self, in_channels: int, width: int, out_channels: int, norm: ConnectorNorm, *, fuses: bool) -> None:
        super().__init__()
        self.narrow = nn.Sequential(pointwise(in_channels, width, bias=False), _norm(norm, width))
        self.attention = pointwise(2 * width, 2) if fuses else None
        convolution = nn.Conv2d(width, out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")
        self.widen = nn.Sequential(convolution, _norm(norm, out_channels))

    def forward(self, maps: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Features in the teacher's shape, and what goes on to the next shallower layer."""
        fused = self.narrow(maps)
        if self.attention is not None and deeper is not None:
            deeper = functional.interpolate(deeper, fused.shape[2:], mode="nearest")
            shares = self.attention(torch.cat([fused, deeper], 1)).sigmoid()
            fused = fused * shares[:, :1] + deeper * shares[:, 1:]
        resized = fused if fused.shape[2:] == size else functional.interpolate(fused, size, mode="nearest")
        return self.widen(resized), fused


class _BatchNorm(nn.Module):
    """Batch norm that only trains, so it keeps no running statistics; takes a single value, too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0, keepdim=True)
        return (maps - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias


def _norm(norm: ConnectorNorm, channels: int) -> nn.Module:
    if norm == "batch":
        return _BatchNorm(channels)
    return nn.GroupNorm(max(groups for groups in range(1, 9) if channels % groups == 0), channels)
