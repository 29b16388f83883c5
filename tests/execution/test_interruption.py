"""Ctrl-C, kill -9 of the driver or of a worker, and the same command again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator import names
from orchestrator.search.trials import Phase, Status
from tests.execution.conftest import Shell, descendants

LONGER = {
    "training.epochs": 60,
    "training.checkpoint_interval_s": 0.2,
    "search.final_seeds": 1,
    "data.train_samples": 200,
}


def _under_way(shell: Shell) -> bool:
    """A student has ended and another one has a checkpoint."""
    try:
        records = shell.records()
    except ValueError:
        return False
    ended = any(r.status.ended and r.trial.phase is Phase.SEARCH for r in records.values())
    return ended and any(
        list((shell.experiment() / "trials" / r.trial.id / "checkpoints").glob("*.pt"))
        for r in records.values()
        if not r.status.ended and r.trial.phase is Phase.SEARCH
    )


def _check_complete_and_without_duplicates(shell: Shell, ended_before: dict[str, dict[str, float]]) -> None:
    records = shell.records()
    assert {(record.status, record.reason) for record in records.values()} == {(Status.FINISHED, None)}
    assert len(records) == 1 + 2 * (2 + 1)
    for name, metrics in ended_before.items():
        assert records[name].metrics == metrics, "a trial that had ended was run again"
    client = MlflowClient(f"sqlite:///{shell.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + len(records)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if names.PARENT_RUN_TAG in run.data.tags:
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, names.TRAIN_LOSS)]
            assert sorted(steps) == list(range(1, records[run.data.tags["orchestrator.key"]].epochs + 1))


def test_ctrl_c_saves_marks_and_tells_how_to_go_on(shell: Shell) -> None:
    spec = shell.spec(LONGER)
    process = shell.start("run", spec)
    shell.wait_until(lambda: (shell.home / "experiments").exists() and _under_way_or_not(shell), process)
    # A terminal sends the signal to the whole foreground group.
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130, output
    assert f"orchestrator run {spec}" in output
    assert "Traceback" not in output
    records = shell.records()
    interrupted = [record for record in records.values() if record.status is Status.INTERRUPTED]
    assert interrupted
    # One that was interrupted in its first epoch has nothing to save.
    trained = [record for record in interrupted if record.epochs]
    assert trained
    for record in trained:
        assert list((shell.experiment() / "trials" / record.trial.id / "checkpoints").glob("*.pt"))
    client = MlflowClient(f"sqlite:///{shell.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    killed = client.search_runs([experiment.experiment_id], "attributes.status = 'KILLED'")
    assert {run.data.tags["orchestrator.key"] for run in killed} >= {record.trial.id for record in interrupted}
    ended = {name: record.metrics for name, record in records.items() if record.status.ended}
    again = shell.run("run", spec)
    assert again.returncode == 0, again.stdout
    _check_complete_and_without_duplicates(shell, ended)


def test_kill_9_of_the_driver(shell: Shell) -> None:
    spec = shell.spec(LONGER)
    process = shell.start("run", spec)
    shell.wait_until(lambda: (shell.home / "experiments").exists() and _under_way_or_not(shell), process)
    process.kill()
    process.wait()
    time.sleep(4)  # until Ray's processes have noticed
    ended = {name: record.metrics for name, record in shell.records().items() if record.status.ended}
    assert "continue with" in shell.run("status", "tiny").stdout
    again = shell.run("run", spec)
    assert again.returncode == 0, again.stdout
    _check_complete_and_without_duplicates(shell, ended)


def test_kill_9_of_a_trials_process(shell: Shell) -> None:
    spec = shell.spec(LONGER)
    process = shell.start("run", spec)
    shell.wait_until(lambda: (shell.home / "experiments").exists() and _under_way_or_not(shell), process)
    # Ray renames a process only while it is inside a call.
    actors: list[int] = []
    shell.wait_until(lambda: bool(actors.extend(descendants("DistillationTrainable", process.pid)) or actors), process)
    os.kill(actors[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=270)
    assert process.returncode == 0, output
    _check_complete_and_without_duplicates(shell, {})


def test_the_same_experiment_twice_at_once_is_refused(shell: Shell) -> None:
    spec = shell.spec(LONGER)
    process = shell.start("run", spec)
    shell.wait_until(lambda: any((shell.home / "experiments").glob("*/lock")), process)
    time.sleep(1)
    second = shell.run("run", spec)
    assert second.returncode == 2
    assert "already running" in second.stdout
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130


def _under_way_or_not(shell: Shell) -> bool:
    return any((shell.home / "experiments").glob("*/journal.jsonl")) and _under_way(shell)


if not Path("/proc/self/stat").exists():
    pytest.skip("finds trial processes through /proc", allow_module_level=True)
