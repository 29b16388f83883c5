"""Ctrl-C and polite kills as a flag that is looked at where it is safe to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """The first signal sets a flag and calls `told`, from a thread of its own; the next ends the process.

    A KeyboardInterrupt wherever Python happens to be can be lost inside a library's own handling, or break
    Ray while it starts. `last_words` gives what is written to the file descriptor `screen` before the process
    ends, with exit code 130; without it the second signal raises KeyboardInterrupt.
    """

    def __init__(
        self,
        told: Callable[[], None] = lambda: None,
        last_words: Callable[[], str] | None = None,
        screen: int = 1,
    ) -> None:
        self._told = told
        self._last_words = last_words
        self._screen = screen
        self._set = False

    def __bool__(self) -> bool:
        """Whether a signal has come."""
        return self._set

    def ask(self) -> None:
        """Set the flag as a first signal does; once it is set this does nothing."""
        if not self._set:
            self._set = True
            # What was interrupted may hold the lock of the stream that `told` prints to.
            threading.Thread(target=self._told, name="interrupt", daemon=True).start()

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self._set:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self._set:
            if self._last_words is None:
                raise KeyboardInterrupt
            # No stream and no lock: the signal may have come in the middle of a write.
            os.write(self._screen, self._last_words().encode())
            os._exit(130)
        self.ask()


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Undo what is done to the handlers meanwhile.

    Ray puts its own in their place when it is started or joined. They end the process at once, or three seconds
    after: too soon for saving.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def catching(interrupt: Interrupt) -> Iterator[None]:
    """Handle signals with `interrupt` meanwhile; outside the main thread nothing changes."""
    with handlers_kept():
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, interrupt.handle)
        yield
