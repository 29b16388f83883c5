"""What ends trials, and Tune's run: a spent budget, signals, and what other terminals ask for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune import Stopper

from orchestrator.execution.interrupt import Interrupt
from orchestrator.search.standing import unstoppable
from orchestrator.search.trials import Phase
from orchestrator.store.requests import Request, Wish

if TYPE_CHECKING:
    from orchestrator.execution.driver import Driver

LOOK_EVERY_S = 0.5


class SessionStopper(Stopper):
    """Tune asks it at every result whether that trial is to end, and many times a second whether all are.

    The driver's own thread does the asking, between two events, so that this is where requests are carried out.
    `told` is called when everything ends, as it does also once no trial at all can run.
    """

    def __init__(self, driver: Driver, interrupt: Interrupt, told: Callable[[], object] = lambda: None) -> None:
        self._driver = driver
        self._interrupt = interrupt
        self._told = told
        self._look_at = 0.0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._driver.is_to_end(trial_id) or self._driver.cuts(trial_id, result)

    def stop_all(self) -> bool:
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            for request in self._driver.folder.mailbox.take():
                self._carry_out(request)
        if not self._interrupt and self._driver.fatal is None and not self._is_over():
            return False
        self._told()
        return True

    def _carry_out(self, request: Request) -> None:
        driver = self._driver
        driver.folder.journal.append({"event": "asked", **request.to_dict()})
        if request.wish is Wish.PAUSE:
            self._interrupt.ask()
        elif not request.trials:
            driver.stop(request)
        for name in request.trials:
            why = unstoppable(name, driver.agenda.records)
            if why is None:
                driver.end_early(driver.agenda.records[name], request.command)
            driver.watcher.on_note(f"{request.command}: {name} {why or 'is to end'}")

    def _is_over(self) -> bool:
        """Whether the experiment was stopped, and no trial of its search has to be waited for."""
        asked = self._driver.stopped
        searching = (record.trial.phase is Phase.SEARCH for record in self._driver.agenda.running)
        return asked is not None and (asked.now or not any(searching))

    def __getstate__(self) -> dict[str, Any]:
        return {}
