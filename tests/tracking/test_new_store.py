"""A store that is made, and what it leaves in the user's folder: nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tracking_stores import EXPERIMENT, MLflowStore, epochs, trial_info, wait_until

from orchestrator.errors import TrackingError
from orchestrator.search.trials import Status
from orchestrator.store.home import Home
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.mlflow_store import download, find_experiment

OPEN = """
import sys
from pathlib import Path
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.mlflow import MLflowTracker
MLflowTracker(sys.argv[1], "x", Path(sys.argv[2])).open(RunInfo("key", "name"))
"""


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    folder = tmp_path / "working folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def fill(tracker):
    tracker.open(EXPERIMENT)
    tracker.start(trial_info("a"), epochs(1, 2))
    tracker.end("a", Status.FINISHED)
    assert tracker.close(Status.FINISHED, {"best": 1.0}, "a note", {"results.json": "{}"}) == []


def test_a_store_of_our_own_holds_our_experiments_alone(tmp_path, working_folder):
    store = MLflowStore(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}", tmp_path / "home")
    fill(store.tracker())
    assert [experiment.name for experiment in store.client.search_experiments()] == [store.name]
    assert store.trial("a").epochs == epochs(1, 2)
    assert sorted(path.name for path in store.folder.iterdir()) == ["artifacts", "mlflow.db", "mlflow.db.lock"]
    assert list(working_folder.iterdir()) == []


def test_a_store_of_the_users_keeps_its_default_experiment(tmp_path, working_folder):
    uri = f"sqlite:///{tmp_path / 'shared' / 'runs.db'}"
    fill(MLflowTracker(uri, "ours", tmp_path / "home" / "artifacts"))
    assert {experiment.name for experiment in MlflowClient(uri).search_experiments()} == {"Default", "ours"}
    assert list(working_folder.iterdir()) == []


def test_a_store_that_is_there_is_left_as_it_is(mlflow_store):
    fill(mlflow_store.tracker())
    names = {experiment.name for experiment in mlflow_store.client.search_experiments()}
    assert names == {"Default", mlflow_store.name}


def test_a_process_killed_while_it_makes_a_store_does_no_harm(tmp_path):
    database = tmp_path / "mlflow.db"
    command = [sys.executable, "-c", OPEN, f"sqlite:///{database}", str(tmp_path / "artifacts")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(path.stat().st_size > 200_000 for path in tmp_path.rglob("mlflow.db")))
    process.kill()
    process.wait()
    assert not database.exists()
    store = MLflowStore(f"sqlite:///{database}", tmp_path)
    fill(store.tracker())
    assert store.trial("a").status == "finished"


def test_asking_for_an_experiment_makes_no_store(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert find_experiment(uri, "x") is None
    with pytest.raises(TrackingError, match="there is no store yet"):
        download("models:/x/1", uri, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_ui_shows_the_runs_and_leaves_nothing_behind(tmp_path, working_folder):
    home = Home(tmp_path / "home")
    fill(MLflowTracker(home.tracking_uri, "ours", home.artifacts))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "orchestrator", "--home", str(home.path), "ui", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and what they start does too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def ask(page, **query):
        address = f"http://127.0.0.1:{port}/{page}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.read().decode()

    def answers():
        assert process.poll() is None
        try:
            return bool(ask("health"))
        except OSError:
            return False

    try:
        wait_until(answers, timeout_s=90)
        found = json.loads(ask("ajax-api/2.0/mlflow/experiments/search", max_results=10))["experiments"]
        assert [experiment["name"] for experiment in found] == ["ours"]
        child = MLflowStore(home.tracking_uri, home.path, "ours").run("a")
        assert ask("get-artifact", run_uuid=child.info.run_id, path="spec.yaml") == "trial: a\n"
        assert "<html" in ask("")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert list(working_folder.iterdir()) == []
