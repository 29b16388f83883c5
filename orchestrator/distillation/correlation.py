"""DIST: correlations of predictions in the place of divergences."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from orchestrator.distillation.logit_loss import Lesson, LogitLoss

_ROUNDING = 1e-6
"""Spread of values, relative to their size, that float32 cannot tell from rounding."""


class Correlation(LogitLoss):
    """DIST (Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", arXiv 2205.10536).

    With p the target and q = softmax(v / tau_x), of N samples (the global batch) and C classes, and r Pearson's
    correlation of two vectors:

        inter = mean_x[1 - r(p_x, q_x)]           over the classes of a sample
        intra = mean_c[1 - r(p_:c, q_:c)]         over the samples of a class
        loss = beta * inter + gamma * intra

    There is no factor tau^2, as in the paper's equations: a correlation does not see how flat its vectors are, so its
    gradient keeps its scale as tau grows, and tau^2 would undo that. (The authors' code has the factor; with a
    constant temperature it is the same as a beta and gamma that are tau^2 times as large.) Where either vector is
    constant, up to rounding, as it is with one class or one sample, r is 0 and without gradient.

    Args:
        beta: weight of the relations between classes (inter).
        gamma: weight of the relations within classes (intra).

    Raises:
        ValueError: a weight is negative or not finite.
    """

    def __init__(self, beta: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__(inter=beta, intra=gamma)

    def terms(self, lesson: Lesson) -> Mapping[str, Tensor]:
        student = lesson.soften_student().exp()
        teacher = lesson.log_probs_teacher.detach().to(student.dtype).exp()
        # One exchange between processes instead of two; the teacher's half has no gradient.
        both = lesson.workers.gather(torch.cat([student, teacher], dim=1))
        of_student, of_teacher = both.split(student.shape[1], dim=1)
        return {
            "inter": 1 - pearson(student, teacher),
            "intra": 1 - pearson(of_student.T, of_teacher.T).mean(),
        }


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of corresponding rows: [R, K] and [R, K] to [R] in [-1, 1]; carries gradient.

    0, without gradient, where a row is constant up to rounding.
    """
    return (_standard(first) * _standard(second)).sum(dim=1)


def _standard(rows: Tensor) -> Tensor:
    """Rows with mean 0 and length 1; zeros for rows that are constant."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    constant = length <= _ROUNDING * torch.linalg.vector_norm(rows.detach(), dim=1, keepdim=True)
    return centred / length.masked_fill(constant, math.inf)
