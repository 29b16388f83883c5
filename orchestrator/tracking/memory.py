"""A tracker in memory: runs as plain data, for tests and for looking at in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.search.trials import Status
from orchestrator.tracking.base import DataSet, Epoch, RunInfo, StudentModel, Tracker
from orchestrator.tracking.views import Contents


@dataclass
class MemoryRun:
    """One run as it was told."""

    info: RunInfo
    status: Status = Status.RUNNING
    reason: str | None = None
    epochs: list[dict[str, float]] = field(default_factory=list)
    """Metrics by epoch, each with the key "epoch"."""
    data: list[DataSet] = field(default_factory=list)
    artifacts: dict[str, str] = field(default_factory=dict)
    """Text files by name, from when it ended."""


class MemoryTracker(Tracker):
    """Keeps everything in this process; opened again, it goes on with the runs that it has."""

    def __init__(self) -> None:
        self.experiment: MemoryRun | None = None
        self.runs: dict[str, MemoryRun] = {}
        """Trials by key, in the order of their first start."""
        self.metrics: dict[str, float] = {}
        """Of the experiment; like the note and the artifacts from `close`."""
        self.note = ""
        self.artifacts: dict[str, str] = {}
        self.models: dict[str, list[StudentModel]] = {}
        """The best students by the name that they were registered under, the best first."""
        self._earlier: dict[str, Status] = {}

    def open(self, experiment: RunInfo, seen: Contents | None = None) -> None:
        self._earlier = {key: run.status for key, run in self.runs.items()}
        self.experiment = MemoryRun(experiment)

    def start(self, run: RunInfo, history: Sequence[Epoch] = ()) -> None:
        earlier = self.runs.get(run.key)
        self.runs[run.key] = MemoryRun(run, epochs=earlier.epochs if earlier else [])
        for epoch in history:
            self.log(run.key, epoch)

    def describe(self, key: str, params: Mapping[str, Any], data: Sequence[DataSet] = ()) -> None:
        run = self.runs[key]
        run.data = list(data)
        run.info = replace(run.info, params={**run.info.params, **params})

    def log(self, key: str, epoch: Epoch) -> None:
        epochs = self.runs[key].epochs
        if not epochs or epoch["epoch"] > epochs[-1]["epoch"]:
            epochs.append(dict(epoch))

    def end(
        self, key: str, status: Status, reason: str | None = None, artifacts: Mapping[str, str] | None = None
    ) -> None:
        run = self.runs[key]
        run.status, run.reason, run.artifacts = status, reason, dict(artifacts or {})

    def register(self, name: str, models: Sequence[StudentModel]) -> None:
        self.models[name] = list(models)

    def status(self, key: str) -> Status | None:
        return self._earlier.get(key)

    def close(
        self,
        status: Status,
        metrics: Mapping[str, float] | None = None,
        note: str = "",
        artifacts: Mapping[str, str] | None = None,
    ) -> list[str]:
        if self.experiment is not None:
            self.experiment.status = status
        self.metrics |= metrics or {}
        self.note = note or self.note
        self.artifacts |= artifacts or {}
        return []
