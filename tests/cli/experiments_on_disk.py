"""Experiments as their folders show them, without anything having been trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from small_spec import small_spec

from orchestrator import load_spec
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.trials import Record, Status, created, ended
from orchestrator.spec import ExperimentSpec
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home

SPEC = small_spec({"data.train_samples": 60})
ALONE_TOTAL = 2 * (2 + 3)
"""Trials without the teacher."""


def plan_of(**changes: Any) -> Plan:
    return make_plan(spec_of(**changes))


def spec_of(**changes: Any) -> ExperimentSpec:
    return load_spec(SPEC, {path.replace("__", "."): value for path, value in changes.items()})


def store_teacher(home: Home, plan: Plan, accuracy: str | None = "71.20") -> Path:
    """Weights as a teacher's training leaves them, for the plan's one teacher."""
    (key,) = plan.teachers
    path = home.teacher(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"trial": "teacher"} | ({"val_acc1": accuracy} if accuracy else {})
    save_file({"weight": np.zeros(3)}, path, metadata)
    return path


def teacher(plan: Plan, status: Status = Status.FINISHED, **metrics: float) -> Record:
    (key,) = plan.teachers
    return Record(plan.teacher_trial(key), status, named(metrics), epochs=5)


def search(plan: Plan, variant: str, index: int, status: Status = Status.FINISHED, **metrics: float) -> Record:
    arm = plan.by_name[variant]
    params = (arm.points or ())[index]
    return Record(plan.search_trial(arm, index, params), status, named(metrics), epochs=5)


def final(plan: Plan, variant: str, index: int, status: Status = Status.FINISHED, **metrics: float) -> Record:
    return Record(plan.final_trial(plan.by_name[variant], index, {}), status, named(metrics), epochs=5)


def failed(record: Record, reason: str) -> Record:
    record.status, record.reason = Status.FAILED, f"{record.trial.id}: {reason}"
    return record


def named(metrics: dict[str, float]) -> dict[str, float]:
    return {name.replace("_", "/", 1): value for name, value in metrics.items()}


def whole(plan: Plan, *, with_teacher: bool = True, tests: dict[str, list[float]] | None = None) -> list[Record]:
    """Every trial of the plan, ended as it should."""
    seeds = plan.spec.search.final_seeds
    values = tests or {}
    records = [teacher(plan, val_acc1=99.0)] if with_teacher else []
    for arm in plan.arms:
        records += [search(plan, arm.name, n, val_acc1=90.0 + n) for n in range(arm.count)]
        for n in range(seeds):
            accuracy = values[arm.name][n] if arm.name in values else 80.0 + n
            records.append(final(plan, arm.name, n, val_acc1=85.0, test_acc1=accuracy))
    return records


def write(home: Home, plan: Plan, records: Iterable[Record], owner: str | None = None) -> ExperimentFolder:
    """An experiment's folder with these records in its journal."""
    home.create()
    folder = home.experiment(plan.spec)
    with folder.opened(plan.spec):
        folder.journal.append({"event": "experiment", "key": "k", "id": folder.id, "owner": owner})
        for record in records:
            folder.journal.append(created(record.trial))
            if record.status is not Status.RUNNING:
                folder.journal.append(ended(record))
    return folder
