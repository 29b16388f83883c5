"""What a trial costs the agenda, at the first trials of an experiment and after thousands."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from fake_runs import TWO_ARMS, FakeRunner, failed, finished, plan_of

from orchestrator.search.trials import Phase, Record, Status, Trial

HUNDRED = 100


class Steps:
    """Counts the lines that Python runs, each turn of a loop as one, whatever the machine's speed."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Steps:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += event == "line"
        return self._trace


def _steps(runner: FakeRunner, trials: int) -> int:
    with Steps() as steps:
        for _ in range(trials):
            runner.start_one()
            runner.end_one(runner.running[0])
    return steps.count


def test_the_last_trials_of_thousands_cost_the_agenda_what_the_first_did() -> None:
    plan = plan_of(TWO_ARMS | {"search.num_samples": 2500, "budget.max_failures": 2500})
    runner = FakeRunner(
        plan,
        ready=plan.teachers,
        outcome=lambda trial: failed(trial) if trial.index % 3 == 1 else finished(trial),
    )
    for _ in range(4):
        assert runner.start_one()
    first = _steps(runner, HUNDRED)
    while len(runner.started) < plan.search_trials - HUNDRED:
        runner.start_one()
        runner.end_one(runner.running[0])
    last = _steps(runner, HUNDRED)
    assert len(runner.ids(Phase.SEARCH)) == plan.search_trials
    assert last < 1.1 * first
    # Tune asks again at every result, also while the last search trials run.
    with Steps() as asking:
        assert runner.agenda.next() is None
    assert asking.count < first / HUNDRED


def test_the_counts_are_those_of_the_records_at_every_moment() -> None:
    def outcome(trial: Trial) -> Record:
        if trial.index == 1 and trial.id not in interrupted:
            interrupted.add(trial.id)
            return Record(trial, Status.INTERRUPTED)
        return failed(trial) if trial.index == 2 else finished(trial)

    def watch(runner: FakeRunner) -> None:
        agenda, records = runner.agenda, list(runner.agenda.records.values())
        running = {r.trial.id for r in records if r.status is Status.RUNNING}
        assert {r.trial.id for r in agenda.running} == running == {t.id for t in runner.running}
        assert agenda.budget_spent == (sum(r.status is Status.FAILED for r in records) >= 3)

    interrupted: set[str] = set()
    plan = plan_of(TWO_ARMS | {"budget.max_failures": 3})
    for workers in (1, 3):
        interrupted.clear()
        runner = FakeRunner(plan, workers=workers, outcome=outcome, watch=watch).run()
        assert interrupted == {"kd-001", "dtd-001", "kd-final-2", "dtd-final-2"}
        assert len({trial.id for trial in runner.started}) == plan.total_trials
