"""A whole experiment: teacher, search, final runs, results, and MLflow's records of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator import names
from tests.execution.conftest import SPEC, Shell

Finished = tuple[Shell, subprocess.CompletedProcess[str]]
TRIALS = 1 + 2 * (2 + 2)


def test_prints_progress_and_the_comparison(finished: Finished) -> None:
    _shell, done = finished
    assert done.returncode == 0, done.stdout
    assert f"{TRIALS}/{TRIALS} trials" in done.stdout
    comparison = done.stdout[done.stdout.rindex("variant ") :]
    assert "alone" in comparison
    assert "la+dtd" in comparison
    assert "±" in comparison
    assert "orchestrator ui" in comparison


def test_keeps_rays_chatter_in_a_file(finished: Finished) -> None:
    shell, done = finished
    assert not any(word in done.stdout for word in ("WARNING", "raylet", "Trial status", "INFO "))
    assert (shell.experiment() / "ray.log").stat().st_size > 0
    assert "ray.log" in done.stdout


def test_results_hold_every_trial(finished: Finished) -> None:
    shell, _ = finished
    found = shell.results()
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * TRIALS
    for trial in found["trials"]:
        assert trial["epochs"] == (2 if trial["phase"] == "teacher" else 3)
        assert (names.TEST_ACC1 in trial["metrics"]) == (trial["phase"] == "final")
        assert trial["described"]["teacher.parameters" if trial["phase"] == "teacher" else "student.parameters"] > 1000
    alone, both = found["variants"]
    assert alone["test/acc1"]["n"] == both["test/acc1"]["n"] == 2
    assert alone["final_seeds"] == both["final_seeds"] == [1, 2]


def test_final_runs_take_the_values_that_were_best_on_validation(finished: Finished) -> None:
    trials = finished[0].results()["trials"]
    for variant in SPEC["search"]["variants"]:
        search = [t for t in trials if t["variant"] == variant and t["phase"] == "search"]
        best = max(search, key=lambda trial: trial["metrics"][names.VAL_ACC1])
        finals = [t for t in trials if t["variant"] == variant and t["phase"] == "final"]
        assert [t["params"] for t in finals] == [best["params"]] * 2


def test_variants_share_the_values_of_a_shared_domain(finished: Finished) -> None:
    trials = [t for t in finished[0].results()["trials"] if t["phase"] == "search"]
    rates = {
        variant: [t["params"]["training.optimizer.lr"] for t in trials if t["variant"] == variant]
        for variant in SPEC["search"]["variants"]
    }
    assert rates["alone"] == rates["la+dtd"]


@pytest.fixture(scope="module")
def client(finished: Finished) -> MlflowClient:
    return MlflowClient(f"sqlite:///{finished[0].home / 'mlflow.db'}")


def test_mlflow_has_one_parent_and_a_child_for_each_trial(finished: Finished, client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if names.PARENT_RUN_TAG not in run.data.tags]
    assert len(parents) == 1
    assert len(runs) == 1 + TRIALS
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["orchestrator.key"] for run in runs if run is not parents[0]} == set(finished[0].records())
    assert "la+dtd" in parents[0].data.tags["mlflow.note.content"]
    assert {"spec.yaml", "environment.json", "results.json", "report.html"} <= {
        artifact.path for artifact in client.list_artifacts(parents[0].info.run_id)
    }


def test_mlflow_children_hold_values_metrics_and_where_they_come_from(finished: Finished, client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'la+dtd-final-1 seed 1'")
    record = finished[0].records()["la+dtd-final-1"]
    assert float(run.data.params["distillation.temperature.max"]) == pytest.approx(
        record.trial.params["distillation.temperature.max"]
    )
    assert run.data.params["distillation.adjustment.rule"] == "probability_shift"
    assert run.data.params["seed"] == "1"
    for name in (
        names.TRAIN_LOSS,
        names.VAL_ACC1,
        names.TEMPERATURE_MEAN,
        names.ADJUSTMENT_WRONG,
        names.EPOCH_TIME,
    ):
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3]
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, names.TEST_ACC1)] == [3]
    assert run.data.metrics[names.TEST_ACC1] == pytest.approx(record.metrics[names.TEST_ACC1])
    assert {artifact.path for artifact in client.list_artifacts(run.info.run_id)} >= {
        "spec.yaml",
        "environment.json",
    }


def test_second_run_repeats_nothing(finished: Finished, client: MlflowClient) -> None:
    shell, _ = finished
    experiment = client.get_experiment_by_name("tiny")
    before = (shell.experiment() / "journal.jsonl").read_bytes()
    again = shell.run("run", shell.folder / "spec.yaml")
    assert again.returncode == 0, again.stdout
    assert "nothing is left to run" in again.stdout
    assert (shell.experiment() / "journal.jsonl").read_bytes() == before
    assert len(client.search_runs([experiment.experiment_id])) == 1 + TRIALS


def test_status_and_csv(finished: Finished) -> None:
    shell, _ = finished
    status = json.loads(shell.run("status", "tiny", "--format", "json").stdout)
    assert (status["state"], status["ended"], status["planned"]) == ("complete", TRIALS, TRIALS)
    rows = shell.run("results", "tiny", "--format", "csv").stdout.strip().splitlines()
    assert len(rows) == 1 + TRIALS


def test_another_experiment_finds_the_teacher_again(finished: Finished) -> None:
    shell, _ = finished
    (weights,) = (shell.home / "teachers").iterdir()
    trained_at = weights.stat().st_mtime_ns
    path = shell.spec({"name": "second", "search.num_samples": 1, "search.final_seeds": 0}, "second.yaml")
    done = shell.run("run", path)
    assert done.returncode == 0, done.stdout
    assert weights.stat().st_mtime_ns == trained_at
    assert {trial["phase"] for trial in shell.results("second")["trials"]} == {"search"}


def test_an_experiment_that_has_ended_fills_another_store_without_running_anything(
    finished: Finished, tmp_path: Path
) -> None:
    shell, _ = finished
    records = shell.records()
    again = shell.run("run", shell.spec())
    assert "nothing is left to run" in again.stdout
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    moved = shell.run("run", shell.spec({"tracking": {"uri": uri}}, "moved.yaml"))
    assert moved.returncode == 0, moved.stdout
    assert "starting Ray" not in moved.stdout
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert len(runs) == 1 + len(records)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert shell.records() == records
