"""The soft-target loss of knowledge distillation, with one temperature or one per sample."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator.distillation._logits import at_least_float32, check_logits

Reduction = Literal["mean", "sum", "none"]


def kd_loss(
    logits_student: Tensor,
    logits_teacher: Tensor,
    temperature: float | Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    """Standard KD (Hinton et al. 2015, section 2): tau_x^2 * KL(softmax(t / tau_x) || softmax(v / tau_x)).

    Args:
        logits_student: [B, C]; the only argument that receives gradient.
        logits_teacher: [B, C].
        temperature: tau > 0, a float or [B]. Only a float is checked: reading a tensor stalls the device.
        reduction: over the samples: "mean", "sum", or "none" for [B].

    Returns:
        Scalar or [B], in nats times tau squared, float32 (float64 for float64 logits). Finite, with a
        finite gradient, for logits up to +-1e4; exactly 0 where student and teacher logits are equal.

    Raises:
        ValueError: shapes differ, a float temperature is not finite and > 0, or the reduction is unknown.
    """
    check_logits(logits_student=logits_student, logits_teacher=logits_teacher)
    with torch.no_grad():
        log_probs_teacher = soften(logits_teacher, temperature)
    return soft_target_loss(logits_student, log_probs_teacher, temperature, reduction)


def soft_target_loss(
    logits_student: Tensor,
    log_probs_teacher: Tensor,
    temperature: float | Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    """`kd_loss` against targets that are softened already: tau_x^2 * KL(p_x || softmax(v / tau_x)).

    Args:
        logits_student: [B, C], before the temperature; the only argument that receives gradient.
        log_probs_teacher: [B, C], log p; -inf stands for probability 0 and adds nothing (0 log 0 = 0).
        temperature, reduction: as for `kd_loss`.

    Returns:
        As `kd_loss`.

    Raises:
        ValueError: as `kd_loss`.
    """
    check_logits(logits_student=logits_student, log_probs_teacher=log_probs_teacher)
    log_probs_student = soften(logits_student, temperature)
    log_probs_teacher = log_probs_teacher.detach().to(log_probs_student.dtype)
    # exp(finfo.min) is 0 as exp(-inf) is, but its product with 0 is not NaN.
    log_probs_teacher = log_probs_teacher.clamp(min=torch.finfo(log_probs_teacher.dtype).min)
    terms = functional.kl_div(log_probs_student, log_probs_teacher, reduction="none", log_target=True)
    per_sample = _per_sample(temperature, log_probs_student).square() * terms.sum(dim=1)
    if reduction == "mean":
        return per_sample.mean()
    if reduction == "sum":
        return per_sample.sum()
    if reduction == "none":
        return per_sample
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def soften(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(logits / tau_x) over classes.

    Args:
        logits: [B, C]; receives gradient.
        temperature: tau, a float or [B]; a constant.

    Returns:
        [B, C], float32 (float64 for float64 logits).

    Raises:
        ValueError: the shapes do not fit, or a float temperature is not finite and > 0.
    """
    check_logits(logits=logits)
    logits = at_least_float32(logits)
    return functional.log_softmax(logits / _per_sample(temperature, logits)[:, None], dim=1)


def _per_sample(temperature: float | Tensor, logits: Tensor) -> Tensor:
    """The temperature as [B] in the dtype of `logits`, so that a float and a [B] give the same bits."""
    if not isinstance(temperature, Tensor):
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be finite and > 0, got {temperature}")
        return logits.new_full(logits.shape[:1], temperature)
    if temperature.shape != logits.shape[:1]:
        raise ValueError(
            "temperature must be a float or have shape [B], "
            f"got {list(temperature.shape)} for logits of shape {list(logits.shape)}"
        )
    return temperature.detach().to(logits.dtype)
