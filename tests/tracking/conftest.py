"""Stores for the tests of tracking."""

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from mlflow import MlflowClient
from tracking_stores import EXPERIMENT, Calls, MemoryStore, MLflowStore, Server

from orchestrator.tracking import mlflow_store as opening
from orchestrator.tracking import writer
from orchestrator.tracking.mlflow import MLflowTracker

MakeStore = Callable[[], Any]


@pytest.fixture(autouse=True)
def _no_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated sqlite store, as migrating takes a second or two."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(tmp_path: Path, empty_database: Path) -> MLflowStore:
    copy(empty_database, tmp_path / "mlflow.db")
    return MLflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)


@pytest.fixture
def tracker(mlflow_store: MLflowStore) -> MLflowTracker:
    """Opened, on a sqlite store."""
    made = mlflow_store.tracker()
    made.open(EXPERIMENT)
    return made


@pytest.fixture
def wrap_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts functions before and after every call of a tracker's client; repeats come at once."""

    def wrap(before: Any = lambda *args, **kwargs: None, after: Any = lambda *args, **kwargs: None) -> None:
        monkeypatch.setattr(opening, "MlflowClient", Calls(opening.MlflowClient, before, after))
        monkeypatch.setattr(writer, "RETRY_PAUSE_S", 0.01)

    return wrap


@pytest.fixture(params=["memory", "mlflow"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes stores without any run; each call another one."""
    if request.param == "memory":
        return MemoryStore
    store = request.getfixturevalue("mlflow_store")
    made = []

    def make() -> MLflowStore:
        made.append(MLflowStore(store.uri, tmp_path, name=f"experiment {len(made)}"))
        return made[-1]

    return make


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), empty_database)
    running.start()
    yield running
    running.kill()
