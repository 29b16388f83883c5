"""What a session makes of trials that fail: why they did, whether they are tried again, and when it gives up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.execution.job import DIED, FAILURE, FATAL, LASTING, MEMORY
from orchestrator.execution.memory import RAY_KILLED, KernelKills, advice
from orchestrator.search.failures import Failures
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Record, Status, taken_back
from orchestrator.store.folder import ExperimentFolder


class Setbacks:
    """Follows one session's failures by the spec's policy, and puts their reasons into the records."""

    def __init__(self, plan: Plan, folder: ExperimentFolder) -> None:
        self._plan = plan
        self._folder = folder
        self._failures = Failures(plan.spec.budget.failures)
        self._kernel_kills = KernelKills()
        self._lasting: set[str] = set()
        """Trials that would fail in the same way again."""
        self._given_up: str | None = None
        """Why the session gives up, once it does."""
        self.concurrency = 1
        """Trials that run at once."""

    def raised(self, record: Record, result: Mapping[str, Any]) -> None:
        """A trial has said why it cannot go on."""
        record.reason, died = str(result[FAILURE]), bool(result.get(DIED))
        if result[FATAL]:
            return
        memory = bool(result.get(MEMORY)) or (died and self._kernel_kills.new())
        # Another time there may be more memory.
        record.died = died or memory
        if memory:
            record.reason += f"{', out of memory' if died else ''}; {self._advice(record)}"
        if result.get(LASTING):
            self._lasting.add(record.trial.id)

    def tries_again(self, record: Record) -> bool:
        """Whether a trial that has raised an error is tried once more, in this session or in the next one."""
        trial = record.trial.id
        again = trial not in self._lasting and self._failures.tries_again(trial, died=False)
        return again or self._is_one_of_too_many(record)

    def died(self, record: Record, reason: str) -> bool:
        """A trial's process has died; returns whether it is tried once more, in this session or in the next one."""
        memory = self._kernel_kills.new() or RAY_KILLED in reason
        again = self._failures.tries_again(record.trial.id, died=True)
        record.reason, record.died = f"its process died ({'out of memory' if memory else reason})", True
        if not again and (times := self._failures.deaths(record.trial.id)) > 1:
            record.reason += f", {times} times"
        if memory:
            record.reason += f"; {self._advice(record)}"
        return again or self._is_one_of_too_many(record)

    def too_many(self, record: Record) -> str | None:
        """Why the session gives up, if it does now that a trial has ended or waits."""
        if record.status in (Status.FINISHED, Status.STOPPED, Status.PAUSED) and record.metrics:
            self._failures.did_well(record)
        return self._given_up

    def _is_one_of_too_many(self, record: Record) -> bool:
        """Whether the session gives up with this failure: then it is of nobody's making, nor are those alike.

        The failures of the others are taken back in one event, before anything tells of this one: a driver that is
        killed in between leaves them all to be tried again.
        """
        alike = self._failures.too_many(record)
        if not alike:
            return False
        others = [other for other in alike if other is not record]
        if others:
            self._folder.journal.append(taken_back(other.trial.id for other in others))
        for other in others:
            other.status = Status.INTERRUPTED
        traceback = self._folder.trial(record.trial.id).error
        where = f"the last traceback: {traceback}" if traceback.exists() else f"Ray's output: {self._folder.log}"
        self._given_up = (
            f"{len(alike)} trials failed alike, and no other of their variants did well in between: {record.reason}\n"
            f"  trials: {', '.join(other.trial.id for other in alike)}; {where}\n"
            "  mend the cause and run the same command again: it tries these trials again. "
            "budget.failures.stop_after_alike is how many may fail so"
        )
        return True

    def _advice(self, record: Record) -> str:
        """What to do where memory ran out."""
        plan, trial = self._plan, record.trial
        return advice(plan.run_of(trial), plan.spec.resources, self.concurrency, distils=plan.distils(trial))
