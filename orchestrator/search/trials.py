"""Trials and what became of them, as plain data that journals, prints and compares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Why a run is made."""

    TEACHER = "teacher"
    SEARCH = "search"
    FINAL = "final"


ASSISTANT = "assistant"
"""How the ids of those trials of stage 0 begin that train a student of the teacher's."""


class Status(StrEnum):
    """What became of a trial; the first three are still to be worked on."""

    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in (Status.RUNNING, Status.PAUSED, Status.INTERRUPTED)

    @property
    def has_result(self) -> bool:
        return self in (Status.FINISHED, Status.STOPPED)


@dataclass(frozen=True)
class Change:
    """Other values that a trial goes on with in mid-training."""

    epoch: int
    """The epoch after which they hold."""
    params: Mapping[str, Any]
    """All searched values by dotted path."""
    source: str | None = None
    """The trial whose weights and optimizer state it goes on with; None, or a search trial's own id, for its own."""


@dataclass(frozen=True)
class Trial:
    """One training job."""

    id: str
    """Unique in the experiment, and fit for a folder's name."""
    phase: Phase
    variant: str
    """The arm it belongs to; for a teacher, the teacher's key."""
    index: int
    """Position within its phase and variant, counted from 0; of a final run, within its configuration."""
    seed: int
    params: Mapping[str, Any] = field(default_factory=dict)
    """Searched values by dotted path; with `changes` those that it begins with."""
    changes: tuple[Change, ...] = ()
    """What a final run changes them to, as the configuration that it repeats did."""
    repeats: str | None = None
    """The search trial whose configuration a final run repeats; where a journal does not tell, the variant's best."""


@dataclass
class Record:
    """A trial and its outcome so far."""

    trial: Trial
    status: Status = Status.RUNNING
    metrics: dict[str, float] = field(default_factory=dict)
    """Those of the last epoch."""
    epochs: int = 0
    """Epochs that were trained."""
    seconds: float = 0.0
    """Time from start to end, over all attempts."""
    reason: str | None = None
    """One line on why it failed, was stopped, or waits."""
    died: bool = False
    """Whether its process ended instead of telling why, as where memory ran out: another time it may live."""
    described: dict[str, float] = field(default_factory=dict)
    """What its process told of its networks by dotted name, such as student.parameters."""
    rungs: list[float] = field(default_factory=list)
    """The search's metric at every rung where it waited, for others or for other values."""
    changes: tuple[Change, ...] = ()
    """What became of a search trial's values while it waited."""

    def value(self, name: str) -> float | None:
        """One of its figures: a metric, what its process told, epochs or seconds; None where it has none such."""
        own: dict[str, float] = {"epochs": self.epochs, "seconds": self.seconds}
        return {**own, **self.described, **self.metrics}.get(name)

    @property
    def made(self) -> tuple[Change, ...]:
        """All changes of its values so far."""
        return (*self.trial.changes[: len(self.rungs)], *self.changes)

    @property
    def params(self) -> Mapping[str, Any]:
        """The values that it trains with now, or ended with."""
        return self.made[-1].params if self.made else self.trial.params


def created(trial: Trial) -> dict[str, Any]:
    """The journal's event of a trial that is about to start."""
    content = asdict(trial)
    for name in ("changes", "repeats"):
        if not content[name]:
            del content[name]
    return {"event": "created", "trial": content}


def changed(record: Record, change: Change) -> dict[str, Any]:
    """The journal's event of a waiting trial that is to go on with another's weights and other values."""
    return {"event": "changed", "id": record.trial.id, "old": dict(record.params), **asdict(change)}


def resumed(trial: Trial) -> dict[str, Any]:
    """The journal's event of a trial that goes on."""
    return {"event": "resumed", "id": trial.id}


def ended(record: Record) -> dict[str, Any]:
    """The journal's event of a trial that will not go on, or not in this session, or waits for others."""
    content = asdict(record)
    del content["trial"], content["changes"]
    if not record.rungs:
        del content["rungs"]
    return {"event": "ended", "id": record.trial.id, **content}


def taken_back(ids: Iterable[str]) -> dict[str, Any]:
    """The journal's event of trials whose failure was not their own: they are to be tried again."""
    return {"event": "taken back", "ids": list(ids)}


def replay(events: Iterable[Mapping[str, Any]]) -> dict[str, Record]:
    """The records that a journal's events add up to, in the order of their creation.

    Events of trials whose creation it does not tell count for nothing: they are run again.
    """
    records: dict[str, Record] = {}
    for event in events:
        if event["event"] == "created":
            content = dict(event["trial"])
            changes = tuple(Change(**change) for change in content.get("changes", ()))
            trial = Trial(**{**content, "phase": Phase(content["phase"]), "changes": changes})
            records.setdefault(trial.id, Record(trial))
        elif event["event"] == "changed" and event["id"] in records:
            record = records[event["id"]]
            record.changes += (Change(event["epoch"], event["params"], event["source"]),)
        elif event["event"] == "resumed" and event["id"] in records:
            records[event["id"]] = replace(records[event["id"]], status=Status.RUNNING, reason=None, died=False)
        elif event["event"] == "taken back":
            for id in records.keys() & event["ids"]:
                records[id] = replace(records[id], status=Status.INTERRUPTED)
        elif event["event"] == "ended" and event["id"] in records:
            # A trial that ended without a beginning was interrupted before anything of it was written.
            old = records[event["id"]]
            content = {key: value for key, value in event.items() if key not in ("event", "id", "at")}
            content |= {"status": Status(content["status"]), "changes": old.changes}
            records[event["id"]] = Record(old.trial, **content)
    return records
