"""MLflow: a parent run for the experiment, a child run for each trial, written by one thread in batches."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from orchestrator import names
from orchestrator.errors import TrackingError
from orchestrator.search.trials import Status
from orchestrator.tracking.base import Epoch, RunInfo, Tracker

KEY_TAG = f"{names.TAG_PREFIX}key"
STATUS_TAG = f"{names.TAG_PREFIX}status"
REASON_TAG = f"{names.TAG_PREFIX}reason"
MAX_METRICS, MAX_PARAMS, MAX_VALUE = 1000, 100, 6000
"""MLflow's limits on one batch and one parameter value."""
RETRY_PAUSE_S = 1.0
PERMANENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_DOES_NOT_EXIST"}

_MLFLOW_STATUS = {
    Status.RUNNING: "RUNNING",
    Status.INTERRUPTED: "KILLED",
    Status.FINISHED: "FINISHED",
    Status.STOPPED: "FINISHED",
    Status.FAILED: "FAILED",
}


@dataclass
class _Child:
    """A trial's run in the store."""

    run_id: str
    status: Status | None = None
    last_epoch: int = 0
    waiting: list[list[Metric]] = field(default_factory=list)
    """Metrics not yet sent, an inner list for each epoch."""


class MLflowTracker(Tracker):
    """Writes to any MLflow tracking URI.

    Trials never talk to MLflow: the driver hands their metrics to one writer thread, so a local sqlite
    store sees a single writer, and a server that is away for a while only makes the queue longer.
    `patience_s` is how long `close` waits for such a server.
    """

    def __init__(
        self, uri: str, experiment: str, artifacts: Path | None = None, patience_s: float = 60.0
    ) -> None:
        # A server that is away must be noticed in seconds; the writer thread does the retrying.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self.uri = uri
        self.experiment = experiment
        self.experiment_id = ""
        self.parent_id = ""
        self._artifacts = artifacts
        self._patience_s = patience_s
        self._children: dict[str, _Child] = {}
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._problems: list[str] = []
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)

    def open(self, experiment: RunInfo) -> None:
        try:
            self._client = MlflowClient(self.uri)
            self.experiment_id = self._find_or_create_experiment()
            self.parent_id = self._find_or_create_parent(experiment)
            for run in self._runs(f"tags.`{names.PARENT_RUN_TAG}` = '{self.parent_id}'"):
                key = run.data.tags.get(KEY_TAG, "")
                self._children[key] = _Child(run.info.run_id, _status_of(run))
        except Exception as error:
            raise TrackingError(
                f"MLflow at {redacted(self.uri)} cannot be used: {_first_line(error)}",
                hint="check tracking.uri (or MLFLOW_TRACKING_URI), and that the server runs",
            ) from error
        self._thread.start()

    def start(self, run: RunInfo, history: Sequence[Epoch] = ()) -> None:
        now, attempted = _milliseconds(), set[str]()
        self._jobs.put(lambda: self._start(run, history, now, attempted=attempted))

    def log(self, key: str, epoch: Epoch) -> None:
        now = _milliseconds()
        self._jobs.put(lambda: self._log(key, epoch, now))

    def end(self, key: str, status: Status, reason: str | None = None) -> None:
        now = _milliseconds()
        self._jobs.put(lambda: self._end(key, status, reason, now))

    def status(self, key: str) -> Status | None:
        child = self._children.get(key)
        return child.status if child else None

    def close(
        self,
        status: Status,
        metrics: Mapping[str, float] | None = None,
        note: str = "",
        artifacts: Mapping[str, str] | None = None,
    ) -> list[str]:
        self._give_up_at = time.monotonic() + self._patience_s
        now = _milliseconds()

        def finish() -> None:
            batch = [Metric(name, value, now, 0) for name, value in (metrics or {}).items()]
            tags = [RunTag(STATUS_TAG, status)] + ([RunTag("mlflow.note.content", note)] if note else [])
            self._client.log_batch(self.parent_id, metrics=batch, tags=tags)
            for name, text in (artifacts or {}).items():
                self._client.log_text(self.parent_id, text, name)
            self._client.set_terminated(self.parent_id, _MLFLOW_STATUS[status], now)

        self._jobs.put(finish)
        self._jobs.put(None)
        self._thread.join()
        return self._problems

    def _find_or_create_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise TrackingError(f"the MLflow experiment {self.experiment!r} was deleted; restore it or take another")
            return str(found.experiment_id)
        location = self._artifacts.as_uri() if self._artifacts else None
        # The tag makes MLflow's page open in the model-training view.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(self.experiment, location, tags))

    def _find_or_create_parent(self, experiment: RunInfo) -> str:
        found = self._runs(f"tags.`{KEY_TAG}` = '{experiment.key}'")
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id)
        run_id = self._create_run(experiment, {}, _milliseconds())
        self._describe(run_id, experiment)
        return run_id

    def _runs(self, query: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([self.experiment_id], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _create_run(self, run: RunInfo, tags: Mapping[str, str], start: int) -> str:
        tags = {**run.tags, **tags, KEY_TAG: run.key, STATUS_TAG: Status.RUNNING}
        return str(self._client.create_run(self.experiment_id, start, tags, run.name).info.run_id)

    def _describe(self, run_id: str, run: RunInfo) -> None:
        params = [Param(name, str(value)[:MAX_VALUE]) for name, value in run.params.items()]
        for first in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run_id, params=params[first : first + MAX_PARAMS])
        for name, text in run.artifacts.items():
            self._client.log_text(run_id, text, name)

    def _start(self, run: RunInfo, history: Sequence[Epoch], now: int, *, attempted: set[str]) -> None:
        child = self._children.get(run.key)
        if child is None and run.key in attempted:
            # The store may have made the run and only its answer was lost.
            query = f"tags.`{names.PARENT_RUN_TAG}` = '{self.parent_id}' and tags.`{KEY_TAG}` = '{run.key}'"
            child = next((_Child(found.info.run_id) for found in self._runs(query)), None)
        attempted.add(run.key)
        if child is None:
            child = _Child(self._create_run(run, {names.PARENT_RUN_TAG: self.parent_id}, now))
            self._children[run.key] = child
            self._describe(child.run_id, run)
        else:
            self._children[run.key] = child
            self._describe(child.run_id, run)
            seen = self._client.get_metric_history(child.run_id, names.EPOCH_TIME)
            child.last_epoch = max((metric.step for metric in seen), default=0)
            self._client.update_run(child.run_id, status="RUNNING")
            self._client.set_tag(child.run_id, STATUS_TAG, Status.RUNNING)
        for epoch in history:
            self._log(run.key, epoch, now)

    def _log(self, key: str, epoch: Epoch, now: int) -> None:
        child, step = self._children[key], int(epoch["epoch"])
        if step > child.last_epoch:
            child.last_epoch = step
            child.waiting.append([Metric(n, v, now, step) for n, v in epoch.items() if n != "epoch"])

    def _end(self, key: str, status: Status, reason: str | None, now: int) -> None:
        child = self._children[key]
        self._send(child)
        self._client.set_tag(child.run_id, STATUS_TAG, status)
        if reason:
            self._client.set_tag(child.run_id, REASON_TAG, reason[:MAX_VALUE])
        self._client.set_terminated(child.run_id, _MLFLOW_STATUS[status], now)

    def _send(self, child: _Child) -> None:
        """Write what waits, in batches of whole epochs, so that an epoch is never stored in part."""
        while child.waiting:
            batch: list[Metric] = []
            count = 0
            for epoch in child.waiting:
                if batch and len(batch) + len(epoch) > MAX_METRICS:
                    break
                batch += epoch
                count += 1
            self._client.log_batch(child.run_id, metrics=batch)
            del child.waiting[:count]

    def _write(self) -> None:
        """The writer thread: do jobs in order, and when none is left, send the metrics that wait."""
        while (job := self._jobs.get()) is not None:
            self._persist(job)
            if self._jobs.empty():
                for child in list(self._children.values()):
                    if child.waiting:
                        self._persist(lambda child=child: self._send(child))  # type: ignore[misc]

    def _persist(self, job: Callable[[], None]) -> None:
        """Do a job, again and again while the store is away; every job may be repeated safely."""
        while True:
            try:
                job()
                return
            except Exception as error:
                permanent = isinstance(error, MlflowException) and error.error_code in PERMANENT
                late = self._give_up_at is not None and time.monotonic() > self._give_up_at
                if permanent or late or isinstance(error, (KeyError, TypeError)):
                    self._problems.append(_first_line(error))
                    return
                time.sleep(RETRY_PAUSE_S)


def close_orphans(uri: str, experiment: str, parent_key: str) -> int:
    """Mark the runs of an experiment whose driver is gone as killed; returns how many there were."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return 0
    parents = client.search_runs([found.experiment_id], f"tags.`{KEY_TAG}` = '{parent_key}'")
    orphans = [run for run in parents if run.info.status == "RUNNING"]
    for parent in parents:
        query = f"tags.`{names.PARENT_RUN_TAG}` = '{parent.info.run_id}' and attributes.status = 'RUNNING'"
        orphans += client.search_runs([found.experiment_id], query, max_results=1000)
    for run in orphans:
        client.set_tag(run.info.run_id, STATUS_TAG, Status.INTERRUPTED)
        client.set_terminated(run.info.run_id, "KILLED")
    return len(orphans)


def redacted(uri: str) -> str:
    """The URI without a user and password."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest.split("/")[0] else uri


def _status_of(run: Run) -> Status | None:
    try:
        return Status(run.data.tags.get(STATUS_TAG, ""))
    except ValueError:
        return None


def _milliseconds() -> int:
    return int(time.time() * 1000)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
