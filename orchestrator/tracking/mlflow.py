"""MLflow: a parent run for the experiment, a child run for each trial, written by one thread in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from orchestrator import names
from orchestrator.errors import TrackingError
from orchestrator.search.trials import Status
from orchestrator.tracking.base import DataSet, Epoch, RunInfo, StudentModel, Tracker
from orchestrator.tracking.failures import cause, may_pass, unusable
from orchestrator.tracking.mlflow_models import Registry
from orchestrator.tracking.mlflow_store import KEY_TAG, NOTE_TAG, STATUS_TAG, as_input, open_client, search, show
from orchestrator.tracking.mlflow_system import SystemMetrics
from orchestrator.tracking.views import Contents
from orchestrator.tracking.writer import GivenUpError, Writer

REASON_TAG = f"{names.TAG_PREFIX}reason"
MAX_PARAMS, MAX_VALUE = 100, 6000
"""MLflow's limits on one batch and one parameter value."""
MAX_METRICS = 350
"""Metrics of one batch. MLflow takes 1000, but on sqlite the time of a batch grows faster than its size."""
SEND_EVERY_S = 2.0
"""Seconds that metrics may wait for others: a batch of 20 short epochs costs a seventh of 20 batches."""

_MLFLOW_STATUS = {
    Status.RUNNING: "RUNNING",
    Status.PAUSED: "RUNNING",  # MLflow's SCHEDULED would say that it has not begun
    Status.INTERRUPTED: "KILLED",
    Status.FINISHED: "FINISHED",
    Status.STOPPED: "FINISHED",
    Status.FAILED: "FAILED",
}

Item = TypeVar("Item", Metric, Param)


@dataclass
class _Child:
    """A trial's run in the store."""

    key: str
    run_id: str = ""
    status: Status | None = None
    """What the store said when it was opened."""
    taken_up: bool = True
    """Whether this session works on it."""
    paused: bool = False
    last_epoch: int = 0
    waiting: list[list[Metric]] = field(default_factory=list)
    """Metrics not yet sent, an inner list for each epoch."""


