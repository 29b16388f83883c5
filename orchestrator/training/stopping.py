"""Asking a run between its batches whether to stop, such that all its processes stop at the same one."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from orchestrator.training.world import World

INTERVAL_S = 0.3
"""Seconds between two questions, about."""


class Interrupted(Exception):  # noqa: N818 - a request that was followed, not an error
    """Training was asked to stop in the middle of an epoch; the last checkpoint is where to continue."""


class StopSignal:
    """Asks `should_stop` of the first process alone, and tells all what it said.

    Every process must call `check` after the same batches. One small sum over the processes tells the answer and
    how many batches to wait until the next question, so that no process has to look at its own clock.
    """

    def __init__(self, world: World, should_stop: Callable[[], bool]) -> None:
        self._world = world
        self._should_stop = should_stop
        self._stride = self._left = 1
        self._asked_at = time.monotonic()

    def check(self) -> None:
        """Raises `Interrupted`, in all processes or in none."""
        self._left -= 1
        if self._left > 0:
            return
        said = torch.zeros(2, dtype=torch.int64, device=self._world.device)
        if self._world.rank == 0:
            now = time.monotonic()
            due = self._stride * INTERVAL_S / max(now - self._asked_at, 1e-6)
            self._asked_at = now
            said[0] = int(self._should_stop())
            # It grows step by step: a few quick batches say little about those to come.
            said[1] = max(1, min(round(due), 2 * self._stride))
        stop, self._stride = self._world.sum(said).tolist()
        self._left = self._stride
        if stop:
            raise Interrupted
