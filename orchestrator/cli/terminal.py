"""Keeping the screen for the user: how much is shown there, and what libraries print goes to a file."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from rich.console import Console

PIPE_WIDTH = 140
"""Columns of a table that goes to a file or another program, where COLUMNS does not say."""
LAST_LINES_S = 2.0
"""Seconds that libraries' last lines are waited for; what they have started may hold the pipe for longer."""


class Volume(StrEnum):
    """How much a command says."""

    QUIET = "quiet"
    """Results and errors."""
    NORMAL = "normal"
    VERBOSE = "verbose"
    """Ray's and MLflow's own lines as well, and tracebacks."""


volume: ContextVar[Volume] = ContextVar("volume", default=Volume.NORMAL)
tracebacks: ContextVar[bool] = ContextVar("tracebacks", default=False)
"""Whether errors are shown with where in the program they came from."""


def is_quiet() -> bool:
    return volume.get() is Volume.QUIET


def is_verbose() -> bool:
    return volume.get() is Volume.VERBOSE


class Screen(Console):
    """As wide as its terminal, or wide enough where it is none; a reader that has gone is left to `cli.app`."""

    def __init__(self, file: TextIO) -> None:
        width = None if file.isatty() or os.environ.get("COLUMNS", "").isdigit() else PIPE_WIDTH
        super().__init__(file=file, highlight=False, width=width)

    @property
    def draws(self) -> bool:
        """Whether what was printed can be drawn over: FORCE_COLOR makes no terminal of a file."""
        return self.file.isatty() and not self.is_dumb_terminal

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def screen() -> Screen:
    """Standard output."""
    return Screen(sys.stdout)


@contextmanager
def screen_of_our_own(log: Path) -> Iterator[Screen]:
    """Send everything that is written to stdout and stderr, also by C code, to `log`; yields the real screen.

    Where the command is verbose it gets to stderr as well.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with _copied(target, saved[1]) if is_verbose() else contextlib.nullcontext(target) as taken:
        os.dup2(taken, 1)
        os.dup2(taken, 2)
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
    for descriptor in (target, *saved):
        os.close(descriptor)


@contextmanager
def _copied(*targets: int) -> Iterator[int]:
    """A pipe, all that is written to which gets to each of the file descriptors."""
    reader, writer = os.pipe()
    # Its own, as it may outlive this.
    outputs = [os.dup(target) for target in targets]

    def copy() -> None:
        with open(reader, "rb", buffering=0) as source:
            while text := source.read(1 << 16):
                for output in outputs:
                    # A log on a full disk, or a screen that has gone, is no reason to end an experiment.
                    with contextlib.suppress(OSError):
                        os.write(output, text)
        for output in outputs:
            os.close(output)

    thread = threading.Thread(target=copy, name="copy of the log", daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        os.close(writer)
        thread.join(LAST_LINES_S)


@contextmanager
def warnings_kept_in(log: Path) -> Iterator[None]:
    """Send what libraries write to `sys.stderr` to `log`, where the screen is not ours, as in a notebook's kernel.

    The file is left open: loggers that are set up meanwhile keep writing to it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stderr(log.open("a", encoding="utf-8", buffering=1)):
        yield
