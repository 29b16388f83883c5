"""Temperatures: one constant, or one per sample by dynamic temperature distillation (DTD).

DTD (from the paper) gives a confusing sample a lower temperature, so a sharper target:

    tau_x = clamp(base + beta * (mean_j(w_j) - w_x), min, max)

where the weight w_x grows with confusion and the mean runs over the global batch. Nothing here carries
gradient: weights and temperatures are constants of the loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator.distillation._logits import at_least_float32, check_logits

Normalize = Literal["l2", "softmax"]
GlobalMean = Callable[[Tensor], Tensor]
"""Maps this worker's weights [B_local] to their mean over the global batch, a scalar tensor."""

LOWEST, HIGHEST = 1e-3, 1e3
"""Temperatures beyond these leave a target of one class or of none; far beyond, float32 has no finite loss."""
MAX_BETA, MAX_GAMMA = 1e6, 16.0
"""Up to these no weight or temperature overflows float32."""


@torch.no_grad()
def flsw_weights(logits_student: Tensor, logits_teacher: Tensor, gamma: float, normalize: Normalize = "l2") -> Tensor:
    """Focal-loss-style weights of the paper: w_x = (1 - v.t)^gamma, with v and t normalised over classes.

    Args:
        logits_student: [B, C].
        logits_teacher: [B, C], the teacher's own, before any adjustment.
        gamma: exponent, 0 to `MAX_GAMMA`; at 0 every weight is exactly 1.
        normalize: "l2" divides logits by their Euclidean norm, so v.t is the cosine and w lies in
            [0, 2^gamma]; "softmax" takes probabilities, and w lies in [0, 1].

    Returns:
        [B], without gradient; large where student and teacher disagree.

    Raises:
        ValueError: shapes differ, or a setting is out of its range.
    """
    check_logits(logits_student=logits_student, logits_teacher=logits_teacher)
    _check_flsw(gamma, normalize)
    over_classes = functional.normalize if normalize == "l2" else torch.softmax
    agreement = (
        over_classes(at_least_float32(logits_student), dim=1) * over_classes(at_least_float32(logits_teacher), dim=1)
    ).sum(dim=1)
    # Rounding puts the cosine of equal directions a little above 1, and a power of a negative is NaN.
    return (1 - agreement).clamp(0, 2).pow(gamma)


@torch.no_grad()
def cwsm_weights(logits_student: Tensor) -> Tensor:
    """Confidence weights by student max of the paper: w_x = 1 / max_c softmax(v)_c.

    Args:
        logits_student: [B, C].

    Returns:
        [B] in [1, C], without gradient; large where the student is unsure.

    Raises:
        ValueError: the logits are not [B, C].
    """
    check_logits(logits_student=logits_student)
    return 1 / torch.softmax(at_least_float32(logits_student), dim=1).amax(dim=1)


@torch.no_grad()
def dynamic_temperature(
    weights: Tensor, base: float, beta: float, min: float, max: float, mean: Tensor | float | None = None
) -> Tensor:
    """The DTD temperature of the paper, bounded: tau_x = clamp(base + beta * (mean - w_x), min, max).

    Args:
        weights: [B], w.
        base: temperature of a sample of average weight.
        beta: temperature units per unit of weight, at most `MAX_BETA` in size; at 0 every tau is exactly `base`.
        min, max: bounds of tau, `LOWEST` <= min <= base <= max <= `HIGHEST`.
        mean: mean weight of the global batch, scalar; None takes the mean of `weights`.

    Returns:
        tau [B], without gradient.

    Raises:
        ValueError: a setting is out of its range.
    """
    _check_bounds(base, min, max)
    _check_beta(beta)
    weights = at_least_float32(weights)
    return _unclamped(weights, base, beta, weights.mean() if mean is None else mean).clamp(min, max)


def _unclamped(weights: Tensor, base: float, beta: float, mean: Tensor | float) -> Tensor:
    return base + beta * (mean - weights)


class SampleTemperatures(NamedTuple):
    """Temperatures of a batch and what the bounds did to them; each is [B], without gradient."""

    tau: Tensor
    clamped_low: Tensor
    """bool: the lower bound raised the temperature; one that falls on it by itself is not clamped."""
    clamped_high: Tensor
    """bool: the upper bound lowered the temperature."""


