"""The tracker: what the driver tells about the experiment and its trials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.search.trials import Status
from orchestrator.tracking.views import Contents

Epoch = Mapping[str, float]
"""Metrics of one epoch by name, `names.EPOCH_TIME` among them, and the key "epoch", counted from 1."""


@dataclass(frozen=True)
class RunInfo:
    """One run as it is shown: a trial, or the experiment around it."""

    key: str
    """What the run is found again by: the trial's id, or the experiment's key."""
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    """Text files by name."""
    note: str = ""
    """What it is, in Markdown."""


@dataclass(frozen=True)
class DataSet:
    """Images that a trial uses."""

    name: str
    context: str
    """What for: training, validation or testing."""
    digest: str
    """Of these very images, in at most 36 characters."""
    shape: Sequence[int]
    """Images, channels, height and width."""
    classes: int
    root: str | None = None
    """Where the spec says that they lie."""


@dataclass(frozen=True)
class StudentModel:
    """A trained student as it is kept for use."""

    key: str
    """The trial that trained it."""
    name: str
    """What it is shown as: its variant."""
    weights: Path
    """Its safetensors file."""
    digest: str
    """Of that file; what is registered once is not registered again."""
    image: tuple[int, int, int]
    """Channels, height and width of what it takes, float32 of 0 to 1."""
    mean: tuple[float, ...]
    """Of its training images, by channel, on that scale."""
    classes: tuple[str, ...]
    epochs: int
    """That it was trained for: the step of its metrics."""
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    metrics: Sequence[str]
    """Names of its trial's metrics that it is to be compared by."""
    requirements: Sequence[str]
    """Packages, as pip takes them, that whoever loads it needs beside this one."""
    summary: str
    """One line."""
    card: str
    """Its model card, Markdown, in which `names.MODEL_ADDRESS` stands for where the store will have it."""
    rank: int = 0
    """Its place among the experiment's students, counted from 0, the best; one in front of it may be missing."""


class Tracker(ABC):
    """Records one experiment.

    The driver calls `open` once, before any trial starts, then for every trial `start`, `log` for each
    epoch and `end`, where all has ended `register`, and at last `close`. All but `open` return at
    once: a slow or absent store must not slow a trial. A trial that goes on after an interruption is
    started again under its key; epochs that the store already has are not written again.
    """

    @abstractmethod
    def open(self, experiment: RunInfo, seen: Contents | None = None) -> None:
        """Create the store and the parent run, or find them; raises `TrackingError`.

        `seen` is what the store's pages are to show of the experiment, if it has such.
        """

    @abstractmethod
    def start(self, run: RunInfo, history: Sequence[Epoch] = ()) -> None:
        """A trial starts or goes on; `history` holds the epochs it has behind it."""

    @abstractmethod
    def describe(self, key: str, params: Mapping[str, Any], data: Sequence[DataSet] = ()) -> None:
        """Further parameters of a trial, and its images, which only its process knows; they may be told again."""

    @abstractmethod
    def log(self, key: str, epoch: Epoch) -> None:
        """A trial has trained an epoch."""

    @abstractmethod
    def end(
        self, key: str, status: Status, reason: str | None = None, artifacts: Mapping[str, str] | None = None
    ) -> None:
        """A trial has ended, or is interrupted; `artifacts` are text files by name."""

    @abstractmethod
    def register(self, name: str, models: Sequence[StudentModel]) -> None:
        """Keep the experiment's best students under a name; those that are there stay as they are."""

    @abstractmethod
    def status(self, key: str) -> Status | None:
        """What the store said of a trial when it was opened, None if it did not know it."""

    @abstractmethod
    def close(
        self,
        status: Status,
        metrics: Mapping[str, float] | None = None,
        note: str = "",
        artifacts: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The experiment has ended; waits until all is written and returns what could not be, a line each."""
