"""`search.metric` and `search.mode`: what configurations are chosen by, one metric or several."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Discriminator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from orchestrator import names
from orchestrator.spec.base import broken_rule

FirstMetric = Literal["val/acc1", "val/loss"]
Metric = Literal["val/acc1", "val/loss", "val/ece", "time/epoch_s", "student.parameters", "student.flops"]
SIZES = ("student.parameters", "student.flops")
"""The metrics that are known before training."""


def _form(value: Any) -> str:
    return "list" if isinstance(value, list) else "name"


def _broken(rule: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def _weighed(metrics: FirstMetric | list[Metric]) -> FirstMetric | list[Metric]:
    """A list of one as its plain name, so that both are one spec."""
    if isinstance(metrics, str):
        return metrics
    if not metrics or metrics[0] not in (names.VAL_ACC1, names.VAL_LOSS):
        raise _broken("must begin with val/acc1 or val/loss, which schedulers and tables go by")
    if len(set(metrics)) < len(metrics):
        raise _broken("must differ from each other")
    return metrics if len(metrics) > 1 else metrics[0]


MetricSpec = Annotated[
    Annotated[FirstMetric, Tag("name")] | Annotated[list[Metric], Tag("list")],
    Discriminator(_form),
    AfterValidator(_weighed),
]


def better(metric: object) -> str:
    """How a metric is wanted."""
    return "max" if metric == names.VAL_ACC1 else "min"


_MODE = {"enum": ["max", "min"]}
ModeSpec = Annotated[Literal["max", "min"], WithJsonSchema({"anyOf": [_MODE, {"type": "array", "items": _MODE}]})]


def with_one_mode(search: Any) -> Any:
    """A section's raw content, a list of modes in it replaced by that of the first metric: the others follow."""
    if not isinstance(search, dict) or not isinstance(modes := search.get("mode"), list):
        return search
    metric = search.get("metric", names.VAL_ACC1)
    metrics = metric if isinstance(metric, list) else [metric]
    right = [better(one) for one in metrics]
    # Of a metric that does not exist, that is what is told.
    if modes != right and metrics and all(one in get_args(Metric) for one in metrics):
        raise broken_rule("mode", f"must be [{', '.join(right)}] for metric {metric}", modes)
    return {**search, "mode": right[0] if right else "max"}
