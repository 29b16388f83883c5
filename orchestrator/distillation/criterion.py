"""The training loss: cross entropy plus distillation, with temperature and adjustment plugged in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator import names
from orchestrator.distillation._logits import at_least_float32, check_logits, check_target, standardise
from orchestrator.distillation.adjustment import Adjustment, wrong_predictions
from orchestrator.distillation.batch import ALONE, Mix, Workers
from orchestrator.distillation.logit_loss import Lesson, LogitLoss, SoftTargets
from orchestrator.distillation.losses import soften
from orchestrator.distillation.temperature import Temperature
from orchestrator.distillation.warmup import risen


@dataclass(frozen=True)
class CriterionOutput:
    """Loss of one batch and its parts. All but `total` is detached; [B] fields are None without a teacher."""

    total: Tensor
    """Scalar, ce_weight * loss_ce + kd_weight * loss_kd; carries gradient to the student's logits."""
    loss_ce: Tensor
    """Scalar, unweighted, in nats."""
    loss_kd: Tensor
    """Scalar, before kd_weight, for standard KD in nats times temperature squared; 0 without a teacher."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars, the unweighted terms of loss_kd by their name; empty where it has but one."""
    temperature: Tensor | None = None
    """[B], after the bounds."""
    clamped_low: Tensor | None = None
    """bool [B]: the lower bound raised the temperature; one that falls on it by itself is not clamped."""
    clamped_high: Tensor | None = None
    """bool [B]: the upper bound lowered the temperature."""
    wrong: Tensor | None = None
    """bool [B]: the teacher's largest logit is off the label; see `wrong_predictions`."""
    adjusted: Tensor | None = None
    """bool [B]: the adjustment rule changed the target."""
    agreement: Tensor | None = None
    """bool [B]: student and teacher have the same top class, the first of several; before any adjustment."""
    label: Tensor | None = None
    """int64 [B]: the class of the sample, of a mixed one that with the larger share."""
    teacher_top: Tensor | None = None
    """int64 [B]: the teacher's top class, the first of several; before any adjustment."""

    @property
    def parts(self) -> dict[str, Tensor]:
        """Scalars of this batch by the name they are logged under (losses without their "train/").

        `temperature/clamped_*` are shares of the batch, 0 to 1, `agreement` is one in percent; `adjustment/*` are
        counts. Without a teacher there are the losses alone.
        """
        parts = {_LOSS_CE: self.loss_ce, _LOSS_KD: self.loss_kd}
        for name, term in self.terms.items():
            parts[_part(names.loss_metric(name))] = term
        if self.agreement is not None:
            parts[_part(names.TRAIN_AGREEMENT)] = 100 * self.agreement.float().mean()
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


def _part(metric: str) -> str:
    return metric.removeprefix("train/")


_LOSS_CE = _part(names.TRAIN_LOSS_CE)
_LOSS_KD = _part(names.TRAIN_LOSS_KD)


