"""Variational information distillation (Ahn et al., 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import FeatureLoss, Setup
from orchestrator.distillation.features.shapes import as_maps, channels, pointwise, same_places

_SMALLEST_VARIANCE = 1e-5


class Variational(FeatureLoss):
    """mean over samples, channels and places of (log var_c + (t - mu(s))^2 / var_c) / 2, summed over layers.

    The negative log-likelihood of the teacher's features under a Gaussian (equations 5 and 6), without its
    constant. mu is three 1x1 convolutions with ReLUs between; the variance of each of the teacher's channels is
    learned, as softplus(rho_c) + 1e-5. Both maps are averaged to the smaller size. The loss can be negative.

    Args:
        initial_variance: of all channels, finite and above 1e-5.
    """

    def __init__(self, setup: Setup, *, initial_variance: float = 5.0) -> None:
        super().__init__(setup)
        if not _SMALLEST_VARIANCE < initial_variance < math.inf:
            raise ValueError(f"initial_variance must be finite and > {_SMALLEST_VARIANCE}, got {initial_variance}")
        rho = initial_variance - _SMALLEST_VARIANCE
        rho += math.log(-math.expm1(-rho))
        self.means = nn.ModuleList(_mean(channels(s), channels(t)) for s, t in setup.pairs)
        self.rhos = nn.ParameterList(torch.full((channels(t), 1, 1), rho) for _, t in setup.pairs)

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        per_sample = student[0].new_zeros(len(student[0]))
        for mean, rho, s, t in zip(self.means, self.rhos, student, teacher, strict=True):
            s, t = same_places(as_maps(s), as_maps(t))
            variance = functional.softplus(rho) + _SMALLEST_VARIANCE
            terms = (variance.log() + (t - mean(s)).square() / variance) / 2
            per_sample = per_sample + terms.mean((1, 2, 3))
        return batch.workers.share_of_mean(per_sample)


def _mean(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        pointwise(in_channels, out_channels, bias=False),
        nn.ReLU(),
        pointwise(out_channels, out_channels, bias=False),
        nn.ReLU(),
        pointwise(out_channels, out_channels, bias=False),
    )
