"""Decoupled knowledge distillation: the label's share and the division of the rest, weighted apart."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator.distillation.logit_loss import Lesson, LogitLoss


class DecoupledKD(LogitLoss):
    """DKD (Zhao et al. 2022, "Decoupled Knowledge Distillation", arXiv 2203.08679), with a temperature per sample.

    With p the target and q = softmax(v / tau_x), p_y and q_y their values at the label y, and p^, q^ what they give to
    the other classes, divided by its sum (1 - p_y and 1 - q_y):

        tckd_x = tau_x^2 * (p_y log(p_y / q_y) + (1 - p_y) log((1 - p_y) / (1 - q_y)))
        nckd_x = tau_x^2 * KL(p^ || q^)
        loss = alpha * mean_x[tckd_x] + beta * mean_x[nckd_x]

    Standard KD is alpha = 1 with 1 - p_y, of each sample, in the place of beta. A target with nothing off the label
    divides nothing: its nckd is 0, as it is with one class. The target may be adjusted; y is the sample's label in any
    case.

    Args:
        alpha: weight of the term for the label against the rest (TCKD).
        beta: weight of the term between the other classes (NCKD).

    Raises:
        ValueError: a weight is negative or not finite.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 8.0) -> None:
        super().__init__(tckd=alpha, nckd=beta)

    def terms(self, lesson: Lesson) -> Mapping[str, Tensor]:
        student, label = lesson.soften_student(), lesson.target[:, None]
        if student.shape[1] == 1:
            nothing = 0 * student.sum(dim=1)
            return {"tckd": nothing, "nckd": nothing}
        teacher = lesson.finite_log_probs_teacher()
        label_or_rest_student, others_student = _decouple(student, label)
        with torch.no_grad():
            label_or_rest_teacher, others_teacher = _decouple(teacher, label)
            divides = label_or_rest_teacher[:, 1] > torch.finfo(teacher.dtype).min
        scale = lesson.temperature.to(student.dtype).square()
        nckd = _divergence(others_teacher, others_student)
        return {
            "tckd": scale * _divergence(label_or_rest_teacher, label_or_rest_student),
            "nckd": scale * torch.where(divides, nckd, 0),
        }


def _decouple(log_probs: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Logs of (p_y, 1 - p_y), [B, 2], and of p^, [B, C] with 0 at the label, where it is no probability."""
    others = log_probs.scatter(1, label, -math.inf)
    label_or_rest = torch.cat([log_probs.gather(1, label), others.logsumexp(dim=1, keepdim=True)], dim=1)
    return label_or_rest, functional.log_softmax(others, dim=1).scatter(1, label, 0)


def _divergence(target: Tensor, log_probs: Tensor) -> Tensor:
    """KL(target || probs) of each row, both as finite logs; entries that are equal add nothing."""
    return functional.kl_div(log_probs, target, reduction="none", log_target=True).sum(dim=1)
