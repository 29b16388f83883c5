"""What every function of this package asks of its logits: shape and precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_VARIANCE_FLOOR = 1e-7


def at_least_float32(logits: Tensor) -> Tensor:
    """`logits` as float32, or unchanged where they are float32 or float64; carries gradient."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def standardise(logits: Tensor) -> Tensor:
    """Logit standardisation (Sun et al. 2024, arXiv 2403.01427): z = (v - mean(v)) / sqrt(var(v) + 1e-7).

    Mean and variance (the population's, over C and not C - 1) run over the classes of a sample. Student and teacher
    then differ in the relations of their logits alone, not in their level or range; equal logits, or one class, give
    zeros. [B, C] to [B, C], float32 (float64 for float64); carries gradient.
    """
    logits = at_least_float32(logits)
    return functional.layer_norm(logits, logits.shape[1:], eps=_VARIANCE_FLOOR)


def check_logits(**logits: Tensor) -> None:
    """Raises `ValueError` unless every argument is [B, C], with the same B and C."""
    for name, values in logits.items():
        if values.dim() != 2:
            raise ValueError(f"{name} must have shape [B, C], got {list(values.shape)}")
    if len({values.shape for values in logits.values()}) > 1:
        shapes = " and ".join(str(list(values.shape)) for values in logits.values())
        raise ValueError(f"{' and '.join(logits)} must have the same shape [B, C], got {shapes}")


def check_target(logits: Tensor, target: Tensor) -> None:
    """Raises `ValueError` unless `target` is [B] for logits [B, C]."""
    if target.shape != logits.shape[:1]:
        raise ValueError(
            f"target must have shape [B] for logits [B, C], got {list(target.shape)} and {list(logits.shape)}"
        )