class Temperature(ABC):
    """How soft the target of each sample is.

    The criterion calls the object once per training batch, on every worker, before the teacher's logits are
    adjusted. An extension implements `unclamped`; the bounds are applied here, so that no rule can
    return a temperature that is zero, negative or unbounded.

    Args:
        base: temperature of a sample that the rule treats as average.
        min, max: bounds of tau, `LOWEST` <= min <= base <= max <= `HIGHEST`.

    Raises:
        ValueError: the bounds are out of order or out of range.
    """

    def __init__(self, base: float, min: float, max: float) -> None:
        _check_bounds(base, min, max)
        self.base = base
        self.bounds = (min, max)

    @abstractmethod
    def unclamped(self, logits_student: Tensor, logits_teacher: Tensor, global_mean: GlobalMean) -> Tensor:
        """Temperatures [B] before the bounds, in float32 or float64; called once per batch under `no_grad`.

        `global_mean` communicates between workers: call it equally often on each, whatever the data.
        """

    @torch.no_grad()
    def __call__(
        self, logits_student: Tensor, logits_teacher: Tensor, global_mean: GlobalMean = torch.mean
    ) -> SampleTemperatures:
        """Temperatures of this worker's samples.

        Args:
            logits_student: [B, C].
            logits_teacher: [B, C], the teacher's own, before any adjustment.
            global_mean: mean of a [B] over the global batch; the default is right for one worker.
        """
        unclamped = self.unclamped(logits_student, logits_teacher, global_mean)
        low, high = self.bounds
        return SampleTemperatures(unclamped.clamp(low, high), unclamped < low, unclamped > high)


class ConstantTemperature(Temperature):
    """The same temperature for all samples: standard KD (Hinton et al. 2015)."""

    def __init__(self, base: float) -> None:
        super().__init__(base, base, base)

    def unclamped(self, logits_student: Tensor, logits_teacher: Tensor, global_mean: GlobalMean) -> Tensor:
        dtype = torch.promote_types(logits_student.dtype, torch.float32)
        return logits_student.new_full(logits_student.shape[:1], self.base, dtype=dtype)


class WeightedTemperature(Temperature):
    """DTD for any weights: see `dynamic_temperature`; an extension implements `weights`.

    Args:
        base, min, max: as for `Temperature`.
        beta: temperature units per unit of weight.
        divide_by_mean: divide the weights by their global mean ("batch-wise normalised weights" in the
            paper), so that one beta suits weights of any scale. Weights that are all zero stay zero.
    """

    def __init__(self, base: float, beta: float, min: float, max: float, divide_by_mean: bool) -> None:
        super().__init__(base, min, max)
        _check_beta(beta)
        self.beta = beta
        self.divide_by_mean = divide_by_mean

    @abstractmethod
    def weights(self, logits_student: Tensor, logits_teacher: Tensor) -> Tensor:
        """Confusion of each sample, [B] >= 0, in float32 or float64."""

    def unclamped(self, logits_student: Tensor, logits_teacher: Tensor, global_mean: GlobalMean) -> Tensor:
        weights = self.weights(logits_student, logits_teacher)
        mean = global_mean(weights)
        if self.divide_by_mean:
            scale = torch.where(mean > 0, mean, 1)
            weights, mean = weights / scale, mean / scale
        return _unclamped(weights, self.base, self.beta, mean)


class FLSWTemperature(WeightedTemperature):
    """DTD with the weights of `flsw_weights`: samples on which student and teacher disagree are sharpened."""

    def __init__(
        self,
        base: float,
        beta: float,
        gamma: float,
        min: float,
        max: float,
        normalize: Normalize = "l2",
        divide_by_mean: bool = False,
    ) -> None:
        super().__init__(base, beta, min, max, divide_by_mean)
        _check_flsw(gamma, normalize)
        self.gamma = gamma
        self.normalize: Normalize = normalize

    def weights(self, logits_student: Tensor, logits_teacher: Tensor) -> Tensor:
        return flsw_weights(logits_student, logits_teacher, self.gamma, self.normalize)


class CWSMTemperature(WeightedTemperature):
    """DTD with the weights of `cwsm_weights`: samples of which the student is unsure are sharpened."""

    def __init__(self, base: float, beta: float, min: float, max: float, divide_by_mean: bool = False) -> None:
        super().__init__(base, beta, min, max, divide_by_mean)

    def weights(self, logits_student: Tensor, logits_teacher: Tensor) -> Tensor:
        return cwsm_weights(logits_student)


def _check_bounds(base: float, min: float, max: float) -> None:
    if not LOWEST <= min <= base <= max <= HIGHEST:
        raise ValueError(
            f"{LOWEST:g} <= min <= base <= max <= {HIGHEST:g} must hold, got min={min}, base={base}, max={max}"
        )


def _check_beta(beta: float) -> None:
    if not -MAX_BETA <= beta <= MAX_BETA:
        raise ValueError(f"beta must be {-MAX_BETA:.0f} to {MAX_BETA:.0f}, got {beta}")


def _check_flsw(gamma: float, normalize: str) -> None:
    if not 0 <= gamma <= MAX_GAMMA:
        raise ValueError(f"gamma must be 0 to {MAX_GAMMA:g}, got {gamma}")
    if normalize not in ("l2", "softmax"):
        raise ValueError(f"normalize must be 'l2' or 'softmax', got {normalize!r}")
