"""Neuron selectivity transfer (Huang and Wang, "Like what you like", 2017)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import FeatureLoss, Setup
from orchestrator.distillation.features.shapes import require_maps, same_places


def squared_mmd(first: Tensor, second: Tensor) -> Tensor:
    """[B]: squared maximum mean discrepancy of the rows of [B, M, D] and [B, N, D], kernel k(x, y) = (x . y)^2.

    The mean of k over pairs is an inner product of the D x D second moments of the rows, so the distance is
    that of the two moments; where the rows are fewer than their values, the three means themselves are cheaper.
    """
    rows = first.shape[1] + second.shape[1]
    if first.shape[2] <= rows:
        moments = [values.transpose(1, 2) @ values / values.shape[1] for values in (first, second)]
        return (moments[0] - moments[1]).square().sum((1, 2))
    return _mean_kernel(first, first) + _mean_kernel(second, second) - 2 * _mean_kernel(first, second)


def _mean_kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.transpose(1, 2)).square().mean((1, 2))


class NeuronSelectivity(FeatureLoss):
    """mean_x MMD^2 between the activations of the student's and of the teacher's channels, summed over layers.

    Each channel's map of H * W values, scaled to length 1, is one sample of a distribution (equation 7; the
    polynomial kernel with d = 2, c = 0). No parameters, any numbers of channels; a larger map is averaged to the
    smaller size.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        require_maps("neuron selectivity transfer", *setup.student, *setup.teacher)

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        per_sample = student[0].new_zeros(len(student[0]))
        for pair in zip(student, teacher, strict=True):
            s, t = (functional.normalize(maps.flatten(2), dim=2) for maps in same_places(*pair))
            per_sample = per_sample + squared_mmd(s, t)
        return batch.workers.share_of_mean(per_sample)
