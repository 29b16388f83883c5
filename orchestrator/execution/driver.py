"""The driver: one experiment's agenda, journal, tracker and view, brought together.

Ray knows it through the adapters of `execution.adapters`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import ValidationError

from orchestrator import names
from orchestrator.analysis.notes import mixed_precision
from orchestrator.analysis.results import Results
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.exploiting import carry_out
from orchestrator.execution.job import DATA, DESCRIBED, FAILURE, FATAL, INTERRUPTED, LASTING
from orchestrator.execution.setbacks import Setbacks
from orchestrator.execution.shown import trial_info
from orchestrator.execution.watcher import Watcher
from orchestrator.search.agenda import Agenda
from orchestrator.search.trials import Phase, Record, Status, Trial, created, ended, resumed
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.store.requests import Request
from orchestrator.tracking.base import DataSet, RunInfo, Tracker

P = ParamSpec("P")
R = TypeVar("R")


def _kept(method: Callable[Concatenate[Driver, P], R]) -> Callable[Concatenate[Driver, P], R]:
    """Keeps what a method raises: Tune, which calls it, would pass it on as the text of a traceback."""

    @functools.wraps(method)
    def keeping(self: Driver, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.error = self.error or error
            raise

    return keeping


class Driver:
    """Carries one experiment through one session."""

    def __init__(
        self,
        agenda: Agenda,
        home: Home,
        folder: ExperimentFolder,
        tracker: Tracker,
        watcher: Watcher,
        environment: str,
    ) -> None:
        self.plan = agenda.plan
        self.agenda = agenda
        self.folder = folder
        self._tracker = tracker
        self.watcher = watcher
        self.environment = environment
        self._journaled = set(agenda.records)
        self._by_tune_id: dict[str, Trial] = {}
        self._taken_up: set[str] = set()
        """Trials that this session has started."""
        self._started: dict[str, float] = {}
        self.setbacks = Setbacks(agenda.plan, folder)
        self._told_end = False
        self._precisions: set[str] = set()
        """Those that students of this session have told."""
        self.briefing = Briefing(agenda, home, folder)
        self.error: Exception | None = None
        """The first thing that went wrong in the driver itself."""
        self.fatal: str | None = None
        """Why no trial at all can run."""
        self.stopped: Request | None = None
        """What has ended the search by hand; nothing is begun after it."""
        self._to_end: dict[str, str] = {}
        """Running trials that end with their epoch, and by what."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its searcher, scheduler and callbacks to disk; the journal is what we continue from."""
        return {}

    def reconcile(self) -> None:
        """Finish what earlier sessions, by their journal, were killed in: tell the tracker, remove checkpoints."""
        over = [record for record in self.agenda.records.values() if record.status.ended]
        self.folder.drop_checkpoints(record.trial.id for record in over)
        for record in over:
            if self._tracker.status(record.trial.id) is not record.status:
                # The file may hold epochs that were trained before a scheduler's stop arrived.
                self._tracker.start(self._info(record.trial), self.history(record.trial)[: record.epochs])
                artifacts = self.folder.described(record.trial.id)
                self._tracker.end(record.trial.id, record.status, record.reason, artifacts)

    @_kept
    def next(self, tune_id: str) -> dict[str, Any] | None:
        """Tune's configuration of the next trial, if there is one now."""
        self._settle()
        self._tell_end()
        while not self.fatal and not self.stopped and (trial := self.agenda.next()) is not None:
            self._by_tune_id[tune_id] = trial
            if trial.id in self._journaled:
                self.folder.look_at_trial(trial.id)
            self.folder.journal.append(resumed(trial) if trial.id in self._journaled else created(trial))
            self._journaled.add(trial.id)
            self._tracker.start(self._info(trial), self.history(trial))
            self._taken_up.add(trial.id)
            self.watcher.on_start(self.agenda.records[trial.id])
            record = self.agenda.records[trial.id]
            if self._has_got_there(record):
                self._settle()
                continue
            try:
                return self.briefing.config(record, self.plan.run_of(trial, record.params))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                told = f"its values do not fit together: {where}: {first['msg']}"
                self.setbacks.raised(record, {FAILURE: told, FATAL: False, LASTING: True})
                self.on_end(tune_id)
        return None

    def _has_got_there(self, record: Record) -> bool:
        """Whether a trial was at its rung already, and only the journal does not know; then it waits there.

        Without a checkpoint of that epoch it trains it again: others may go on from there.
        """
        rung, history = self.agenda.next_rung(record), self.history(record.trial)
        if rung is None or len(history) < rung or not self.folder.trial(record.trial.id).is_saved:
            return False
        metrics = {name: value for name, value in history[rung - 1].items() if name != "epoch"}
        record.epochs, record.metrics = rung, metrics
        self._pause(record)
        return True

    def _pause(self, record: Record) -> None:
        record.status = Status.PAUSED
        others = "others of its population" if self.plan.changing(record.trial) else "others of its bracket"
        others = "other values" if record.trial.changes else others
        record.reason = f"waits after epoch {record.epochs} for {others}"
        record.rungs = [*record.rungs, record.metrics[self.plan.spec.search.first_metric]]
        self._close(record)

    def _settle(self) -> None:
        """End the trials that wait in vain, and let those take over others that are to."""
        while out := self.agenda.out:
            for record in out:
                self._leave(record)
        for record in self.agenda.outdated:
            self._leave(record, "a better configuration")
        for exploit in self.agenda.exploits:
            carry_out(exploit, self.agenda, self.folder)

    def _tell_end(self) -> None:
        """Tell once that the search begins no more trials."""
        if self._told_end or self.agenda.spent is None:
            return
        self._told_end = True
        budget, finals = self.plan.spec.budget, self.plan.spec.search.final_seeds
        runs = "go on to their end" if budget.when_spent == "finish" else "stop after their epoch"
        self.watcher.on_note(
            f"{self.agenda.spent} is spent: no search trial begins, and those that run {runs}"
            + ("; final runs follow" if finals else "")
        )

    @_kept
    def cuts(self, tune_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a trial is to stop with this result, as the budget is spent."""
        record = self.agenda.records[self._by_tune_id[tune_id].id]
        if "epoch" in result:
            record.epochs = int(result["epoch"])
        return self.agenda.cuts(record)

    def trial_of(self, tune_id: str) -> Trial:
        return self._by_tune_id[tune_id]

    @_kept
    def on_result(self, tune_id: str, result: Mapping[str, Any]) -> None:
        """A trial has trained an epoch, or has failed."""
        record = self.agenda.records[self._by_tune_id[tune_id].id]
        self._started.setdefault(record.trial.id, time.monotonic() - result.get("time_total_s", 0.0))
        if FAILURE in result:
            self.setbacks.raised(record, result)
            if result[FATAL]:
                self.fatal = record.reason
            return
        if INTERRUPTED in result:
            return
        if DESCRIBED in result:
            told = dict(result[DESCRIBED])
            data = [DataSet(**one) for one in told.pop(DATA, ())]
            record.described = told
            self._tracker.describe(record.trial.id, record.described, data)
            self.watcher.on_describe(record, record.described)
            self._compare_precision(record)
        epoch = int(result["epoch"])
        metrics = {name: float(value) for name, value in result.items() if names.is_metric(name)}
        record.epochs, record.metrics = epoch, metrics
        self._tracker.log(record.trial.id, {"epoch": epoch, **metrics})
        self.watcher.on_epoch(record)

    def _compare_precision(self, record: Record) -> None:
        """Tell where the machine has chosen another precision than earlier trials have; once for each."""
        precision = str(record.described.get(names.PRECISION))
        if record.trial.phase is not Phase.TEACHER and precision not in self._precisions:
            self._precisions.add(precision)
            for line in mixed_precision(Results(self.plan.spec, self.agenda.records)):
                self.watcher.on_note(line)

    @_kept
    def on_end(self, tune_id: str) -> None:
        """A trial has ended by itself, by its scheduler, or by failing."""
        record = self.agenda.records[self._by_tune_id[tune_id].id]
        if self.fatal is not None and record.reason == self.fatal:
            # Not the trial's own fault: the next session tries it again.
            record.status = Status.INTERRUPTED
        elif record.reason:
            record.status = Status.INTERRUPTED if self.setbacks.tries_again(record) else Status.FAILED
        elif record.epochs >= self._epochs_of(record.trial):
            record.status = Status.FINISHED
        elif by := self._to_end.pop(record.trial.id, None):
            self._stop(record, by)
            return
        elif record.epochs == self.agenda.next_rung(record):
            self._pause(record)
            return
        else:
            self._stop(record)
            return
        self._close(record)

    @_kept
    def on_death(self, tune_id: str, reason: str) -> None:
        """A trial's process has died."""
        record = self.agenda.records[self._by_tune_id[tune_id].id]
        again = self.setbacks.died(record, reason)
        record.status = Status.INTERRUPTED if again else Status.FAILED
        self._close(record)

    def is_to_end(self, tune_id: str) -> bool:
        """Whether a running trial ends with its epoch."""
        return self._by_tune_id[tune_id].id in self._to_end

    @_kept
    def end_early(self, record: Record, by: str) -> None:
        """End a search trial with the result that it has: one that runs with its epoch, one that waits at once."""
        if record.status is Status.RUNNING:
            self._to_end[record.trial.id] = by
        else:
            self._leave(record, by)

    @_kept
    def stop(self, request: Request) -> None:
        """End the search: trials of it that run keep their results, nothing else is begun."""
        self.stopped = request
        for record in self.agenda.running:
            if record.trial.phase is Phase.SEARCH:
                self.end_early(record, request.command)
        self.watcher.on_note(
            f"{request.command}: {'all ends' if request.now else 'running trials end with their epochs'}"
        )

    def interrupt(self) -> None:
        """What still runs is to go on in another session, but for trials that were to end and have a result."""
        for record in self.agenda.running:
            by = self._to_end.pop(record.trial.id, None)
            if by and record.epochs:
                self._stop(record, by)
            else:
                record.status = Status.INTERRUPTED
                self._close(record)

    def _leave(self, record: Record, by: str | None = None) -> None:
        """End a trial that does not run; the tracker may lack epochs of one that this session has not worked on."""
        if record.trial.id not in self._taken_up:
            self._tracker.start(self._info(record.trial), self.history(record.trial)[: record.epochs])
        self._stop(record, by)

    def _stop(self, record: Record, by: str | None = None) -> None:
        """End a trial before its last epoch, `by` somebody, the scheduler or a spent budget; its result counts."""
        cut = record.status is not Status.RUNNING or self.agenda.cuts(record)
        spent = self.agenda.spent if by is None and cut else None
        record.status = Status.STOPPED
        record.reason = f"stopped by {by or 'the scheduler'} after epoch {record.epochs}"
        if spent is not None:
            record.reason = f"stopped: the budget is spent ({spent}), after epoch {record.epochs}"
        self._close(record)

    def _close(self, record: Record) -> None:
        now = time.monotonic()
        record.seconds += now - self._started.pop(record.trial.id, now)
        self.folder.journal.append(ended(record))
        self.agenda.finish(record)
        self._tracker.end(record.trial.id, record.status, record.reason, self.folder.described(record.trial.id))
        self.watcher.on_end(record)
        if record.status.ended:
            self.folder.drop_checkpoints([record.trial.id])
        self.fatal = self.fatal or self.setbacks.too_many(record)

    def _epochs_of(self, trial: Trial) -> int:
        run = self.plan.run_of(trial)
        return (run.training if self.plan.distils(trial) else run.teacher_training).epochs

    def history(self, trial: Trial) -> list[dict[str, float]]:
        """The epochs that a trial has behind it."""
        return self.folder.trial(trial.id).metrics()

    def epochs_behind(self) -> int:
        """Epochs that all students together have behind them; a killed session's count as far as they were trained."""
        students = (record for record in self.agenda.records.values() if record.trial.phase is not Phase.TEACHER)
        return sum(r.epochs if r.status.ended else len(self.history(r.trial)) for r in students)

    def _info(self, trial: Trial) -> RunInfo:
        return trial_info(self.plan, self.folder, self.agenda.records[trial.id], self.environment)
