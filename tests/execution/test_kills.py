"""An experiment whose driver is killed at twenty random moments ends as one that is left alone.

The twenty sessions do without Ray's processes, which take most of a real session's time; REAL_KILLS of real ones, 2
unless the environment says otherwise (`make kills`: 20), are killed with all of Ray.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator import names
from orchestrator.search.trials import Record, Status
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.tracking.mlflow_store import KEY_TAG
from tests.execution.conftest import Shell

KILLS = 20
REAL_KILLS = int(os.environ.get("REAL_KILLS", "2"))
PROGRAM = Path(__file__).with_name("killed_sessions.py")
TIMED = (names.EPOCH_TIME, names.THROUGHPUT)
BRACKETS: dict[str, Any] = {
    "training.epochs": 9,
    "training.checkpoint_interval_s": 0.05,
    "search.sampler": "random",  # an adaptive one draws by what is known when a session makes it
    "search.num_samples": 9,
    "search.scheduler": {"method": "hyperband"},
}


@dataclass(frozen=True)
class Sessions:
    """An experiment that was left alone, and the same one that was killed again and again."""

    undisturbed: Path
    killed: Path
    codes: list[dict[str, Any]]
    """How each session of the latter ended."""


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    shell = Shell(tmp_path_factory.mktemp("kills"))
    undisturbed, killed = shell.folder / "undisturbed", shell.folder / "killed"
    done = subprocess.run(
        [sys.executable, PROGRAM, shell.spec(BRACKETS), undisturbed, killed, "7", str(KILLS)],
        env={**shell.environment, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = [json.loads(line) for line in done.stdout.splitlines()]
    assert codes[-1]["code"] == 0, killed.with_suffix(".log").read_text()
    return Sessions(undisturbed, killed, codes)


def outcome(record: Record) -> tuple[Any, ...]:
    """What a trial came to, but for times."""
    metrics = {name: value for name, value in record.metrics.items() if name not in TIMED}
    return record.status, record.epochs, record.rungs, dict(record.trial.params), record.trial.seed, metrics


def check_equal(home: Path, undisturbed: Path) -> None:
    (folder,), (whole,) = Home(home).experiments(), Home(undisturbed).experiments()
    mine, expected = folder.records(), whole.records()
    assert mine.keys() == expected.keys()
    assert {id: outcome(record) for id, record in mine.items()} == {id: outcome(r) for id, r in expected.items()}
    check_journal(folder)
    check_tracked(home, folder)


def check_journal(folder: ExperimentFolder) -> None:
    """No trial was made twice, and none that had ended was begun again."""
    events = folder.journal.read()
    made = Counter(event["trial"]["id"] for event in events if event["event"] == "created")
    assert set(made.values()) == {1}
    over: set[str] = set()
    for event in events:
        if event["event"] == "resumed":
            assert event["id"] not in over
        elif event["event"] == "ended":
            assert event["id"] not in over
            over |= {event["id"]} if Status(event["status"]).ended else set()
    assert over == made.keys()


def check_tracked(home: Path, folder: ExperimentFolder) -> None:
    """MLflow has one run of each trial, and each of its epochs once."""
    records = folder.records()
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    trials = {run.data.tags[KEY_TAG]: run for run in runs if names.PARENT_RUN_TAG in run.data.tags}
    assert len(runs) == 1 + len(trials)
    assert trials.keys() == records.keys()
    assert {run.info.status for run in runs} == {"FINISHED"}
    for name, run in trials.items():
        for metric in (names.TRAIN_LOSS, names.VAL_ACC1):
            steps = [seen.step for seen in client.get_metric_history(run.info.run_id, metric)]
            assert sorted(steps) == list(range(1, records[name].epochs + 1)), (name, metric)


def journal_size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("experiments/*/journal.jsonl"))


def test_twenty_kills_at_random_moments_change_nothing(sessions: Sessions) -> None:
    killed = [session for session in sessions.codes if session["code"] == -signal.SIGKILL]
    assert len(killed) == KILLS, sessions.codes
    assert sum(session["writes"] is not None for session in killed) == KILLS // 2
    check_equal(sessions.killed, sessions.undisturbed)


def test_kills_of_the_real_thing_change_nothing(shell: Shell, sessions: Sessions) -> None:
    spec, rng = shell.spec(BRACKETS), random.Random(3)
    for _ in range(REAL_KILLS):
        known = journal_size(shell.home)
        process = shell.start("run", spec)
        shell.wait_until(lambda known=known: journal_size(shell.home) > known, process)
        time.sleep(rng.uniform(0.0, 6.0))
        # As a machine that loses its power: Ray's processes go with the driver.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = shell.run("run", spec)
    assert done.returncode == 0, done.stdout
    check_equal(shell.home, sessions.undisturbed)
