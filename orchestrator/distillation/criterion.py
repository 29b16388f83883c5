"""The training loss: cross entropy plus distillation, with temperature and adjustment plugged in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator import names
from orchestrator.distillation._logits import at_least_float32, check_logits, check_target
from orchestrator.distillation.adjustment import Adjustment, wrong_predictions
from orchestrator.distillation.batch import ALONE, Mix, Workers
from orchestrator.distillation.losses import soft_target_loss, soften
from orchestrator.distillation.temperature import Temperature


@dataclass(frozen=True)
class CriterionOutput:
    """Loss of one batch and its parts. All but `total` is detached; [B] fields are None without a teacher."""

    total: Tensor
    """Scalar, ce_weight * loss_ce + kd_weight * loss_kd; carries gradient to the student's logits."""
    loss_ce: Tensor
    """Scalar, unweighted, in nats."""
    loss_kd: Tensor
    """Scalar, unweighted, in nats times temperature squared; 0 without a teacher."""
    temperature: Tensor | None = None
    """[B], after the bounds."""
    clamped_low: Tensor | None = None
    """bool [B]: the lower bound raised the temperature; one that falls on it by itself is not clamped."""
    clamped_high: Tensor | None = None
    """bool [B]: the upper bound lowered the temperature."""
    wrong: Tensor | None = None
    """bool [B]: the teacher's largest logit is off the label."""
    adjusted: Tensor | None = None
    """bool [B]: the adjustment rule changed the target."""

    @property
    def parts(self) -> dict[str, Tensor]:
        """Scalars of this batch by the name they are logged under (losses without their "train/").

        `temperature/clamped_*` are shares of the batch, 0 to 1; `adjustment/*` are counts. Without a teacher
        both groups are missing.
        """
        parts = {_LOSS_CE: self.loss_ce, _LOSS_KD: self.loss_kd}
        if self.temperature is not None:
            parts[names.TEMPERATURE_MEAN] = self.temperature.mean()
            parts[names.TEMPERATURE_MIN] = self.temperature.min()
            parts[names.TEMPERATURE_MAX] = self.temperature.max()
        if self.clamped_low is not None:
            parts[names.TEMPERATURE_CLAMPED_LOW] = self.clamped_low.float().mean()
        if self.clamped_high is not None:
            parts[names.TEMPERATURE_CLAMPED_HIGH] = self.clamped_high.float().mean()
        if self.wrong is not None:
            parts[names.ADJUSTMENT_WRONG] = self.wrong.sum()
        if self.adjusted is not None:
            parts[names.ADJUSTMENT_ADJUSTED] = self.adjusted.sum()
        return parts


_LOSS_CE = names.TRAIN_LOSS_CE.removeprefix("train/")
_LOSS_KD = names.TRAIN_LOSS_KD.removeprefix("train/")


class Criterion:
    """loss = ce_weight * CE(v, y) + kd_weight * mean_x[tau_x^2 * KL(target_x || softmax(v / tau_x))].

    The training loop calls it once per batch. The temperature sees the teacher's own logits; after that the
    adjustment repairs the target.

    Args:
        ce_weight: weight of the cross entropy with the labels, finite and >= 0.
        kd_weight: weight of the distillation loss, finite and >= 0; at 0 no teacher is needed.
        temperature: gives tau.
        adjustment: repairs wrong targets.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    def __init__(self, ce_weight: float, kd_weight: float, temperature: Temperature, adjustment: Adjustment) -> None:
        for name, weight in (("ce_weight", ce_weight), ("kd_weight", kd_weight)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {weight}")
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.adjustment = adjustment

    @property
    def needs_teacher(self) -> bool:
        """Whether calls must bring teacher logits."""
        return self.kd_weight > 0

    def __call__(
        self,
        logits_student: Tensor,
        logits_teacher: Tensor | None,
        target: Tensor,
        *,
        workers: Workers = ALONE,
        mix: Mix | None = None,
    ) -> CriterionOutput:
        """The loss of one process's samples: see `Workers.share_of_mean` for how processes' losses add up.

        Args:
            logits_student: [B, C]; the only argument that receives gradient.
            logits_teacher: [B, C], or None where `needs_teacher` is False.
            target: [B], labels.
            workers: how the global batch is spread over processes.
            mix: second labels, where images are blended from two.

        Returns:
            Losses in float32 (float64 for float64 logits), also under autocast.

        Raises:
            ValueError: the shapes do not fit, or the teacher is missing.
        """
        check_logits(logits_student=logits_student)
        check_target(logits_student, target)
        logits_student = at_least_float32(logits_student)
        loss_ce = workers.share_of_mean(functional.cross_entropy(logits_student, target, reduction="none"))
        if logits_teacher is None:
            if self.needs_teacher:
                raise ValueError(f"logits_teacher is None, but kd_weight is {self.kd_weight} and needs them")
            loss_ce_only = loss_ce.detach()
            return CriterionOutput(self.ce_weight * loss_ce, loss_ce_only, torch.zeros_like(loss_ce_only))

        check_logits(logits_student=logits_student, logits_teacher=logits_teacher)
        with torch.no_grad():
            tau, clamped_low, clamped_high = self.temperature(logits_student, logits_teacher, workers.mean)
            wrong = wrong_predictions(logits_teacher, target)
            log_probs = soften(self.adjustment.adjust_logits(logits_teacher, target), tau)
            log_probs = self.adjustment.adjust_log_probs(log_probs, wrong, target)
            adjusted = self.adjustment.adjusted(wrong)
        loss_kd = workers.share_of_mean(soft_target_loss(logits_student, log_probs, tau, "none"))
        return CriterionOutput(
            total=self.ce_weight * loss_ce + self.kd_weight * loss_kd,
            loss_ce=loss_ce.detach(),
            loss_kd=loss_kd.detach(),
            temperature=tau,
            clamped_low=clamped_low,
            clamped_high=clamped_high,
            wrong=wrong,
            adjusted=adjusted,
        )
