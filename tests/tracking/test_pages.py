"""Where an experiment's runs are shown, as `run` tells it."""

import io
import socket

import pytest
from rich.console import Console
from tracking_stores import EXPERIMENT, MLflowStore

from orchestrator import load_spec
from orchestrator.cli.ui import DEFAULT_PORT, where_to_look
from orchestrator.search.trials import Status
from orchestrator.store.home import Home
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.uris import experiment_page
from orchestrator.tracking.views import Contents

ID = "tiny-12345678"


@pytest.fixture
def told(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def tell(home=None, **tracking):
        spec = load_spec(
            {
                "name": "tiny",
                "data": {"dataset": "digits"},
                "student": {"model": "resnet8"},
                "distillation": {"kd_weight": 0.0, "ce_weight": 1.0},
                "tracking": tracking,
            }
        )
        screen = io.StringIO()
        where_to_look(spec, ID, home or Home(tmp_path), Console(file=screen, width=40))
        return screen.getvalue().strip()

    return tell


@pytest.mark.parametrize(
    ("server", "page"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"),
        ("https://me:secret@host/mlflow/", "https://host/mlflow/#/experiments/7/runs?workflowType=machine_learning"),
    ],
)
def test_a_page_has_an_address_without_secrets(server, page):
    assert experiment_page(server, "7") == page


def test_a_local_store_is_shown_by_our_ui(tmp_path, told):
    home = Home(tmp_path)
    for experiment in ("another", "tiny"):
        tracker = MLflowTracker(home.tracking_uri, experiment, home.artifacts)
        tracker.open(EXPERIMENT)
        tracker.close(Status.FINISHED)
    page = f"http://127.0.0.1:{DEFAULT_PORT}/#/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning"
    assert told() == f"Compare the runs: orchestrator ui --home {tmp_path}, then {page}"


def test_an_experiments_address_opens_its_view(tmp_path, told):
    home = Home(tmp_path)
    tracker = MLflowTracker(home.tracking_uri, "tiny", home.artifacts)
    tracker.open(EXPERIMENT, Contents(ID, "val/acc1", "max", has_finals=True))
    for phase, opened in (("search", "search"), ("final", "final")):
        tags = {"orchestrator.experiment": ID, "orchestrator.phase": phase}
        tracker.start(RunInfo(phase, phase, tags=tags))
        tracker.end(phase, Status.FINISHED)
        tracker.close(Status.FINISHED)
        assert told().endswith(f"&viewStateShareKey={ID}-{opened}&compareRunsMode=CHART")
        tracker = MLflowTracker(home.tracking_uri, "tiny", home.artifacts)
        tracker.open(EXPERIMENT)
    tracker.close(Status.FINISHED)


def test_a_server_shows_its_own_page(told, server, tmp_path):
    store = MLflowStore(server.uri, tmp_path, "on the server")
    tracker = store.tracker()
    tracker.open(EXPERIMENT)
    tracker.close(Status.FINISHED)
    page = f"{server.uri}/#/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning"
    assert told(uri=server.uri, experiment="on the server") == f"Compare the runs: {page}"


def test_without_an_answer_the_experiment_is_named(told, monkeypatch):
    monkeypatch.setenv("PLANTED", "secret")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert (
            told(uri=f"http://me:${{env:PLANTED}}@{address}") == f"Compare the runs: http://{address}, experiment tiny"
        )


def test_a_store_without_a_server_is_named(told, tmp_path):
    assert told(uri=f"sqlite:///{tmp_path}/x.db") == f"Compare the runs: sqlite:///{tmp_path}/x.db, experiment tiny"
    assert not (tmp_path / "x.db").exists()
