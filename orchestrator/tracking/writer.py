"""A thread that writes to a store in order, and keeps trying while the store is away."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

RETRY_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""The pause doubles from one to the other: every failed call leaves pages in MLflow's log."""


class GivenUpError(Exception):
    """The store has not answered for longer than `Writer.close` waits."""


class Writer:
    """Does jobs one after the other in a thread of its own.

    A job makes its calls to the store through `persist` or `attempt`, which repeat a call until the store
    answers; each call must be such that it may be repeated. `idle` is called every `idle_every_s`, for what
    is worth collecting. `may_pass` tells whether an error may be gone when a call is repeated, and
    `describe` puts an error into words.
    """

    def __init__(
        self,
        idle: Callable[[], None],
        idle_every_s: float,
        may_pass: Callable[[Exception], bool],
        describe: Callable[[Exception], str],
        patience_s: float,
    ) -> None:
        self._idle = idle
        self._idle_every_s = idle_every_s
        self._may_pass = may_pass
        self._describe = describe
        self._patience_s = patience_s
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._problems: list[str] = []
        self._closing = threading.Event()
        self._closing_since = 0.0
        self._answered_at = 0.0
        self._given_up: GivenUpError | None = None
        self._thread = threading.Thread(target=self._work, name="tracking-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Hand over a job; returns at once."""
        self._jobs.put(job)

    def close(self, last: Callable[[], None]) -> list[str]:
        """Do `last` after all else, wait, and return a line for each thing that could not be written.

        Gives up when the store has not answered for `patience_s`, counted from this call at the earliest.
        """
        self._closing_since = time.monotonic()
        self._closing.set()
        self._jobs.put(last)
        self._jobs.put(None)
        self._thread.join()
        return self._problems

    # What follows is called in the writer's thread.

    def persist(self, what: str, call: Callable[[], None]) -> bool:
        """Whether a call got through; reports it as `what` if not."""
        error = self.attempt(call)
        if error is not None:
            self.report(what, error)
        return error is None

    def attempt(self, call: Callable[[], None]) -> Exception | None:
        """Make a call, again and again while the store is away; returns why it is refused or given up."""
        pause = RETRY_PAUSE_S
        while self._given_up is None:
            try:
                call()
            except Exception as error:
                if not self._may_pass(error):
                    self._answered_at = time.monotonic()
                    return error
                if self._is_late():
                    self._given_up = GivenUpError(self._describe(error))
                elif self._closing.is_set():
                    time.sleep(RETRY_PAUSE_S)
                else:
                    self._closing.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                self._answered_at = time.monotonic()
                return None
        return self._given_up

    def report(self, what: str, error: Exception) -> None:
        line = f"{what}: {self._describe(error)}"
        if line not in self._problems:
            self._problems.append(line)

    def _work(self) -> None:
        idled_at = time.monotonic()
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_every_s)
            except queue.Empty:
                job = self._idle
            if job is None:
                return
            try:
                job()
                if time.monotonic() - idled_at >= self._idle_every_s:
                    self._idle()
                    idled_at = time.monotonic()
            except Exception as error:
                self.report("a record", error)

    def _is_late(self) -> bool:
        if not self._closing.is_set():
            return False
        return time.monotonic() - max(self._closing_since, self._answered_at) >= self._patience_s
