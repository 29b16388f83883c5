"""Keeping the screen for the user: what libraries print goes to a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console

PIPE_WIDTH = 140
"""Columns of a table that goes to a file or another program."""


class Screen(Console):
    """As wide as its terminal, or wide enough where it is none; a reader that has gone is left to `cli.app`."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file=file, highlight=False, width=None if file.isatty() else PIPE_WIDTH)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def screen() -> Console:
    """Standard output."""
    return Screen(sys.stdout)


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
        yield Screen(ours)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(BrokenPipeError):
            ours.close()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


@contextmanager
def warnings_kept_in(log: Path) -> Iterator[None]:
    """Send what libraries write to `sys.stderr` to `log`, where the screen is not ours, as in a notebook's kernel.

    The file is left open: loggers that are set up meanwhile keep writing to it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stderr(log.open("a", encoding="utf-8", buffering=1)):
        yield
