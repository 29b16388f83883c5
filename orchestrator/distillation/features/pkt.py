"""Probabilistic knowledge transfer (Passalis and Tefas, "Learning deep representations with PKT", 2018)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import DefaultLayers, FeatureLoss
from orchestrator.distillation.features.shapes import as_vectors

_SMALLEST = 1e-7
"""Added to probabilities before their logarithm, as opposite vectors have none."""


def neighbour_probabilities(vectors: Tensor) -> Tensor:
    """[B, B]: row x holds the probability of each other sample as its neighbour; 0 on the diagonal.

    In proportion to (1 + cosine) / 2 of the rows of [B, D] (equations 3, 4 and 9).
    """
    unit = functional.normalize(vectors, dim=1)
    kernel = ((1 + unit @ unit.T) / 2).clamp(min=0)
    others = kernel * (1 - torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device))
    return others / others.sum(1, keepdim=True).clamp(min=_SMALLEST)


class ProbabilisticTransfer(FeatureLoss):
    """sum_xy p_xy(t) * log(p_xy(t) / p_xy(s)) / B^2, summed over layers (equation 8).

    p are the `neighbour_probabilities` in the global batch of B samples; dividing by B^2 goes with the usual
    weight of 30000. No parameters, any shapes. A batch of one has no neighbours and a loss of 0.
    """

    default_layers: ClassVar[DefaultLayers] = "embedding"

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        total = student[0].new_zeros(())
        for pair in zip(student, teacher, strict=True):
            p_s, p_t = (neighbour_probabilities(batch.workers.gather(as_vectors(features))) for features in pair)
            total = total + (p_t * ((p_t + _SMALLEST).log() - (p_s + _SMALLEST).log())).mean()
        return total
