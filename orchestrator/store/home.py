"""The home folder: where experiments, teachers and the default MLflow store live."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orchestrator.errors import CheckpointError, OrchestratorError, UsageError
from orchestrator.registry import nearest
from orchestrator.search.extension import Change, recorded, replayed
from orchestrator.search.trials import Record, Status, replay
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.loading import load_spec, to_yaml
from orchestrator.spec.uris import is_uri
from orchestrator.store.files import write_atomically
from orchestrator.store.journal import Journal
from orchestrator.store.remote import Remote
from orchestrator.store.requests import Mailbox, Request, Wish
from orchestrator.store.shared import SharedExperiment
from orchestrator.store.trial import TrialFolder
from orchestrator.store.weights import is_whole, metadata

HOME_VARIABLE = "ORCHESTRATOR_HOME"
DEFAULT_HOME = ".orchestrator"
MIN_FREE_BYTES = 200 * 2**20
KEPT_FREE_BYTES = 2 * 10**9
"""Disk that stored logits of teachers leave free."""
LOOKS_AT_ONCE = 16
"""Experiments of an object store that are looked at together."""
STUDENTS = "trials/*-final-*/student.safetensors"
"""Below an experiment's folder: the students of its final runs."""


class Home:
    """Locations below one folder; `path` defaults to ORCHESTRATOR_HOME, then ./.orchestrator.

    It may be a URI such as s3://bucket/prefix: then `path` is a folder that stands for it on this machine, and
    `remote` brings what others must see to the store, and back. Printed, a home is what the user has given.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        given = str(path or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
        self.remote = Remote(given) if is_uri(given) else None
        self.path = self.remote.folder if self.remote else Path(given).expanduser().absolute()

    def __str__(self) -> str:
        return self.remote.uri if self.remote else str(self.path)

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        """MLflow's own file."""
        return self.path / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def cache(self) -> Path:
        """Decoded images and downloaded data sets; all of it can be made again."""
        return self.path / "cache"

    @property
    def teacher_logits(self) -> Path:
        """Logits of teachers, one folder for each teacher, data set and augmentation; see docs/teacher-logits.md."""
        return self.cache / "teacher-logits"

    def room_for_logits(self) -> int:
        """Bytes that the store of teachers' logits may take, with what it has, if the disk is to keep some free."""
        folder = next(path for path in (self.path, *self.path.parents) if path.exists())
        taken = 0
        for path in self.teacher_logits.glob("*/*.bin"):
            # Another experiment may remove it at any time.
            with suppress(OSError):
                taken += path.stat().st_size
        return max(0, shutil.disk_usage(folder).free + taken - KEPT_FREE_BYTES)

    @property
    def option(self) -> list[str]:
        """The command-line words that name this home; none for the default one."""
        return [] if self.path == Path(DEFAULT_HOME).absolute() else ["--home", str(self)]

    def teacher(self, key: str) -> Path:
        """The weights of the teacher with this key; the file exists once it is trained."""
        return self.path / "teachers" / f"{key}.safetensors"

    def has_teacher(self, key: str) -> bool:
        """Whether its weights are there and whole; a file that was cut short is as good as none."""
        if self.remote:
            # What a store shows is whole.
            return self.remote.entry(self.teacher(key)) is not None
        return is_whole(self.teacher(key))

    def teacher_accuracy(self, key: str) -> float | None:
        """Validation accuracy in percent that is kept with the teacher's weights; None where there is none."""
        try:
            accuracy = float((metadata(self.teacher(key)) or {})["val_acc1"])
        except (ValueError, KeyError, TypeError):
            return None
        return accuracy if 0 <= accuracy <= 100 else None

    def create(self) -> None:
        """Make the folder; raises where that is not possible or hardly any disk is left."""
        try:
            for folder in (self.path / "experiments", self.path / "teachers"):
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise OrchestratorError(
                f"cannot write to the home folder {self.path}: {error.strerror or error}",
                hint=f"choose another with --home or {HOME_VARIABLE}",
            ) from None
        if free < MIN_FREE_BYTES:
            raise OrchestratorError(
                f"only {free / 2**20:.0f} MiB are free on the disk of {self.path}; an experiment needs "
                f"{MIN_FREE_BYTES / 2**20:.0f}",
                hint=f"free some, or choose another place with --home or {HOME_VARIABLE}",
            )

    def own(self, spec: ExperimentSpec) -> ExperimentFolder:
        """The folder of the spec's id."""
        folder = ExperimentFolder(self.path / "experiments" / spec.id, self.remote)
        folder.look(trials=False)
        return folder

    def experiment(self, spec: ExperimentSpec) -> ExperimentFolder:
        """The folder of the spec's id, or of the experiment that was extended to it."""
        own = self.own(spec)
        if own.journal.path.exists():
            return own
        return next((folder for folder in self.of_name(spec.name) if folder.was_extended_to(spec)), own)

    def of_name(self, name: str) -> list[ExperimentFolder]:
        """The experiments of this name, the latest first, but for those that were set aside."""
        return [folder for folder in self.experiments() if folder.name == name and not folder.is_set_aside]

    def experiments(self) -> list[ExperimentFolder]:
        """Every experiment that was started here, the latest first."""
        if self.remote:
            folders = self.remote.folders(self.path / "experiments")
            with ThreadPoolExecutor(LOOKS_AT_ONCE) as threads:
                list(threads.map(lambda path: ExperimentFolder(path, self.remote).look(trials=False), folders))
        else:
            folders = [path.parent for path in (self.path / "experiments").glob("*/journal.jsonl")]
        found = [path for path in folders if (path / "journal.jsonl").exists()]
        found.sort(key=lambda path: -(path / "journal.jsonl").stat().st_mtime)
        return [ExperimentFolder(path, self.remote) for path in found]

    def find(self, name: str) -> ExperimentFolder:
        """The experiment of this name or id; of several with one name, the one that ran last."""
        experiments = self.experiments()
        for folder in experiments:
            if name in (folder.id, folder.name):
                return folder
        known = [folder.id for folder in experiments]
        close = nearest(name, known)
        raise UsageError(
            f"there is no experiment {name!r} in {self}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"known: {', '.join(known) or 'none yet; start one with: orchestrator run SPEC'}",
        )


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

    def was_extended_to(self, spec: ExperimentSpec) -> bool:
        try:
            return spec.hash in self.extensions()[1]
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
        lock = FileLock(self.path / "lock")
        try:
            with lock.acquire(timeout=0):
                return self.shared is not None and self.shared.is_driven_elsewhere()
        except Timeout:
            return True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # Someone else's experiments or a read-only copy, to look at: it cannot be asked, and most have ended.
            return False

    @contextmanager
    def opened(self, spec: ExperimentSpec, changes: Sequence[Change] = ()) -> Iterator[None]:
        """Hold the experiment for one driver; the lock goes with the process, however it ends.

        `changes` are those that the spec has extended the experiment by just now.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "lock")
        try:
            # Whoever asks `is_running` holds it for a moment.
            lock.acquire(timeout=0.5)
        except Timeout:
            raise UsageError(
                f"the experiment {self.id} is already running in another process",
                hint=f"follow it with: orchestrator status {self.id} --follow",
            ) from None
        try:
            with self.shared.driven() if self.shared else nullcontext():
                self.journal.repair()
                if changes:
                    self.journal.append(recorded(changes, spec))
                write_atomically(self.path / "spec.yaml", to_yaml(spec.model_dump(exclude_unset=True)))
                if self.shared:
                    self.shared.push_spec()
                with self.mailbox.opened():
                    yield
        finally:
            lock.release()

    def set_aside(self) -> None:
        """Rename the folder, so that the same experiment can start afresh and nothing is lost."""
        if self.path.exists() and (self.journal.path.exists() or not self.shared):
            if self.is_running():
                raise UsageError(f"the experiment {self.id} is running in another process", hint="stop it first")
            stamp = f"{self.path.name}.before-{time.strftime('%Y%m%d-%H%M%S')}"
            taken = sum(1 for _ in self.path.parent.glob(f"{glob.escape(stamp)}*"))
            to = self.path.with_name(f"{stamp}-{taken + 1}" if taken else stamp)
            if self.shared:
                self.shared.set_aside(to)
            self.path.rename(to)
