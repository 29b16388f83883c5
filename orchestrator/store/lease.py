"""Who drives an experiment of a home in an object store, which knows no locks.

Whoever wants to writes a claim, a file of its own, and then looks at all: where another one is alive, the claim is
withdrawn. That holds as long as the store shows at once what was written, as S3, GCS and file systems do. A claim
lives as long as its driver writes it anew; ages are told by the store's clock alone. What a lease cannot rule out is
a driver that was stopped for longer than `STALE_S`, replaced, and wakes in the middle of a write.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import StorageError, UsageError
from orchestrator.store.remote import Remote

BEAT_S = 10.0
STALE_S = 60.0
"""A claim that has not been written for so long is that of a driver that has died."""


@dataclass(frozen=True)
class Claim:
    """Another one's claim."""

    path: Path
    host: str
    process: int
    node: str
    """What tells the folder of one machine from that of another."""
    changed_ns: int


class Lease:
    """One driver's claim on an experiment.

    Args:
        remote: the home's twin.
        folder: of the claims.
        node: what tells this machine's folder from others'. The lock of this machine is held, so that another claim
            of the same folder is that of a process that has died.
    """

    def __init__(self, remote: Remote, folder: Path, node: str) -> None:
        self._remote = remote
        self._folder = folder
        self._node = node
        self._mine = folder / f"{uuid.uuid4().hex}.json"
        self._beating = threading.Lock()
        self._beaten = 0.0
        self._lost = False
        self._ended = threading.Event()

    @contextmanager
    def held(self, name: str, often: Callable[[], object] = lambda: None) -> Iterator[str | None]:
        """Hold the lease; gives what there is to say of a driver that has died, and calls `often` with each beat.

        Raises `UsageError` where another driver is alive; `name` is the experiment's.
        """
        told = self._acquire(name)
        thread = threading.Thread(target=self._beat_on, args=(often,), name="lease", daemon=True)
        thread.start()
        try:
            yield told
        finally:
            self._ended.set()
            thread.join()
            if not self._lost:
                self._remote.remove(self._mine)

    def check(self) -> None:
        """Raise `StorageError` where another driver has taken over; called before what only the driver may write."""
        if time.monotonic() - self._beaten > STALE_S / 2:
            self._beat()
        if self._lost:
            raise StorageError(
                f"another process has taken over {self._remote.name(self._folder.parent)}, as nothing was heard of "
                f"this one for {STALE_S:.0f} s",
                hint="nothing is lost: the other one goes on with it",
            )

    def _acquire(self, name: str) -> str | None:
        self._write()
        entries = self._remote.entries(self._folder)
        if self._mine not in entries:
            raise StorageError(f"{self._remote.uri} does not show what was just written, so that it cannot be locked")
        now = entries[self._mine].changed_ns
        gone = None
        for claim in claims(self._remote, self._folder):
            age = max(0.0, (now - claim.changed_ns) / 1e9)
            if claim.path == self._mine:
                continue
            if claim.node != self._node and age <= STALE_S:
                self._remote.remove(self._mine)
                raise UsageError(
                    f"the experiment {name} is already running on {claim.host} (process {claim.process}, last heard "
                    f"{age:.0f} s ago)",
                    hint=f"follow it with: orchestrator status {name}; if that machine has died, run this again in "
                    f"{STALE_S - age:.0f} s",
                )
            self._remote.remove(claim.path)
            if claim.node != self._node:
                gone = f"takes over from {claim.host} (process {claim.process}), silent for {age:.0f} s"
        return gone

    def _write(self) -> None:
        begun = time.monotonic()
        claim = {"host": socket.gethostname(), "process": os.getpid(), "node": self._node}
        self._remote.write(self._mine, json.dumps(claim).encode())
        self._beaten = begun

    def _beat(self) -> None:
        with self._beating:
            late = time.monotonic() - self._beaten > STALE_S / 2
            if not self._lost and late and self._remote.entry(self._mine) is None:
                self._lost = True
            if not self._lost:
                self._write()

    def _beat_on(self, often: Callable[[], object]) -> None:
        while not self._lost and not self._ended.wait(BEAT_S):
            try:
                self._beat()
                often()
            except StorageError:
                # `check` tells what comes of it.
                continue


def claims(remote: Remote, folder: Path) -> list[Claim]:
    """All that there are, dead or alive."""
    found = []
    for path, entry in remote.entries(folder).items():
        try:
            told = json.loads(remote.read(path) or b"")
            found.append(Claim(path, str(told["host"]), int(told["process"]), str(told["node"]), entry.changed_ns))
        except (ValueError, KeyError, TypeError):
            # Withdrawn meanwhile.
            continue
    return found


def is_held(remote: Remote, folder: Path, node: str) -> bool:
    """Whether a driver on another machine seems to be alive, by this machine's clock."""
    now = time.time_ns()
    return any(claim.node != node and now - claim.changed_ns < STALE_S * 1e9 for claim in claims(remote, folder))
