"""What an experiment's own run shows to everyone who may look at it."""

from __future__ import annotations

from pathlib import Path

import yaml

from orchestrator.execution.shown import experiment_info
from orchestrator.spec import load_spec
from orchestrator.store.home import Home


def kept(tmp_path: Path, uri: str, earlier: str) -> tuple[str, str]:
    """Both URIs, as the spec among the run's artifacts has them."""
    spec = load_spec(
        {
            "name": "shown",
            "data": {"dataset": "digits"},
            "teacher": {"model": "resnet14"},
            "student": {"model": "resnet8"},
            "tracking": {"uri": uri},
            "search": {"warm_start": {"mlflow": "earlier", "uri": earlier}},
        }
    )
    run = experiment_info(spec, Home(tmp_path).own(spec), "key", "{}")
    content = yaml.safe_load(run.artifacts["spec.yaml"])
    return content["tracking"]["uri"], content["search"]["warm_start"]["uri"]


def test_a_password_is_left_out_of_the_spec(tmp_path: Path) -> None:
    there = "postgresql://me:hunter2@db/mlflow", "https://me:hunter2@mlflow.example"
    assert kept(tmp_path, *there) == ("postgresql://db/mlflow", "https://mlflow.example")


def test_variables_stay(tmp_path: Path) -> None:
    there = "https://me:${env:PASSWORD}@mlflow.example", "http://127.0.0.1:5000"
    assert kept(tmp_path, *there) == there
