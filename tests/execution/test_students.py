"""What a finished experiment hands on: students in MLflow's registry, and files that teach others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator import names
from orchestrator.cli import main
from orchestrator.execution.cache import Cache
from orchestrator.execution.job import Job
from orchestrator.execution.session import Session
from orchestrator.execution.teacher import fetch_teachers, teacher_weights
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Phase
from orchestrator.spec import load_spec
from orchestrator.store.home import Home
from tests.execution.conftest import SPEC, Shell

Finished = tuple[Shell, subprocess.CompletedProcess[str]]


@pytest.fixture
def home(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return Home(finished[0].home)


def test_each_variants_best_student_by_validation_is_registered(finished: Finished, home: Home) -> None:
    records, name = finished[0].records(), finished[0].experiment().name
    client = MlflowClient(home.tracking_uri)
    versions = {v.version: v for v in client.search_model_versions(f"name='{name}'")}
    assert {version.tags["orchestrator.variant"] for version in versions.values()} == {"alone", "la+dtd"}
    means = {}
    for version in versions.values():
        variant, trial = version.tags["orchestrator.variant"], version.tags["orchestrator.trial"]
        finals = {id: r.metrics[names.VAL_ACC1] for id, r in records.items() if id.startswith(f"{variant}-final-")}
        means[variant] = sum(finals.values()) / len(finals)
        assert finals[trial] == max(finals.values())
        assert float(version.tags["test/acc1"]) == pytest.approx(records[trial].metrics[names.TEST_ACC1], abs=1e-3)
    aliases = client.get_registered_model(name).aliases
    order = [versions[aliases[alias]].tags["orchestrator.variant"] for alias in ("champion", "challenger")]
    assert means[order[0]] >= means[order[1]]
    assert set(order) == set(means)


@pytest.mark.parametrize("source", ["exported", "registered"])
def test_a_student_teaches_in_another_experiment(
    home: Home, tmp_path: Path, finished: Finished, capsys: pytest.CaptureFixture[str], source: str
) -> None:

    def command(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        assert caught.value.code == 0
        return capsys.readouterr().out

    if source == "exported":
        out = str(tmp_path / "out")
        told = command("export", "tiny", "--variant", "la+dtd", "--output", out, "--home", str(home.path))
        checkpoint = f"{out}/model.safetensors"
        predicted = json.loads(command("predict", out, "--test", "--format", "json"))
        metrics = finished[0].records()[told.split(": ")[1].split(",")[0]].metrics
        # What was exported does on the test images what its final run did.
        assert predicted["test/acc1"] == pytest.approx(metrics[names.TEST_ACC1], abs=0.3)
    else:
        checkpoint = f"models:/{finished[0].experiment().name}@champion"
    spec = load_spec(SPEC, {"name": "next", "teacher": {**SPEC["student"], "checkpoint": checkpoint}})
    plan = make_plan(spec)
    other = Home(tmp_path / "home")
    fetch_teachers(plan.checkpoints, other, home.tracking_uri)
    run = plan.by_name["la+dtd"].variant.run
    assert run.teacher is not None
    job = Job(
        trial="t",
        phase=Phase.SEARCH,
        run=run.model_dump(exclude_unset=True),
        split_seed=0,
        folder=str(tmp_path / "t"),
        teachers=[{"model": run.teacher.model_dump(exclude_unset=True), "weights": teacher_weights(checkpoint, other)}],
    )
    session = Session(job, Cache())
    assert "train/loss_kd" in session.train_epoch()
    assert session.described["teacher.val_acc1"] > 0