class MLflowTracker(Tracker):
    """Writes to any MLflow tracking URI.

    Trials never talk to MLflow: the driver hands their metrics to one writer thread, so a local sqlite
    store sees a single writer, and a server that is away for a while only makes the queue longer.
    `patience_s` is how long `close` waits for a server that does not answer.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None, patience_s: float = 60.0) -> None:
        self.uri = uri
        self.experiment = experiment
        self.experiment_id = ""
        self.parent_id = ""
        self._artifacts = artifacts
        self._source: dict[str, str] = {}
        self._data: list[DataSet] = []
        """What trials of this session have told of."""
        self._children: dict[str, _Child] = {}
        self._writer = Writer(
            idle=self._collect,
            idle_every_s=SEND_EVERY_S,
            may_pass=may_pass,
            describe=lambda error: cause(error, uri),
            patience_s=patience_s,
        )

    def open(self, experiment: RunInfo, seen: Contents | None = None) -> None:
        try:
            self._client = open_client(self.uri, self._artifacts)
            self.experiment_id = self._find_or_create_experiment()
            if seen is not None:
                show(self._client, self.experiment_id, seen)
            # Where the experiment comes from, its trials come from.
            self._source = {name: value for name, value in experiment.tags.items() if name.startswith("mlflow.")}
            self.parent_id = self._find_or_create_parent(experiment)
            self._system = SystemMetrics(self.parent_id, self.uri, self._client)
            for run in self._runs(f"tags.`{names.PARENT_RUN_TAG}` = '{self.parent_id}'"):
                key = run.data.tags.get(KEY_TAG, "")
                self._children[key] = _Child(key, run.info.run_id, _status_of(run), taken_up=False)
        except TrackingError:
            raise
        except Exception as error:
            raise unusable(self.uri, error) from None
        self._parent = _Child("the experiment", self.parent_id)
        self._writer.start()

    def start(self, run: RunInfo, history: Sequence[Epoch] = ()) -> None:
        now = _milliseconds()
        self._writer.put(lambda: self._start(run, history, now))

    def describe(self, key: str, params: Mapping[str, Any], data: Sequence[DataSet] = ()) -> None:
        told = [Param(name, str(value)[:MAX_VALUE]) for name, value in params.items()]
        self._writer.put(lambda: self._describe(key, told, data))

    def log(self, key: str, epoch: Epoch) -> None:
        now = _milliseconds()
        self._writer.put(lambda: self._log(key, epoch, now))

    def end(
        self, key: str, status: Status, reason: str | None = None, artifacts: Mapping[str, str] | None = None
    ) -> None:
        now = _milliseconds()
        self._writer.put(lambda: self._end(key, status, reason, artifacts or {}, now))

    def register(self, name: str, models: Sequence[StudentModel]) -> None:
        self._writer.put(lambda: self._register(name, models))

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
        now = _milliseconds()
        return self._writer.close(lambda: self._finish(status, metrics or {}, note, artifacts or {}, now))

    def _find_or_create_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            location = self._artifacts.as_uri() if self._artifacts else None
            try:
                return str(self._client.create_experiment(self.experiment, location))
            except MlflowException:
                # Another process may have made it in between.
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the MLflow experiment {self.experiment!r} was deleted",
                hint=f"restore it with: mlflow experiments restore --experiment-id {found.experiment_id}; "
                "or choose another name with tracking.experiment",
            )
        return str(found.experiment_id)

    def _find_or_create_parent(self, experiment: RunInfo) -> str:
        found = self._runs(f"tags.`{KEY_TAG}` = '{experiment.key}'")
        if found:
            run_id = str(found[0].info.run_id)
            self._client.update_run(run_id, status="RUNNING")
            self._client.set_tag(run_id, STATUS_TAG, Status.RUNNING)
        else:
            run_id = self._create_run(experiment, {}, _milliseconds())
        # Also of a run that was found: the session that made it may have been killed right after.
        params = _params(experiment, found[0].data.params if found else ())
        if params:
            self._client.log_batch(run_id, params=params)
        for name, text in experiment.artifacts.items():
            self._client.log_text(run_id, text, name)
        return run_id

    def _runs(self, query: str) -> list[Run]:
        return search(self._client, self.experiment_id, query)

    def _create_run(self, run: RunInfo, tags: Mapping[str, str], start: int) -> str:
        tags = {**self._source, **run.tags, **tags, KEY_TAG: run.key, STATUS_TAG: Status.RUNNING}
        if run.note:
            tags[NOTE_TAG] = run.note
        return str(self._client.create_run(self.experiment_id, start, tags, run.name).info.run_id)

    # What follows runs in the writer's thread.

    def _start(self, run: RunInfo, history: Sequence[Epoch], now: int) -> None:
        child = self._children.get(run.key)
        if child is None:
            child = _Child(run.key)
            if not self._writer.persist(f"{run.key}: its run", self._creating(child, run, now)):
                return
            self._children[run.key] = child
            known: Mapping[str, str] = {}
        else:
            child.taken_up, child.paused = True, False
            self._send(child)
            known = self._continue(child)
        self._put_params(child, _params(run, known))
        self._put_artifacts(run.key, child.run_id, run.artifacts)
        for epoch in history:
            self._log(run.key, epoch, now)

    def _creating(self, child: _Child, run: RunInfo, now: int) -> Callable[[], None]:
        attempted = False

        def create() -> None:
            nonlocal attempted
            of_parent = f"tags.`{names.PARENT_RUN_TAG}` = '{self.parent_id}'"
            # After a failure: the store may have made the run, and only its answer was lost.
            found = self._runs(f"{of_parent} and tags.`{KEY_TAG}` = '{run.key}'") if attempted else []
            attempted = True
            parent = {names.PARENT_RUN_TAG: self.parent_id}
            child.run_id = found[0].info.run_id if found else self._create_run(run, parent, now)

        return create

    def _continue(self, child: _Child) -> Mapping[str, str]:
        """Mark a run of an earlier session as running, and learn what it has; returns its parameters."""
        known: dict[str, str] = {}

        def reopen() -> None:
            stored = self._client.get_run(child.run_id)
            known.update(stored.data.params)
            seen = self._client.get_metric_history(child.run_id, names.EPOCH_TIME)
            child.last_epoch = max([child.last_epoch, *(metric.step for metric in seen)])
            self._client.update_run(child.run_id, status="RUNNING")
            if REASON_TAG in stored.data.tags:
                self._client.delete_tag(child.run_id, REASON_TAG)
            self._client.set_tag(child.run_id, STATUS_TAG, Status.RUNNING)

        self._writer.persist(f"{child.key}: that it goes on", reopen)
        return known

    def _log(self, key: str, epoch: Epoch, now: int) -> None:
        child, step = self._children.get(key), int(epoch["epoch"])
        if child is not None and step > child.last_epoch:
            child.last_epoch = step
            child.waiting.append([Metric(n, v, now, step) for n, v in epoch.items() if n != "epoch"])

    def _end(self, key: str, status: Status, reason: str | None, artifacts: Mapping[str, str], now: int) -> None:
        child = self._children.get(key)
        if child is None:
            return
        self._send(child)
        self._put_artifacts(key, child.run_id, artifacts)
        child.taken_up, child.paused = True, status is Status.PAUSED
        self._terminate(key, child.run_id, status, reason, now)

    def _terminate(self, key: str, run_id: str, status: Status, reason: str | None, now: int) -> None:
        def terminate() -> None:
            if reason:
                self._client.set_tag(run_id, REASON_TAG, reason[:MAX_VALUE])
            if status is Status.PAUSED:
                self._client.update_run(run_id, status=_MLFLOW_STATUS[status])
            else:
                self._client.set_terminated(run_id, _MLFLOW_STATUS[status], now)
            # Last: a later session that finds it knows that all before it is written.
            self._client.set_tag(run_id, STATUS_TAG, status)

        self._writer.persist(f"{key}: that it is {status}", terminate)

    def _register(self, name: str, models: Sequence[StudentModel]) -> None:
        self._send_all()
        run_ids = {key: child.run_id for key, child in self._children.items()}
        Registry(self._client, self._writer, self.experiment_id, run_ids).register(name, models)

    def _finish(
        self, status: Status, metrics: Mapping[str, float], note: str, artifacts: Mapping[str, str], now: int
    ) -> None:
        self._send_all()
        for child in self._children.values():
            left_open = child.status in (Status.RUNNING, Status.PAUSED) and not child.taken_up
            if left_open or child.paused:
                self._terminate(child.key, child.run_id, Status.INTERRUPTED, None, now)
        self._parent.waiting += [[Metric(name, value, now, 0)] for name, value in metrics.items()]
        self._send(self._parent)
        if note:
            writing = partial(self._client.set_tag, self.parent_id, NOTE_TAG, note)
            self._writer.persist("the experiment: its note", writing)
        self._put_artifacts("the experiment", self.parent_id, artifacts)
        self._terminate("the experiment", self.parent_id, status, None, now)

    def _describe(self, key: str, params: Sequence[Param], data: Sequence[DataSet]) -> None:
        child = self._children.get(key)
        self._put_params(child, params)
        if child is None or not data:
            return
        inputs = [as_input(one) for one in data]
        # The experiment's own run has what all its trials have together.
        new = [one for one in data if one not in self._data]
        self._data += new
        for run_id, which in ((child.run_id, inputs), (self.parent_id, [as_input(one) for one in new])):
            if which:
                self._writer.persist(f"{key}: its data", partial(self._client.log_inputs, run_id, which))

    def _put_params(self, child: _Child | None, params: Sequence[Param]) -> None:
        if child is None:
            return
        for first in range(0, len(params), MAX_PARAMS):
            self._put(
                child,
                "parameters",
                params[first : first + MAX_PARAMS],
                lambda some: self._client.log_batch(child.run_id, params=some),
            )

    def _put_artifacts(self, key: str, run_id: str, artifacts: Mapping[str, str]) -> None:
        for name, text in artifacts.items():
            self._writer.persist(f"{key}: {name}", partial(self._client.log_text, run_id, text, name))

    def _collect(self) -> None:
        self._send_all()
        if machine := self._system.due():
            self._parent.waiting.append(machine)
            self._send(self._parent)

    def _send_all(self) -> None:
        for child in self._children.values():
            self._send(child)

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
            steps = f"epochs {batch[0].step} to {batch[-1].step}"
            self._put(child, steps, batch, lambda some: self._client.log_batch(child.run_id, metrics=some))
            del child.waiting[:count]

    def _put(self, child: _Child, what: str, items: Sequence[Item], send: Callable[[Sequence[Item]], None]) -> None:
        """Send the items; where the store refuses, all but those that it refuses by themselves."""
        error = self._writer.attempt(lambda: send(items))
        if error is None:
            return
        if isinstance(error, GivenUpError):
            self._writer.report(f"{child.key}: {what}", error)
        elif len(items) == 1:
            self._writer.report(f"{child.key}: {items[0].key}", error)
        else:
            middle = len(items) // 2
            self._put(child, what, items[:middle], send)
            self._put(child, what, items[middle:], send)


def _params(run: RunInfo, known: Container[str]) -> list[Param]:
    """The parameters that the store does not have yet; it lets none be changed."""
    return [Param(name, str(value)[:MAX_VALUE]) for name, value in run.params.items() if name not in known]


def _status_of(run: Run) -> Status | None:
    try:
        return Status(run.data.tags.get(STATUS_TAG, ""))
    except ValueError:
        return None


def _milliseconds() -> int:
    return int(time.time() * 1000)
