"""What a spec needs on a cluster, and what it may not name."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.execution.portable import check_portable, needed_plugins, needed_variables, requirements
from orchestrator.spec import load_spec
from orchestrator.spec.experiment import ExperimentSpec, assign

SPEC: dict[str, Any] = {
    "name": "sent",
    "data": {"dataset": "cifar10", "root": "/data"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}


def spec(**changes: Any) -> ExperimentSpec:
    return load_spec(assign(SPEC, {path.replace("__", "."): value for path, value in changes.items()}))


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("data__root", "datasets", "data.root: 'datasets': is a path below this folder"),
        ("data__root", "./datasets", "data.root"),
        ("tracking__uri", "sqlite:///runs.db", "tracking.uri: 'sqlite:///runs.db'"),
        ("teacher__checkpoint", "teacher.safetensors", "teacher.checkpoint: 'teacher.safetensors'"),
        ("search__variants", {"a": {"set": {"teacher.checkpoint": "a.pt"}}}, "teacher.checkpoint: 'a.pt'"),
    ],
)
def test_paths_of_this_folder_are_refused(path: str, value: Any, rule: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_portable(spec(**{path: value}))
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data__root", "/data"),
        ("data__root", "~/data"),
        ("data__root", "${env:DATA}"),
        ("tracking__uri", "sqlite:////shared/runs.db"),
        ("tracking__uri", "http://mlflow:5000"),
        ("tracking__uri", "https://${env:USER}:${env:PASSWORD}@mlflow"),
        ("tracking__uri", "postgresql://mlflow@db/mlflow"),
        ("tracking__uri", "postgresql://db/mlflow?user=me&password=${env:PASSWORD}"),
        ("teacher__checkpoint", "/shared/teacher.pt"),
        ("teacher__checkpoint", "models:/teacher/1"),
    ],
)
def test_what_means_the_same_everywhere_passes(path: str, value: str) -> None:
    check_portable(spec(**{path: value}))


def test_variables_are_named_wherever_they_stand() -> None:
    used = spec(
        tracking__uri="https://${env:USER_A}:${env:SECRET_B}@host",
        search__variants={"a": {"set": {"teacher.checkpoint": "${env:TEACHER_C}/a.pt"}}},
    )
    assert needed_variables(used) == ["SECRET_B", "TEACHER_C", "USER_A"]
    assert needed_variables(spec()) == []


def test_requirements_are_pinned_and_leave_ray_to_the_cluster() -> None:
    pinned = dict(text.split("==") for text in requirements())
    assert {"torch", "mlflow", "pydantic", "optuna"} <= set(pinned)
    assert "ray" not in pinned
    assert "pytest" not in pinned
    assert all(version and version != "not installed" for version in pinned.values())
    assert "+" not in pinned["torch"]


def test_no_plugin_is_needed_for_what_is_built_in() -> None:
    assert needed_plugins(spec()) == []
