"""Attention transfer (Zagoruyko and Komodakis, "Paying more attention to attention", 2017)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import FeatureLoss, Setup
from orchestrator.distillation.features.shapes import require_maps, same_places


def attention_map(maps: Tensor, power: float) -> Tensor:
    """[B, H * W] of length 1 for each sample: the mean over channels of |A|^power, from maps A [B, C, H, W]."""
    return functional.normalize(maps.abs().pow(power).mean(1).flatten(1), dim=1)


class AttentionTransfer(FeatureLoss):
    """mean_x ||Q(s_x) - Q(t_x)||^2 / (H * W), summed over layers; Q is `attention_map`.

    Equation 2 with the activation-based attention F^p_sum; the mean over places, and the weight of 1000 that
    goes with it, are those of the authors' code. No parameters; a larger map is averaged to the smaller size.

    Args:
        power: p of the attention, 1 to 4.
    """

    def __init__(self, setup: Setup, *, power: float = 2.0) -> None:
        super().__init__(setup)
        require_maps("attention transfer", *setup.student, *setup.teacher)
        if not 1 <= power <= 4:
            raise ValueError(f"power must be 1 to 4, got {power}")
        self.power = power

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        per_sample = student[0].new_zeros(len(student[0]))
        for pair in zip(student, teacher, strict=True):
            s, t = same_places(*pair)
            difference = attention_map(s, self.power) - attention_map(t, self.power)
            per_sample = per_sample + difference.square().mean(1)
        return batch.workers.share_of_mean(per_sample)
