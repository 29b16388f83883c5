"""Relational KD (Park et al., "Relational knowledge distillation", 2019): distances and angles of samples."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import DefaultLayers, FeatureLoss, Setup
from orchestrator.distillation.features.shapes import as_vectors


def relations(vectors: Tensor, *, angles: bool) -> tuple[Tensor, Tensor | None]:
    """Distances [B, B] over their mean off the diagonal, and cosines [B, B, B] of all angles, from [B, D].

    `cosines[j, i, k]` is that of the angle at sample j between i and k (equations 6 to 10). Where two samples
    are equal their distance is 0 and so is every cosine that needs its direction; no gradient comes from there.
    """
    count = len(vectors)
    differences = vectors[None, :, :] - vectors[:, None, :]
    distances = torch.linalg.vector_norm(differences, dim=2)
    mean = distances.sum() / max(1, count * (count - 1))
    scaled = distances / torch.where(mean > 0, mean, 1)
    if not angles:
        return scaled, None
    directions = differences / torch.where(distances > 0, distances, 1)[:, :, None]
    return scaled, directions @ directions.transpose(1, 2)


class Relational(FeatureLoss):
    """distance_weight * mean_ij huber(d_ij(s) - d_ij(t)) + angle_weight * mean_ijk huber(a_ijk(s) - a_ijk(t)).

    d and a are the `relations` of the global batch (equations 5 to 10), huber has its corner at 1; summed over
    layers. No parameters, any shapes. The angles take B^3 values, of the global batch, on every worker.

    Args:
        distance_weight, angle_weight: finite, >= 0 and not both 0; the defaults are the paper's for metric
            learning and those that public code uses in classification.
    """

    default_layers: ClassVar[DefaultLayers] = "embedding"

    def __init__(self, setup: Setup, *, distance_weight: float = 25.0, angle_weight: float = 50.0) -> None:
        super().__init__(setup)
        for name, weight in (("distance_weight", distance_weight), ("angle_weight", angle_weight)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {weight}")
        if distance_weight == 0 == angle_weight:
            raise ValueError("distance_weight and angle_weight must not both be 0")
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        total = student[0].new_zeros(())
        for pair in zip(student, teacher, strict=True):
            (d_s, a_s), (d_t, a_t) = (
                relations(batch.workers.gather(as_vectors(features)), angles=self.angle_weight > 0) for features in pair
            )
            total = total + self.distance_weight * functional.smooth_l1_loss(d_s, d_t)
            if a_s is not None and a_t is not None:
                total = total + self.angle_weight * functional.smooth_l1_loss(a_s, a_t)
        return total
