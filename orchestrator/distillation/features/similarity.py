"""Similarity preserving (Tung and Mori, "Similarity-preserving knowledge distillation", 2019)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import DefaultLayers, FeatureLoss
from orchestrator.distillation.features.shapes import as_vectors


def similarity(vectors: Tensor) -> Tensor:
    """[B, B]: inner products of all pairs of [B, D], each row scaled to length 1 (equations 1 to 3)."""
    return functional.normalize(vectors @ vectors.T, dim=1)


class SimilarityPreserving(FeatureLoss):
    """||G(s) - G(t)||_F^2 / B^2, summed over layers (equation 4); G is `similarity`, B the global batch.

    No parameters, any shapes. A batch of one has nothing to compare and a loss of 0.
    """

    default_layers: ClassVar[DefaultLayers] = "last"

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        total = student[0].new_zeros(())
        for s, t in zip(student, teacher, strict=True):
            s, t = (batch.workers.gather(as_vectors(features)) for features in (s, t))
            total = total + (similarity(s) - similarity(t)).square().mean()
        return total
