"""The driver and a session's interruption as what Tune asks whether to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Stopper

from orchestrator.execution.driver import Driver
from orchestrator.execution.interrupt import Interrupt


class SessionStopper(Stopper):
    """Ends trials where the budget is spent, and Tune's run once a signal has come or no trial can run.

    The run's trials are saved then, and `told` is called.
    """

    def __init__(self, driver: Driver, interrupt: Interrupt, told: Callable[[], object] = lambda: None) -> None:
        self._driver = driver
        self._interrupt = interrupt
        self._told = told

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._driver.cuts(trial_id, result)

    def stop_all(self) -> bool:
        if not self._interrupt and self._driver.fatal is None:
            return False
        self._told()
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {}
