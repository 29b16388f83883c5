"""What a trial's process takes from a home in an object store, and gives to it.

Trials work in a folder of their machine. A thread brings what they leave there to the store, behind their back, so
that training does not wait; only at its end does a trial wait until all of it has arrived.
"""

from __future__ import annotations

import shutil
import threading
import uuid
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import StorageError
from orchestrator.execution.job import Job
from orchestrator.execution.teacher import STORED, bring_teacher
from orchestrator.store.remote import Remote, patiently
from orchestrator.store.shared import LOGS
from orchestrator.store.trial import TrialFolder
from orchestrator.training.checkpoint import latest_checkpoint

PAUSE_S = 2.0
"""Seconds, at least, from one look at a trial's folder to the next."""
KEPT = 2
"""Checkpoints that the store keeps of a trial: the newest, and the one before in case it is damaged."""


class Sharing:
    """The store as one trial sees it, on the machine that trains it.

    Args:
        job: the trial, with the paths of this machine; its home is in a store.
    """

    def __init__(self, job: Job) -> None:
        if job.home is None:
            raise ValueError("this job's home is a folder")
        self.job = job
        self._remote = Remote(job.home["uri"])
        self._life = job.home["life"]
        self.folder = TrialFolder(Path(job.folder))
        self._sent: dict[Path, tuple[int, int]] = {}
        """Size and time of what has been brought to the store."""
        self._kept: list[Path] = []
        """Checkpoints in the store, the newest last."""
        self._others: set[Path] = set()
        self._claim = b""
        """What tells this process from others that have led the trial; empty where it does not."""
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = False

    def bring_teachers(self) -> None:
        """Have the weights that the trial's student learns from on this machine."""
        for teacher in self.job.teachers:
            path = Path(str(teacher["weights"]))
            if not path.is_relative_to(self._remote.folder):
                continue
            if path.name.startswith(STORED):
                # From where it is, rather than through the home.
                bring_teacher(teacher["model"]["checkpoint"], path)
            elif path.name.startswith("mlflow-"):
                # An alias may stand for another model than when it was last looked at.
                entry = self._remote.entry(path)
                if entry is not None and not self._remote.is_as_here(path, entry):
                    self._remote.pull(path)
            else:
                self._remote.fetch(path)

    def restore(self) -> None:
        """Have what the trial has done so far, where the store knows more of it than this machine.

        From here on this process alone writes the trial's folder, and what it writes gets to the store.
        """
        self._claim = uuid.uuid4().hex.encode()
        self._remote.write(self.folder.path / "writer", self._claim)
        mark = self.folder.path / ".life"
        if self.folder.path.exists() and not (mark.exists() and mark.read_text() == self._life):
            shutil.rmtree(self.folder.path)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        mark.write_text(self._life)
        there = self._remote.entries(self.folder.path)
        self._kept = sorted(path for path in there if path.parent == self.folder.checkpoints)
        mine = latest_checkpoint(self.folder.checkpoints)
        newer = [path for path in self._kept if mine is None or path.name > mine.name]
        logs = [self.folder.path / name for name in LOGS]
        if newer or not logs[0].exists():
            self._remote.pull_all(path for path in (*newer, *logs) if path in there)

    def find(self, path: Path) -> bool:
        """Have a file of the store that never changes on this machine; False where the store has none, or is silent."""
        try:
            return self._remote.pull(path)
        except StorageError as error:
            warnings.warn(error.message, stacklevel=2)
            return False

    def keep(self, path: Path) -> None:
        """Bring a file to the store in its turn, as something that others would else make again."""
        self.tell([path])

    def tell(self, others: Iterable[Path] = ()) -> None:
        """There may be something new in the trial's folder, and `others` are files beside it; does not wait."""
        self._others.update(others)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="sharing", daemon=True)
            self._thread.start()
        self._woken.set()

    def wait(self, others: Iterable[Path] = ()) -> None:
        """Wait until all that the trial has left is in the store; raises `StorageError` where that cannot be."""
        self._others.update(others)
        self._stop()
        patiently(self._send)

    def leave(self) -> None:
        """End; what a trial leaves that did not come to its end is brought to the store as far as that can be."""
        self._stop()
        with suppress(StorageError):
            self._send()

    def _stop(self) -> None:
        self._ending.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        self._ending.clear()

    def _work(self) -> None:
        while not self._ending.is_set():
            self._woken.wait()
            self._woken.clear()
            if self._ending.is_set():
                return
            try:
                self._send()
                self._trouble = False
            except StorageError as error:
                if not self._trouble:
                    warnings.warn(f"{error.message}; it is tried again", stacklevel=1)
                self._trouble = True
                self._woken.set()
            self._ending.wait(PAUSE_S)

    def _send(self) -> None:
        """Bring what has changed to the store: a checkpoint after the metrics that lead up to it."""
        for path in list(self._others):
            self._push(path)
        if not self._claim:
            return
        if self._remote.read(self.folder.path / "writer") != self._claim:
            # This one was cut off, and replaced. What it has is as good, but checkpoints need the metrics before them.
            raise StorageError(f"{self.job.trial}: another process goes on with this trial")
        for name in LOGS:
            self._push(self.folder.path / name)
        newest = max(self.folder.checkpoints.glob("checkpoint-*.pt"), default=None)
        if newest is not None and self._push(newest):
            self._kept = sorted({*self._kept, newest})
            while len(self._kept) > KEPT:
                self._remote.remove(self._kept.pop(0))
        for path in (self.folder.weights, self.folder.error, *self.folder.artifacts.glob("*")):
            self._push(path)

    def _push(self, path: Path) -> bool:
        """Bring a file to the store; False where it is there already, or is not here any more."""
        try:
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns)
            if self._sent.get(path) == state:
                return False
            self._remote.push(path)
        except FileNotFoundError:
            return False
        self._sent[path] = state
        return True
