"""What can be named in a spec, and where each lives; reading the names imports none of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.registry import Registry

Factory = Callable[..., Any]

MODELS: Registry[Factory] = Registry(
    "model",
    {f"resnet{depth}": f"orchestrator.models.resnet:resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110)},
)
DATASETS: Registry[Factory] = Registry(
    "dataset",
    {
        "digits": "orchestrator.data.digits:load_digits",
        "fashion-mnist": "orchestrator.data.fashion_mnist:load_fashion_mnist",
    },
)
TEMPERATURES: Registry[Factory] = Registry(
    "temperature",
    {
        "constant": "orchestrator.distillation.temperature:ConstantTemperature",
        "flsw": "orchestrator.distillation.temperature:FLSWTemperature",
        "cwsm": "orchestrator.distillation.temperature:CWSMTemperature",
    },
)
ADJUSTMENTS: Registry[Factory] = Registry(
    "adjustment",
    {
        "none": "orchestrator.distillation.adjustment:NoAdjustment",
        "probability_shift": "orchestrator.distillation.adjustment:ProbabilityShift",
        "label_smoothing": "orchestrator.distillation.adjustment:LabelSmoothing",
    },
)
OPTIMIZERS: Registry[Factory] = Registry(
    "optimizer",
    {"sgd": "orchestrator.training.optim:sgd", "adamw": "orchestrator.training.optim:adamw"},
)
SCHEDULES: Registry[Factory] = Registry(
    "schedule",
    {
        "constant": "orchestrator.training.optim:constant",
        "step": "orchestrator.training.optim:step",
        "cosine": "orchestrator.training.optim:cosine",
    },
)
