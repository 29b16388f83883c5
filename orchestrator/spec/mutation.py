"""Which values a run can take in mid-training: those that neither a checkpoint nor what was decided before rests on."""

from __future__ import annotations

import re

_FREE = (
    "training.schedule",
    "training.gradient_clip",
    "distillation.ce_weight",
    "distillation.kd_weight",
    "distillation.warmup_epochs",
    "distillation.logit_standardization",
    "distillation.temperature",
    "distillation.adjustment",
    "distillation.loss",
)
_FREE_FIELDS = re.compile(
    "|".join(re.escape(path) + r"(\..+)?" for path in _FREE)
    + r"|training\.optimizer\.(?!method$).+"
    + r"|distillation\.features\.\d+\.(weight|warmup_epochs)"
)
FREE = (
    "the optimizer's numbers, training.schedule, training.gradient_clip, and of distillation its weights, temperature, "
    "adjustment and loss"
)
"""In words, for errors."""


def may_change(path: str) -> bool:
    """Whether the field or section at a dotted path can take another value when a run goes on from a checkpoint."""
    return _FREE_FIELDS.fullmatch(path) is not None
