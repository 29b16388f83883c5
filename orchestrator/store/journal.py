"""The journal: an append-only file of JSON lines, the truth about an experiment after any crash."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import CheckpointError, OrchestratorError

VERSION = 1


class Journal:
    """Events of one experiment, each on disk before `append` returns; `share` then brings the file to others."""

    def __init__(self, path: Path, share: Callable[[], object] | None = None) -> None:
        self.path = path
        self._share = share

    def read(self) -> list[dict[str, Any]]:
        """All whole events, oldest first; a last line that a crash cut short is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")
        events = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                event = json.loads(line)
                if not isinstance(event, dict):
                    raise ValueError
                events.append(event)
            except ValueError:
                raise CheckpointError(
                    f"{self.path}, line {number}: damaged",
                    hint="start over with --fresh"
                    if number == 1
                    else "delete that line: what it alone told of is done again; or start over with --fresh",
                ) from None
        if events and events[0].get("version") != VERSION:
            raise CheckpointError(
                f"{self.path} was written by another version of the orchestrator",
                hint="start over with --fresh",
            )
        return events

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event and wait until it is on disk.

        Raises `OrchestratorError` where that fails; nothing of the event stays then.
        """
        first = not self.path.exists() or self.path.stat().st_size == 0
        stamp = {"version": VERSION} if first else {}
        line = (json.dumps({**stamp, **event, "at": time.time()}) + "\n").encode()
        try:
            self._write(line)
        except OSError as error:
            raise OrchestratorError(
                f"cannot write the journal {self.path}: {error.strerror or error}",
                hint="mend that and run the same command again: no trial that has ended is repeated",
            ) from error

    def _write(self, line: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())
                if self._share is not None:
                    self._share()
            except BaseException:
                with contextlib.suppress(OSError):
                    file.truncate(whole)
                raise

    def repair(self) -> None:
        """Cut off what a crash left of an unfinished line; called before the first `append` of a session."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.path, whole)
