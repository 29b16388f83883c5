"""stop, pause, status and extend on a real experiment that another process runs; two of them at once."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

from mlflow import MlflowClient

from orchestrator import names
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.store.home import Home
from tests.execution.conftest import Shell

LONG: dict[str, Any] = {
    "training.epochs": 3000,
    "training.checkpoint_interval_s": 0.2,
    "search.num_samples": 3,
    "search.final_seeds": 1,
    "search.variants": {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}},
}


def trained(shell: Shell, *statuses: Status) -> list[Record]:
    """Search trials with epochs behind them, as another process sees them."""
    folders = Home(shell.home).experiments()
    if not folders:
        return []
    records = folders[0].records().values()
    mine = [r for r in records if r.trial.phase is Phase.SEARCH and r.status in statuses]
    return [r for r in mine if folders[0].trial(r.trial.id).metrics()]


class Reader:
    """Reads what a command prints as it comes: a pipe that nobody empties would hold the command up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._text: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        self._text.extend(self._process.stdout)

    def lines(self) -> list[dict[str, Any]]:
        """Its JSON lines, when it has ended."""
        self._process.wait(120)
        self._thread.join(10)
        return [json.loads(line) for line in self._text if line.startswith("{")]


def test_what_another_terminal_asks_for_is_done_and_nothing_is_lost(shell: Shell) -> None:
    spec = shell.spec(LONG)
    process = shell.start("run", spec, "--format", "json-lines")
    reader = Reader(process)
    shell.wait_until(lambda: len(trained(shell, Status.RUNNING)) >= 2, process)

    seen = json.loads(shell.run("status", "--format", "json").stdout)
    assert seen["state"] == "running"
    assert {row["trial"] for row in seen["running"]} == {"alone-000", "alone-001"}
    assert all(row["epoch"] > 0 and names.VAL_ACC1 in row["metrics"] for row in seen["running"])

    done = shell.run("stop", "tiny", "--trial", "alone-000")
    assert done.returncode == 0, done.stdout
    shell.wait_until(lambda: bool(trained(shell, Status.STOPPED)), process)
    shell.wait_until(lambda: len(trained(shell, Status.RUNNING)) >= 2, process)
    (stopped,) = trained(shell, Status.STOPPED)
    assert (stopped.trial.id, stopped.metrics.keys() >= {names.VAL_ACC1}) == ("alone-000", True)
    assert stopped.reason == f"stopped by `orchestrator stop` after epoch {stopped.epochs}"

    assert shell.run("pause", "tiny").returncode == 0
    lines = reader.lines()
    assert process.returncode == 130
    assert (lines[-1]["event"], lines[-1]["exit_code"], lines[-1]["state"]) == ("result", 130, "not running")
    assert {line["status"] for line in lines if line["event"] == "end"} == {"stopped", "interrupted"}
    assert {r.trial.id for r in trained(shell, Status.INTERRUPTED)} == {"alone-001", "alone-002"}

    process = shell.start("run", spec, "--format", "json-lines")
    reader = Reader(process)
    shell.wait_until(lambda: len(trained(shell, Status.RUNNING)) == 2, process)
    done = shell.run("stop", "tiny")
    assert "it ends" in done.stdout
    lines = reader.lines()
    assert process.returncode == 0, lines[-1]
    assert lines[-1]["stopped"] is True
    assert "continue with: orchestrator run" in lines[-1]["advice"]
    # They went on from their checkpoints, and no final run was begun.
    assert {line["trial"]: line["epoch"] > 0 for line in lines if line["event"] == "start"} == {
        "alone-001": True,
        "alone-002": True,
    }
    records = shell.records()
    assert {id: r.status for id, r in records.items()} == dict.fromkeys(records, Status.STOPPED)
    client = MlflowClient(f"sqlite:///{shell.home / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.data.tags["orchestrator.key"] in records:
            steps = [seen.step for seen in client.get_metric_history(run.info.run_id, names.TRAIN_LOSS)]
            assert sorted(steps) == list(range(1, records[run.data.tags["orchestrator.key"]].epochs + 1))


def test_two_experiments_run_at_once_and_one_is_extended(shell: Shell) -> None:
    """One home, one MLflow store, one teacher that both need; then the first goes on with more."""
    short = {"search.num_samples": 1, "search.final_seeds": 1, "training.epochs": 2}
    specs = {
        name: shell.spec({**short, "name": name, "training.batch_size": size}, f"{name}.yaml")
        for name, size in (("first", 20), ("second", 30))
    }
    processes = {name: shell.start("run", spec) for name, spec in specs.items()}
    for process in processes.values():
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
    check(shell, "first", 2 * 2)
    check(shell, "second", 2 * 2)
    before = shell.records("first")

    done = shell.run("extend", "first", "--num-samples", "+1", "--final-seeds", "2")
    assert done.returncode == 0, done.stdout
    done = shell.run("run", specs["first"])
    assert done.returncode == 0, done.stdout
    assert "goes on as it was extended: search.num_samples 1 -> 2, search.final_seeds 1 -> 2" in done.stdout
    after = shell.records("first")
    assert {id: record for id, record in after.items() if id in before} == before
    found = shell.results("first")
    assert [len(variant["final_seeds"]) for variant in found["variants"]] == [2, 2]
    assert {id for id in after if "final" not in id and id not in before} == {"alone-001", "la+dtd-001"}


def check(shell: Shell, name: str, students: int) -> None:
    records = shell.records(name)
    assert {record.status for record in records.values()} == {Status.FINISHED}
    assert sum(record.trial.phase is not Phase.TEACHER for record in records.values()) == students
    client = MlflowClient(f"sqlite:///{shell.home / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    children = [run for run in runs if names.PARENT_RUN_TAG in run.data.tags]
    assert sorted(run.data.tags["orchestrator.key"] for run in children) == sorted(records)
    for run in runs:
        if run.data.tags["orchestrator.key"] in records:
            steps = [seen.step for seen in client.get_metric_history(run.info.run_id, names.TRAIN_LOSS)]
            assert sorted(steps) == list(range(1, records[run.data.tags["orchestrator.key"]].epochs + 1))
