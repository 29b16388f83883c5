"""Logits adjustment (LA, "knowledge adjustment" in the paper): repairs wrong teacher targets.

A sample is wrong where the teacher's largest logit is not at the label. Right samples pass untouched.
The teacher receives no gradient, so nothing here carries any.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orchestrator.distillation._logits import at_least_float32, check_logits, check_target
from orchestrator.distillation.batch import Mix


@torch.no_grad()
def wrong_predictions(logits_teacher: Tensor, target: Tensor, mix: Mix | None = None) -> Tensor:
    """Which samples the teacher gets wrong.

    Args:
        logits_teacher: [B, C].
        target: [B], labels.
        mix: second labels, where images are blended from two: the teacher is right about such an image if its
            largest logit is at either label whose share is above 0.

    Returns:
        bool [B]; False where the label's logit ties with the largest.

    Raises:
        ValueError: the shapes do not fit.
    """
    check_logits(logits_teacher=logits_teacher)
    check_target(logits_teacher, target)
    top = logits_teacher.amax(dim=1)
    wrong = logits_teacher.gather(1, target[:, None]).squeeze(1) < top
    if mix is None:
        return wrong
    wrong_of_partner = logits_teacher.gather(1, mix.partner[:, None]).squeeze(1) < top
    return (wrong | (mix.share <= 0)) & (wrong_of_partner | (mix.share >= 1))


@torch.no_grad()
def probability_shift(logits_teacher: Tensor, target: Tensor) -> Tensor:
    """Probability shift (PS) of the paper: swaps the values at the label and at the teacher's top class.

    Softmax commutes with permutations, so this swaps the softened probabilities at any temperature.

    Args:
        logits_teacher: [B, C], logits or probabilities.
        target: [B], labels.

    Returns:
        A new [B, C], without gradient, equal to the input where the teacher is right. Of several top
        classes the first is swapped.

    Raises:
        ValueError: the shapes do not fit.
    """
    check_logits(logits_teacher=logits_teacher)
    check_target(logits_teacher, target)
    label = target[:, None]
    top = logits_teacher.argmax(dim=1, keepdim=True)
    # Where the teacher is right both values are equal, so the swap needs no mask.
    shifted = logits_teacher.scatter(1, top, logits_teacher.gather(1, label))
    return shifted.scatter(1, label, logits_teacher.gather(1, top))


@torch.no_grad()
def label_smoothing_targets(probs_teacher: Tensor, logits_teacher: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """Label smoothing (LSR) of the paper: wrong targets become (1 - epsilon) onehot(y) + epsilon / C.

    Args:
        probs_teacher: [B, C], the softened targets.
        logits_teacher: [B, C], the teacher's own; they decide which samples are wrong.
        target: [B], labels.
        epsilon: share of probability spread over all classes, 0 to 1.

    Returns:
        A new [B, C] of probabilities, without gradient; wrong rows are the same at any temperature.

    Raises:
        ValueError: the shapes do not fit, or epsilon is outside [0, 1].
    """
    check_logits(probs_teacher=probs_teacher, logits_teacher=logits_teacher)
    wrong = wrong_predictions(logits_teacher, target)
    probs_teacher = at_least_float32(probs_teacher)
    return torch.where(wrong[:, None], _smoothed_labels(probs_teacher, target, epsilon), probs_teacher)


def _smoothed_labels(like: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """(1 - epsilon) onehot(target) + epsilon / C, in the shape [B, C] and dtype of `like`."""
    _check_epsilon(epsilon)
    share = epsilon / like.shape[1]
    return torch.full_like(like, share).scatter(1, target[:, None], 1 - epsilon + share)


class Adjustment:
    """How a wrong teacher target is repaired; this base changes nothing.

    The criterion calls each method once per training batch, under `no_grad`, in the order in which they
    stand here. A rule overrides the hook that fits it, returns new tensors, and leaves right samples alone.

    `target` is the label to repair with. Where images are blended from two, that is the label with the larger share
    for a wrong sample, and for a right one the teacher's own top class, whichever label that is.
    """

    def adjust_logits(self, logits_teacher: Tensor, target: Tensor) -> Tensor:
        """Teacher logits [B, C] to soften, from the teacher's own."""
        return logits_teacher

    def adjust_log_probs(self, log_probs_teacher: Tensor, wrong: Tensor, target: Tensor) -> Tensor:
        """Log probabilities [B, C] of the target, from the softened ones; -inf stands for probability 0.

        `wrong` is bool [B], from `wrong_predictions` on the teacher's own logits.
        """
        return log_probs_teacher

    def adjusted(self, wrong: Tensor) -> Tensor:
        """bool [B]: the samples whose target this rule changed, for the record."""
        return wrong


class NoAdjustment(Adjustment):
    """Takes the teacher at its word."""

    def adjusted(self, wrong: Tensor) -> Tensor:
        return torch.zeros_like(wrong)


class ProbabilityShift(Adjustment):
    """See `probability_shift`."""

    def adjust_logits(self, logits_teacher: Tensor, target: Tensor) -> Tensor:
        return probability_shift(logits_teacher, target)


class LabelSmoothing(Adjustment):
    """See `label_smoothing_targets`; raises `ValueError` when epsilon is outside [0, 1]."""

    def __init__(self, epsilon: float) -> None:
        _check_epsilon(epsilon)
        self.epsilon = epsilon

    def adjust_log_probs(self, log_probs_teacher: Tensor, wrong: Tensor, target: Tensor) -> Tensor:
        smoothed = _smoothed_labels(log_probs_teacher, target, self.epsilon)
        return torch.where(wrong[:, None], smoothed.log(), log_probs_teacher)


def _check_epsilon(epsilon: float) -> None:
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
