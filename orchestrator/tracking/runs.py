"""What a run's record tells: the values that made it, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def own_values(run: Mapping[str, Any], *, trains_teacher: bool, has_teacher: bool) -> dict[str, Any]:
    """The sections of a resolved run, without the fields that have no part in it.

    Runs are compared by these values: one that had no effect would tell two runs apart that are alike.
    """
    if trains_teacher:
        return {
            "seed": run["seed"],
            "data": _without(run["data"], "train_samples", "views"),
            "teacher": _without(run["teacher"], "checkpoint"),
        }
    values = dict(run)
    teacher = values.pop("teacher")
    if has_teacher:
        unused = ("checkpoint",) if teacher["checkpoint"] is None else ("training", "train_samples")
        values["teacher"] = _without(teacher, *unused)
    if not run["distillation"]["kd_weight"]:
        values["distillation"] = _without(run["distillation"], "temperature", "adjustment")
    return values


def source_tags(commit: str, owner: str) -> dict[str, str]:
    """MLflow's tags for who ran it from what; both as `environment` gives them."""
    tags = {"mlflow.source.name": "orchestrator", "mlflow.source.type": "LOCAL", "mlflow.user": owner}
    if commit:
        name, _, changed = commit.partition(" ")
        tags |= {"mlflow.source.git.commit": name, "mlflow.source.git.dirty": str(bool(changed)).lower()}
    return tags


def _without(section: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in fields}
