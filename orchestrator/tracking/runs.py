"""What a run's record tells: the values that made it, and where it comes from."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

from orchestrator.search.trials import Phase


def own_values(phase: Phase, run: Mapping[str, Any], *, has_teacher: bool) -> dict[str, Any]:
    """The sections of a resolved run, without the fields that have no part in it.

    Runs are compared by these values: one that had no effect would tell two runs apart, or alike, that are not.
    """
    if phase is Phase.TEACHER:
        return {
            "seed": run["seed"],
            "data": _without(run["data"], "train_samples"),
            "teacher": _without(run["teacher"], "checkpoint"),
        }
    if not has_teacher:
        weights = {name: run["distillation"][name] for name in ("ce_weight", "kd_weight")}
        return {**_without(run, "teacher"), "distillation": weights}
    teacher = run["teacher"]
    unused = ("checkpoint",) if teacher["checkpoint"] is None else ("training", "train_samples")
    return {**run, "teacher": _without(teacher, *unused)}


def source_tags(commit: str) -> dict[str, str]:
    """MLflow's tags for who ran it from what; `commit` as `environment.git_commit` gives it."""
    tags = {"mlflow.source.name": "orchestrator", "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
    if commit:
        name, _, changed = commit.partition(" ")
        tags |= {"mlflow.source.git.commit": name, "mlflow.source.git.dirty": str(bool(changed)).lower()}
    return tags


def _without(section: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in fields}


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "unknown"
