"""What other terminals ask of an experiment's driver: a file each, in a folder that lives as long as its session."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError


class Wish(StrEnum):
    """What a driver can be asked for."""

    STOP = "stop"
    PAUSE = "pause"


@dataclass(frozen=True)
class Request:
    """One wish."""

    wish: Wish
    trials: tuple[str, ...] = ()
    """Of a stop: the ids of search trials; none: the whole experiment."""
    now: bool = False
    """Of a stop of the whole experiment: without waiting for the epochs that are being trained."""

    @property
    def command(self) -> str:
        """What was typed for it, as reasons name it."""
        return f"`orchestrator {self.wish}`"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {"wish": self.wish, "trials": list(self.trials), "now": self.now}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Request:
        """What `to_dict` gave; raises ValueError, KeyError or TypeError for anything else."""
        return cls(Wish(content["wish"]), tuple(map(str, content["trials"])), bool(content["now"]))


class Mailbox:
    """The requests to one experiment's driver, below `path`.

    Each session has a folder of its own, named by the time and by chance: what was asked of one that has ended, or was
    killed, can never reach another.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: Path | None = None
        self._numbers = itertools.count()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take requests meanwhile; those that an earlier session has left are removed."""
        shutil.rmtree(self._path, ignore_errors=True)
        self._session = self._path / f"{time.time():.3f}-{uuid.uuid4().hex[:12]}"
        self._session.mkdir(parents=True)
        try:
            yield
        finally:
            shutil.rmtree(self._path, ignore_errors=True)
            self._session = None

    def since(self) -> float | None:
        """When the session that takes requests here was opened, in seconds since 1970; None where none does."""
        for session in self._path.glob("*/"):
            with suppress(ValueError):
                return float(session.name.partition("-")[0])
        return None

    def take(self) -> list[Request]:
        """The requests that have come since, the oldest first; each is given once."""
        if self._session is None:
            return []
        found = []
        for file in sorted(self._session.glob("*.json")):
            request = _read(file)
            file.unlink(missing_ok=True)
            found += [request] if request else []
        return found

    def put(self, request: Request) -> Path | None:
        """Ask; gives the file, which goes when the driver has taken it. None where no session takes requests."""
        for session in self._path.glob("*/"):
            file = session / f"{time.time_ns()}-{os.getpid()}-{next(self._numbers)}.json"
            written = file.with_suffix(".tmp")
            try:
                written.write_text(json.dumps(request.to_dict()))
                written.replace(file)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UsageError(f"cannot write to {session}: {error.strerror or error}") from None
            return file
        return None


def _read(file: Path) -> Request | None:
    """The request of a file; None for what nobody here has written."""
    try:
        return Request.from_dict(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
