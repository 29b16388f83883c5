"""An experiment's lock: one driver holds it alone, whoever looks shares it with all who look."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.errors import OrchestratorError, UsageError

LOOKING_S = 0.5
"""Seconds that a driver waits for those who look, each for a moment."""


@contextmanager
def held(folder: Path, refusal: OrchestratorError) -> Iterator[None]:
    """Hold the folder's lock alone; it goes with the process. Raises `refusal` where another process has it."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=LOOKING_S)
    except Timeout:
        raise refusal from None
    try:
        if not folder.exists():
            raise UsageError(f"{folder} was set aside by another process just now", hint="run the same command again")
        yield
    finally:
        lock.release()


@contextmanager
def looking(folder: Path) -> Iterator[bool]:
    """Whether no driver holds the folder's lock; none takes it meanwhile. Others may look at the same time."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _shared(descriptor, folder)
    finally:
        os.close(descriptor)


def _shared(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            # A file system without locks, where the driver's is the file itself.
            return _is_free(folder)
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def _is_free(folder: Path) -> bool:
    try:
        with FileLock(folder / "lock").acquire(timeout=0):
            return True
    except Timeout:
        return False
