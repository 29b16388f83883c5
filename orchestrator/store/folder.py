"""One experiment's folder: its journal, spec, trials and lock."""

from __future__ import annotations

import glob
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import CheckpointError, UsageError
from orchestrator.search.extension import Change, recorded, replayed
from orchestrator.search.trials import Phase, Record, Status, replay
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.loading import load_spec, to_yaml
from orchestrator.store.files import write_atomically
from orchestrator.store.journal import Journal
from orchestrator.store.lock import held, looking
from orchestrator.store.remote import Remote
from orchestrator.store.requests import Mailbox, Request, Wish
from orchestrator.store.shared import SharedExperiment
from orchestrator.store.trial import TrialFolder

STUDENTS = "trials/*-final-*/student.safetensors"
"""Below an experiment's folder: the students of its final runs."""


@dataclass(frozen=True)
class Session:
    """One driver's work on an experiment; times in seconds since 1970."""

    started: float
    epochs: int
    """Epochs that the students had behind them then, all together."""
    at_once: int
    """Trials that run at the same time."""
    begun: float | None = None
    """When its first trial started, once one has."""
    asked: tuple[Request, ...] = ()
    """What other terminals have asked for."""


class ExperimentFolder:
    """One experiment on disk; `shared` where its truth lies in an object store."""

    def __init__(self, path: Path, remote: Remote | None = None) -> None:
        self.path = path
        self.shared = None if remote is None else SharedExperiment(remote, path)
        self.journal = Journal(path / "journal.jsonl", self.shared.push_journal if self.shared else None)
        self.mailbox = Mailbox(path / "requests")

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        """The spec's name: the id without the hash."""
        match = re.fullmatch(r"(.+)-[0-9a-f]{8}(\.before-.+)?", self.id)
        return match.group(1) if match else self.id

    @property
    def is_set_aside(self) -> bool:
        """Whether it was started over, and this is what was there before."""
        return re.fullmatch(r".+-[0-9a-f]{8}\.before-.+", self.id) is not None

    @property
    def log(self) -> Path:
        """Where Ray's and the workers' own output goes."""
        return self.path / "ray.log"

    def trial(self, trial_id: str) -> TrialFolder:
        return TrialFolder(self.path / "trials" / trial_id)

    def look_at_trial(self, trial_id: str) -> None:
        """Have what a trial of an experiment in an object store has told of itself on another machine."""
        if self.shared:
            self.shared.look_at_trial(trial_id)

    def described(self, trial_id: str) -> dict[str, str]:
        """The text of a trial's artifacts by file name, wherever it ran."""
        if not self.trial(trial_id).artifacts.exists():
            self.look_at_trial(trial_id)
        return self.trial(trial_id).described()

    def seen_by_all(self, path: Path) -> str:
        """What all nodes know a folder of the experiment by."""
        return self.shared.remote.uri_of(path) if self.shared else str(path)

    def drop_checkpoints(self, trial_ids: Iterable[str]) -> None:
        """Remove the checkpoints of trials that have ended."""
        ids = list(trial_ids)
        for trial_id in ids:
            shutil.rmtree(self.trial(trial_id).checkpoints, ignore_errors=True)
        if self.shared:
            self.shared.drop_checkpoints(ids)

    @property
    def students(self) -> Iterator[Path]:
        """The weights of trained students."""
        return self.path.glob(STUDENTS)

    def spec(self) -> ExperimentSpec:
        return load_spec(self.path / "spec.yaml")

    def extensions(self) -> tuple[list[Change], set[str]]:
        """What it was extended by, oldest first, and the hashes of the specs that were in force after each time."""
        return replayed(self.journal.read())

    def was_extended_to(self, id: str) -> bool:
        """Whether a spec of this id has extended it; its folder keeps the id of the first."""
        try:
            return id in {f"{self.name}-{hash[:8]}" for hash in self.extensions()[1]}
        except CheckpointError:
            return False

    def records(self) -> dict[str, Record]:
        """What the journal tells; of trials that it does not tell the end of, what their own files add."""
        records = replay(self.journal.read())
        for record in records.values():
            is_open = record.status in (Status.RUNNING, Status.INTERRUPTED)
            if is_open and (epochs := self.trial(record.trial.id).metrics()):
                record.metrics = {name: value for name, value in epochs[-1].items() if name != "epoch"}
                record.epochs = int(epochs[-1]["epoch"])
        return records

    def seconds(self) -> float:
        """Time of all sessions so far, each up to the last event that it wrote of its trials.

        A session may be interrupted, or have only MLflow to catch up, before it runs any: then it has but "tracked".
        An experiment is extended between two sessions.
        """
        spent, last = 0.0, None
        for event in self.journal.read():
            if event["event"] == "session":
                last = event["started"]
            elif event["event"] not in ("tracked", "extended") and last is not None:
                spent, last = spent + event["at"] - last, event["at"]
        return spent

    def environments(self) -> list[dict[str, Any]]:
        """What each session that ran trials was run with, by `environment.describe`; older journals lack it."""
        return [event["environment"] for event in self.journal.read() if "environment" in event]

    def worker_counts(self) -> list[int | list[int]]:
        """Each `resources.num_workers` that students which have ended ran with; older journals do not tell."""
        events, now = self.journal.read(), None
        students = {
            e["trial"]["id"] for e in events if e["event"] == "created" and e["trial"]["phase"] != Phase.TEACHER
        }
        found: list[int | list[int]] = []
        for event in events:
            if event["event"] == "session":
                now = event.get("workers")
            elif event["event"] == "ended" and event["id"] in students and Status(event["status"]).has_result:
                found += [now] if now is not None and now not in found else []
        return found

    @property
    def owner(self) -> str | None:
        """Who ran it first, by `environment.owner`; older journals lack it."""
        events = (event for event in self.journal.read() if event["event"] == "experiment")
        return next((event.get("owner") for event in events), None)

    def logit_decisions(self) -> dict[str, dict[str, Any]]:
        """Which of its runs store their teacher's logits, by `LogitPlan.decisions`; none before the first session."""
        found: dict[str, dict[str, Any]] = {}
        for event in self.journal.read():
            if event["event"] == "logits":
                found |= event["decided"]
        return found

    def is_tracked(self, store: str) -> bool:
        """Whether this store, by its digest, has all that the journal tells of trials."""
        last = self.journal.read()[-1:]
        return any(event["event"] == "tracked" and event.get("store") == store for event in last)

    def last_session(self) -> Session | None:
        """The latest session that ran trials; None before there is one."""
        found: Session | None = None
        for event in self.journal.read():
            if event["event"] == "session":
                found = Session(event["started"], event.get("epochs", 0), event.get("at_once", 1))
            elif found and found.begun is None and event["event"] in ("created", "resumed"):
                found = replace(found, begun=event["at"])
            elif found and event["event"] == "asked":
                found = replace(found, asked=(*found.asked, Request.from_dict(event)))
        return found

    def session_now(self) -> Session | None:
        """The session of the driver that has it on this machine; None until its first trial can begin.

        Where none has it here, the latest one.
        """
        session, opened = self.last_session(), self.mailbox.since()
        return None if session and opened and session.started < opened else session

    def was_stopped(self) -> bool:
        """Whether `orchestrator stop` has ended the last session."""
        session = self.last_session()
        whole = [request.wish for request in session.asked if not request.trials] if session else []
        return whole[-1:] == [Wish.STOP]

    def look(self, *, trials: bool = True) -> None:
        """Have what an object store knows of it, with what its trials have told of themselves."""
        if self.shared:
            self.shared.look(trials=trials)

    def ask(self, request: Request) -> Callable[[], bool] | None:
        """Ask whoever drives it; gives what tells whether the request was taken. None where nobody does."""
        if (file := self.mailbox.put(request)) is not None:
            return lambda: not file.exists()
        if self.shared and self.shared.is_driven_elsewhere():
            return self.shared.ask(json.dumps(request.to_dict()))
        return None

    def is_running(self) -> bool:
        """Whether a driver has it, on this machine or, where its truth lies in an object store, on another one."""
        try:
            with looking(self.path) as free:
                return not free or (self.shared is not None and self.shared.is_driven_elsewhere())
        except PermissionError:
            # Someone else's experiments, to look at: it cannot be asked, and most have ended.
            return False

    @contextmanager
    def opened(
        self, spec: ExperimentSpec, changes: Sequence[Change] = (), known: Sequence[Change] | None = None
    ) -> Iterator[None]:
        """Hold the experiment for one driver; the lock goes with the process, however it ends.

        `changes` are those that the spec has extended the experiment by just now, `known` the earlier ones that it was
        made with. Raises `UsageError` where another process holds the experiment, or has extended it since.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        running = UsageError(
            f"the experiment {self.id} is already running in another process",
            hint=f"follow it with: orchestrator status {self.id} --follow",
        )
        with held(self.path, running), self.shared.driven() if self.shared else nullcontext():
            self.journal.repair()
            if known is not None and (now := self.extensions()[0]) != list(known):
                told = ", ".join(map(str, now[len(known) :])) or "another journal is in its place"
                raise UsageError(
                    f"the experiment {self.id} was changed by another process just now: {told}",
                    hint="run the same command again",
                )
            if changes:
                self.journal.append(recorded(changes, spec))
            write_atomically(self.path / "spec.yaml", to_yaml(spec.model_dump(exclude_unset=True)))
            if self.shared:
                self.shared.push_spec()
            with self.mailbox.opened():
                yield

    def set_aside(self) -> None:
        """Rename the folder, so that the same experiment can start afresh and nothing is lost."""
        if self.path.exists() and (self.journal.path.exists() or not self.shared):
            running = UsageError(f"the experiment {self.id} is running in another process", hint="stop it first")
            with held(self.path, running):
                if self.shared and self.shared.is_driven_elsewhere():
                    raise running
                stamp = f"{self.path.name}.before-{time.strftime('%Y%m%d-%H%M%S')}"
                taken = sum(1 for _ in self.path.parent.glob(f"{glob.escape(stamp)}*"))
                to = self.path.with_name(f"{stamp}-{taken + 1}" if taken else stamp)
                if self.shared:
                    self.shared.set_aside(to)
                self.path.rename(to)