class Criterion:
    """total = ce_weight * CE(v, y) + kd_weight * loss(v, target, tau).

    The training loop calls it once per batch. The temperature sees both sides' own logits. Then the adjustment
    repairs the teacher's, which are standardised, where that is asked for, and softened; the loss compares the target
    made so with the student's logits, standardised likewise. Standardising comes after the adjustment, so that a
    rule sees the teacher's own logits, and a swap of two commutes with it.

    An image that is blended from two (`Mix`) has the cross entropy share * CE(v, first) + (1 - share) * CE(v, second).
    For adjustment and loss its label is the one with the larger share; where the teacher's top class is either
    label it is right, and its target stays as it is. Temperatures depend on logits alone.

    Args:
        ce_weight: weight of the cross entropy with the labels, finite and >= 0.
        kd_weight: weight of the distillation loss, finite and >= 0; at 0 no teacher is needed.
        temperature: gives tau.
        adjustment: repairs wrong targets.
        loss: compares the student with the softened target; None is standard KD.
        standardize: whether the loss sees standardised logits; see `standardise`.
        warmup_epochs: epochs over which the weight of the distillation loss rises linearly from 0 to `kd_weight`.

    Raises:
        ValueError: a weight or the warm-up is negative or not finite.
    """

    def __init__(
        self,
        ce_weight: float,
        kd_weight: float,
        temperature: Temperature,
        adjustment: Adjustment,
        loss: LogitLoss | None = None,
        standardize: bool = False,
        warmup_epochs: float = 0.0,
    ) -> None:
        for name, value in (("ce_weight", ce_weight), ("kd_weight", kd_weight), ("warmup_epochs", warmup_epochs)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value}")
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.adjustment = adjustment
        self.loss = SoftTargets() if loss is None else loss
        self.standardize = standardize
        self.warmup_epochs = warmup_epochs

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
        progress: float = math.inf,
    ) -> CriterionOutput:
        """The loss of one process's samples: see `Workers.share_of_mean` for how processes' losses add up.

        Args:
            logits_student: [B, C]; the only argument that receives gradient.
            logits_teacher: [B, C], or None where `needs_teacher` is False.
            target: [B], labels.
            workers: how the global batch is spread over processes.
            mix: second labels, where images are blended from two.
            progress: epochs trained so far, for the warm-up; the default is past it.

        Returns:
            Losses in float32 (float64 for float64 logits), also under autocast; NaN where any logit is NaN or
            infinite, even one that the target leaves out.

        Raises:
            ValueError: the shapes do not fit, or the teacher is missing.
        """
        check_logits(logits_student=logits_student)
        check_target(logits_student, target)
        logits_student = at_least_float32(logits_student)
        loss_ce = workers.share_of_mean(_cross_entropy(logits_student, target, mix)) + _nothing(logits_student)
        if logits_teacher is None:
            if self.needs_teacher:
                raise ValueError(f"logits_teacher is None, but kd_weight is {self.kd_weight} and needs them")
            loss_ce_only = loss_ce.detach()
            return CriterionOutput(self.ce_weight * loss_ce, loss_ce_only, torch.zeros_like(loss_ce_only))

        check_logits(logits_student=logits_student, logits_teacher=logits_teacher)
        with torch.no_grad():
            tau, clamped_low, clamped_high = self.temperature(logits_student, logits_teacher, workers.mean)
            top = logits_teacher.argmax(dim=1)
            wrong = wrong_predictions(logits_teacher, target, mix)
            label = target if mix is None else mix.main_label(target)
            repair = label if mix is None else torch.where(wrong, label, top)
            to_soften = self.adjustment.adjust_logits(logits_teacher, repair)
            log_probs = soften(standardise(to_soften) if self.standardize else to_soften, tau)
            log_probs = self.adjustment.adjust_log_probs(log_probs, wrong, repair)
            adjusted = self.adjustment.adjusted(wrong)
            agreement = logits_student.argmax(dim=1) == top
        compared = standardise(logits_student) if self.standardize else logits_student
        loss_kd, terms = self.loss(Lesson(compared, log_probs, tau, label, workers))
        loss_kd = loss_kd + _nothing(logits_teacher)
        return CriterionOutput(
            total=self.ce_weight * loss_ce + self.kd_weight * risen(progress, self.warmup_epochs) * loss_kd,
            loss_ce=loss_ce.detach(),
            loss_kd=loss_kd.detach(),
            terms=terms if len(terms) > 1 else {},
            temperature=tau,
            clamped_low=clamped_low,
            clamped_high=clamped_high,
            wrong=wrong,
            adjusted=adjusted,
            agreement=agreement,
            label=label,
            teacher_top=top,
        )


def _nothing(logits: Tensor) -> Tensor:
    """0, without gradient; NaN where a logit is NaN or infinite, as an infinite one can leave every loss finite."""
    return at_least_float32(logits.detach()).mul(0).sum()


def _cross_entropy(logits: Tensor, target: Tensor, mix: Mix | None) -> Tensor:
    """[B] in nats, for mixed images by the share of each label."""
    first = functional.cross_entropy(logits, target, reduction="none")
    if mix is None:
        return first
    return mix.share * first + (1 - mix.share) * functional.cross_entropy(logits, mix.partner, reduction="none")
