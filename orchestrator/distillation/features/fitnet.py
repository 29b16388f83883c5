"""Hints: the student regresses the teacher's features (Romero et al., "FitNets", 2015)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import DefaultLayers, FeatureLoss, Setup
from orchestrator.distillation.features.shapes import as_maps, channels, pointwise, same_places


class FitNet(FeatureLoss):
    """mean_x ||r(s_x) - t_x||^2 / numel(t_x), summed over layers (equation 3, with a mean for half the sum).

    r is a 1x1 convolution to the teacher's channels; both maps are averaged to the smaller size first. Public code
    with weights around 100 has a batch norm in r: without one, such weights diverge at usual learning rates.
    """

    default_layers: ClassVar[DefaultLayers] = "middle"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.regressors = nn.ModuleList(pointwise(channels(s), channels(t)) for s, t in setup.pairs)

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        per_sample = student[0].new_zeros(len(student[0]))
        for regressor, s, t in zip(self.regressors, student, teacher, strict=True):
            s, t = same_places(as_maps(s), as_maps(t))
            per_sample = per_sample + (regressor(s) - t).square().mean((1, 2, 3))
        return batch.workers.share_of_mean(per_sample)
