"""What Ray Tune knows of an experiment: a searcher that asks the driver for trials, and who tells it results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.exceptions import RayTaskError
from ray.tune import Callback, ProgressReporter
from ray.tune.search import Searcher

from orchestrator.errors import first_line
from orchestrator.execution.driver import Driver
from orchestrator.execution.memory import RAY_KILLED


class AgendaSearcher(Searcher):
    """The driver as Tune's search algorithm: trials come from the agenda."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        config = self._driver.next(trial_id)
        if config is None and not self._driver.agenda.running:
            return str(Searcher.FINISHED)
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The callback below is told more, and at the same time."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `Driver.__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: see `save`."""


class DriverCallback(Callback):
    """The driver as Tune's callback: results and ends of trials."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._driver.on_result(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._driver.on_end(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # A trainable reports failures as a result, so this is the end of its process.
        error, file = trial.get_pickled_error(), Path(trial.error_file or "")
        if isinstance(error, RayTaskError):
            error = error.cause
        # Ray has not copied its file yet to where `get_error` would read it.
        by_ray = file.is_file() and RAY_KILLED in file.read_text()
        killed = RAY_KILLED if by_ray else "killed, or out of memory"
        self._driver.on_death(trial.trial_id, killed if error is None else first_line(error))


class NoReport(ProgressReporter):
    """Keeps Tune's own tables out of a notebook: they would clear what the cell shows."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None: ...
