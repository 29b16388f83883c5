"""An experiment whose truth lies in an object store: what its folder on this machine takes from there and gives."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from orchestrator.errors import StorageError
from orchestrator.store.lease import Lease, is_held
from orchestrator.store.lock import looking
from orchestrator.store.remote import PATIENCE_S, Remote, patiently

JOURNAL = "journal.jsonl"
SPEC = "spec.yaml"
LOGS = ("metrics.jsonl", "temperatures.jsonl")


class SharedExperiment:
    """One experiment's folder and its twin."""

    def __init__(self, remote: Remote, path: Path) -> None:
        self.remote = remote
        self._path = path
        self._lease: Lease | None = None
        self._patience = PATIENCE_S
        self.told: str | None = None
        """What there is to say of a driver that has died."""

    @property
    def _claims(self) -> Path:
        return self._path / "drivers"

    @property
    def _requests(self) -> Path:
        return self._path / "requests"

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Be the experiment's one driver, and have all that the store knows of it; the local lock is held."""
        self._lease = Lease(self.remote, self._claims, node_of(self.remote.folder))
        with self._lease.held(self._path.name, self._bring_requests) as self.told:
            self.remote.remove_folder(self._requests)
            self._pull_heads()
            self._pull_trials(self._path / "trials")
            try:
                yield
            finally:
                self._lease = None

    def is_driven_elsewhere(self) -> bool:
        return is_held(self.remote, self._claims, node_of(self.remote.folder))

    def ask(self, request: str) -> Callable[[], bool]:
        """Leave a request for the driver on another machine; gives what tells whether it was taken."""
        path = self._requests / f"{time.time_ns()}-{os.getpid()}.json"
        self.remote.write(path, request.encode())
        return lambda: self.remote.entry(path) is None

    def _bring_requests(self) -> None:
        """Give the session of this machine what others have left in the store."""
        for path in sorted(self.remote.entries(self._requests)):
            content = self.remote.read(path)
            for session in self._requests.glob("*/"):
                written = session / f"{path.stem}.tmp"
                written.write_bytes(content or b"")
                written.replace(session / path.name)
            self.remote.remove(path)

    def look(self, *, trials: bool = False) -> None:
        """Have what is new in journal and spec, with `trials` their metrics as well.

        Where the experiment's driver runs on this machine, its own files are newer than the store's, and stay.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        try:
            (self._path / "lock").touch()
            with looking(self._path) as free:
                if free:
                    self._pull_heads()
                    if trials:
                        self._pull_trials(self._path / "trials")
        except PermissionError:
            return

    def look_at_trial(self, trial_id: str) -> None:
        """Have what a trial has told of itself, wherever it ran; files of this machine that know more stay."""
        self._pull_trials(self._path / "trials" / trial_id)

    def push_journal(self) -> None:
        """Bring the journal to the store, before anything is done on its strength."""
        path = self._path / JOURNAL

        def push() -> None:
            if self._lease is not None:
                self._lease.check()
            self.remote.write(path, path.read_bytes())

        # A store that did not answer for so long is not waited for again, with every trial that is still to be told of.
        patience, self._patience = self._patience, 0.0
        patiently(push, patience)
        self._patience = PATIENCE_S

    def push_spec(self) -> None:
        self.remote.push(self._path / SPEC)

    def drop_checkpoints(self, trial_ids: Sequence[str]) -> None:
        """Remove those of trials that have ended; what cannot be reached now is removed in the next session."""
        trials = self._path / "trials"
        folders = {trials / trial_id / "checkpoints" for trial_id in trial_ids}
        with suppress(StorageError):
            if len(folders) > 1:
                folders &= {path.parent for path in self.remote.entries(trials)}
            for folder in folders:
                self.remote.remove_folder(folder)

    def bring_checkpoints(self, trial_id: str) -> None:
        """Have a trial's checkpoints as the store has them."""
        folder = self._path / "trials" / trial_id / "checkpoints"
        there = self.remote.entries(folder)
        if there:
            shutil.rmtree(folder, ignore_errors=True)
        self.remote.pull_all(there)

    def give_checkpoints(self, trial_id: str) -> None:
        """Let the store have a trial's checkpoints as they are here."""
        folder = self._path / "trials" / trial_id / "checkpoints"
        here = sorted(folder.iterdir())
        for path in here:
            self.remote.push(path)
        for path in self.remote.entries(folder).keys() - set(here):
            self.remote.remove(path)

    def set_aside(self, to: Path) -> None:
        self.remote.move_folder(self._path, to, JOURNAL)

    @property
    def life(self) -> str:
        """What tells this experiment from one of the same id that was set aside or removed; it begins its journal."""
        try:
            with (self._path / JOURNAL).open("rb") as file:
                return hashlib.sha256(file.readline()).hexdigest()[:16]
        except FileNotFoundError:
            return ""

    def _pull_heads(self) -> None:
        """Have journal and spec as the store has them; what this machine alone knows of was never acted upon."""
        before = self.life
        for path in (self._path / SPEC, self._path / JOURNAL):
            entry = self.remote.entry(path)
            if entry is None:
                path.unlink(missing_ok=True)
            elif not self.remote.is_as_here(path, entry):
                self.remote.pull(path)
        if before != self.life:
            shutil.rmtree(self._path / "trials", ignore_errors=True)

    def _pull_trials(self, folder: Path) -> None:
        """Have the logs of which the store knows more, and artifacts that are not here."""
        wanted = []
        for path, entry in self.remote.entries(folder).items():
            here = path.stat().st_size if path.exists() else -1
            if (path.name in LOGS and entry.size > here) or (path.parent.name == "artifacts" and here < 0):
                wanted.append(path)
        self.remote.pull_all(wanted)


def node_of(folder: Path) -> str:
    """What tells a home's folder on this machine from those on others; made when it is first asked for."""
    path = folder / ".node"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.write_text(uuid.uuid4().hex)
    return path.read_text()
