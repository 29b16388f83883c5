"""Losses between the logits of student and teacher: what each is given and what it returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.distillation._logits import at_least_float32, check_logits, check_target
from orchestrator.distillation.batch import ALONE, Workers
from orchestrator.distillation.losses import soft_target_loss, soften


@dataclass(frozen=True)
class Lesson:
    """What a logit loss compares: one process's B samples of C classes, in float32 or float64.

    Raises `ValueError` when the shapes do not fit.
    """

    logits_student: Tensor
    """[B, C], standardised where the spec asks for it, before the temperature; carries gradient."""
    log_probs_teacher: Tensor
    """[B, C], log of the target: softened and adjusted. Constant; -inf stands for probability 0."""
    temperature: Tensor
    """tau [B], constant; softens the student. The target is softened already."""
    target: Tensor
    """int64 [B], labels; of a mixed image the label with the larger share, the first where they are equal."""
    workers: Workers = ALONE

    def __post_init__(self) -> None:
        check_logits(logits_student=self.logits_student, log_probs_teacher=self.log_probs_teacher)
        check_target(self.logits_student, self.target)

    def soften_student(self) -> Tensor:
        """log softmax(v / tau_x), [B, C]; carries gradient."""
        return soften(self.logits_student, self.temperature)

    def finite_log_probs_teacher(self) -> Tensor:
        """The target with the lowest finite number for -inf, so that 0 log 0 is 0 and not NaN; [B, C]."""
        log_probs = at_least_float32(self.log_probs_teacher.detach())
        return log_probs.clamp(min=torch.finfo(log_probs.dtype).min)


class LogitLoss(ABC):
    """A weighted sum of terms between the student's logits and the softened, adjusted target.

    The criterion calls the object once per training batch, on every process. Temperature and adjustment did their
    part before, so every one of them goes with every loss. A loss implements `terms` and gives `weights`. Any finite
    logits and any target must give finite terms and gradients; NaN logits must give NaN terms.

    Args:
        weights: by term, at least one, each finite and >= 0.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    def __init__(self, **weights: float) -> None:
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"the weight of {name} must be finite and >= 0, got {weight}")
        self.weights = weights

    @abstractmethod
    def terms(self, lesson: Lesson) -> Mapping[str, Tensor]:
        """The unweighted terms, under the names of `weights`, in float32 or float64; they carry gradient.

        [B] for a term that is the mean over single samples: the mean over the global batch is taken from it. A scalar
        for one that relates samples to each other: every process returns the same, from what it has gathered.
        """

    def __call__(self, lesson: Lesson) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss as a scalar, which carries gradient, and its unweighted terms as scalars, detached.

        See `Workers.share_of_mean` for what each process holds of them.
        """
        scalars = {
            name: lesson.workers.share_of_mean(term) if term.dim() else term
            for name, term in self.terms(lesson).items()
        }
        first, *others = (self.weights[name] * scalar for name, scalar in scalars.items())
        return sum(others, first), {name: scalar.detach() for name, scalar in scalars.items()}


class SoftTargets(LogitLoss):
    """Standard KD (Hinton et al. 2015): mean_x[tau_x^2 * KL(target_x || softmax(v / tau_x))]; see `kd_loss`."""

    def __init__(self) -> None:
        super().__init__(kd=1.0)

    def terms(self, lesson: Lesson) -> Mapping[str, Tensor]:
        return {"kd": soft_target_loss(lesson.logits_student, lesson.log_probs_teacher, lesson.temperature, "none")}
