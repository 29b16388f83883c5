"""A small spec with a search of one's own, and what becomes of it."""

from typing import Any

import pytest

from orchestrator.errors import Problem, SpecError
from orchestrator.spec import ExperimentSpec, load_spec
from orchestrator.spec.variants import Variant, variants

BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "distillation": {"temperature": {"method": "flsw", "beta": 20, "base": 4, "min": 1, "max": 12}},
    "training": {"epochs": 10, "optimizer": {"lr": 0.1}},
}
LR = {"type": "loguniform", "low": 0.01, "high": 0.2}
TEMPERATURE = "distillation.temperature"


def spec_with(**search: Any) -> ExperimentSpec:
    return load_spec(BASE | {"search": {"sampler": "random", **search}})


def arms(**search: Any) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants(spec_with(**search))}


def refused(**search: Any) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        spec_with(**search)
    return caught.value.problems


def uniform(low: float, high: float) -> dict[str, Any]:
    return {"type": "uniform", "low": low, "high": high}


def choice(*values: Any) -> dict[str, Any]:
    return {"type": "choice", "values": list(values)}
