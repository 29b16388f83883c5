"""A small spec that many tests begin with."""

from __future__ import annotations

from typing import Any

from orchestrator.spec.experiment import assign

ALONE: dict[str, Any] = {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}
"""A variant that learns from no teacher."""
LR: dict[str, Any] = {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.2}}
_SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "training": {"epochs": 5},
    "search": {
        "sampler": "random",
        "num_samples": 2,
        "final_seeds": 3,
        "space": LR,
        "variants": {"alone": ALONE, "kd": {}},
    },
}


def small_spec(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Two variants, one of which has a teacher, with two search trials each; `changes` by dotted path."""
    return assign(_SPEC, changes or {})
