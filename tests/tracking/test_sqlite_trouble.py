"""A sqlite store that is locked or on a full disk: the caller never waits, and nothing is lost or hidden."""

import sqlite3
import time
from contextlib import closing

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event
from tracking_stores import EXPERIMENT, MLflowStore, epoch, epochs, trial_info, wait_until

from orchestrator.errors import TrackingError
from orchestrator.search.trials import Status
from orchestrator.tracking import writer
from orchestrator.tracking.base import RunInfo

LONG = "x" * 6000
"""A value that needs another page of the database."""


class Disk:
    """The store's disk: `is_full` lets the database grow no more, and locks are waited for 50 ms, not MLflow's 20 s."""

    def __init__(self, store: MLflowStore) -> None:
        self.is_full: bool | None = None
        self.attempts = 0
        store.client.search_experiments()
        event.listen(SqlAlchemyStore._engine_map[store.uri], "before_cursor_execute", self._before, retval=True)

    def _before(self, connection, cursor, statement, parameters, context, executemany):
        cursor.execute("PRAGMA busy_timeout = 50")
        if self.is_full is not None:
            cursor.execute(f"PRAGMA max_page_count = {1 if self.is_full else 2**30}")
        if "busy_timeout" in statement:
            self.attempts += 1
            statement = "PRAGMA busy_timeout = 50"
        return statement, parameters


@pytest.fixture
def disk(mlflow_store, monkeypatch):
    monkeypatch.setattr(writer, "RETRY_PAUSE_S", 0.05)
    return Disk(mlflow_store)


def tell(tracker, key):
    """A whole trial; returns at once."""
    started = time.monotonic()
    tracker.start(trial_info(key, **{"data.long": LONG}), epochs(1, 2))
    tracker.log(key, epoch(3))
    tracker.end(key, Status.FINISHED)
    assert time.monotonic() - started < 0.2


def test_what_another_process_locks_out_is_written_afterwards(mlflow_store, disk, tracker):
    with closing(sqlite3.connect(mlflow_store.folder / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = disk.attempts
        tell(tracker, "a")
        wait_until(lambda: disk.attempts > before + 2)
        other.execute("ROLLBACK")
    assert tracker.close(Status.FINISHED) == []
    seen = mlflow_store.trial("a")
    assert (seen.epochs, seen.status) == (epochs(1, 3), "finished")


def test_what_a_full_disk_keeps_out_is_written_once_there_is_room(mlflow_store, disk, tracker):
    disk.is_full = True
    before = disk.attempts
    tell(tracker, "a")
    tell(tracker, "b")
    wait_until(lambda: disk.attempts > before + 2)
    disk.is_full = False
    assert tracker.close(Status.FINISHED) == []
    for key in ("a", "b"):
        seen = mlflow_store.trial(key)
        assert (seen.epochs, seen.status, seen.params["data.long"]) == (epochs(1, 3), "finished", LONG)


def test_a_disk_that_stays_full_is_reported_and_made_good_later(mlflow_store, disk):
    tracker = mlflow_store.tracker(patience_s=0.5)
    tracker.open(EXPERIMENT)
    disk.is_full = True
    tell(tracker, "a")
    problems = tracker.close(Status.FINISHED)
    assert problems
    assert all(line.endswith(": database or disk is full") for line in problems)

    disk.is_full = False
    second = mlflow_store.tracker()
    second.open(EXPERIMENT)
    assert second.status("a") is not Status.FINISHED
    tell(second, "a")
    assert second.close(Status.FINISHED) == []
    seen = mlflow_store.trial("a")
    assert (seen.epochs, seen.status) == (epochs(1, 3), "finished")


def test_a_full_disk_is_said_before_anything_runs(mlflow_store, disk):
    disk.is_full = True
    many = {f"long_{number}": LONG for number in range(20)}
    with pytest.raises(TrackingError, match="cannot be used: database or disk is full"):
        mlflow_store.tracker().open(RunInfo("key", "name", params=many))
    disk.is_full = False
    tracker = mlflow_store.tracker()
    tracker.open(RunInfo("key", "name", params=many))
    assert tracker.close(Status.FINISHED) == []
    assert mlflow_store.run("key").data.params == many
