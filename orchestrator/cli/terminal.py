"""Keeping the screen for the user: what libraries print goes to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

PIPE_WIDTH = 140
"""Columns of a table that goes to a file or another program."""


def screen() -> Console:
    """Standard output: as wide as the terminal, or wide enough where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


@contextmanager
def screen_of_our_own(log: Path) -> Iterator[Console]:
    """Send everything that is written to stdout and stderr, also by C code, to `log`; yields the real screen."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    ours = os.fdopen(os.dup(saved[0]), "w", encoding="utf-8", errors="replace", buffering=1)
    try:
        yield Console(file=ours, highlight=False, width=None if ours.isatty() else PIPE_WIDTH)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        ours.close()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
