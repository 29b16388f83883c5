"""Which teachers are found again, and whether anything is left to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from fake_runs import THREE_ARMS, TWO_ARMS, CrashError, FakeRunner, finished, plan_of

from orchestrator.search.plan import Plan
from orchestrator.search.standing import anything_left
from orchestrator.search.trials import Phase, Record, Status, Trial, replay


def absent(key: str) -> bool:
    return False


def stored(key: str) -> bool:
    return True


def run(plan: Plan, **options: object) -> Mapping[str, Record]:
    return replay(FakeRunner(plan, **options).run().events)


def failing(trial: Trial) -> Record:
    return Record(trial, Status.FAILED, {}, reason="NaN")


def test_a_teacher_is_found_where_its_weights_are_and_nobody_here_made_it() -> None:
    plan = plan_of(THREE_ARMS)
    (key,) = plan.teachers
    assert plan.found == plan.finding({}, absent).found == frozenset()
    assert plan.finding({}, stored).found == {key}
    assert plan.finding({}, stored).total_trials == plan.total_trials - 1
    own = {"t": Record(plan.teacher_trial(key), Status.FINISHED)}
    assert plan.finding(own, stored).found == frozenset()
    # What was found before counts no longer, once it is trained here.
    assert plan.finding({}, stored).finding(own, stored).total_trials == plan.total_trials


def test_a_teacher_that_has_been_deleted_is_missed_while_students_wait_for_it() -> None:
    plan = plan_of(THREE_ARMS)
    records = run(plan, ready=plan.teachers)
    assert not any(record.trial.phase is Phase.TEACHER for record in records.values())
    assert plan.finding(records, absent).total_trials == len(records)
    some = {id: record for id, record in records.items() if id != "dtd-final-1"}
    assert plan.finding(some, absent).total_trials == len(records) + 1


def test_an_experiment_is_over_when_it_has_run_and_at_no_moment_before() -> None:
    plan = plan_of(THREE_ARMS)
    total = 2 * plan.total_trials
    for events in range(1, total):
        runner = FakeRunner(plan)
        with pytest.raises(CrashError):
            runner.run(crash_after=events)
        assert anything_left(plan, replay(runner.events), absent)
    assert not anything_left(plan, run(plan), absent)
    assert anything_left(plan, {}, stored)


def test_failures_of_students_end_an_experiment() -> None:
    plan = plan_of(THREE_ARMS)
    records = run(plan, outcome=lambda trial: finished(trial) if trial.phase is Phase.TEACHER else failing(trial))
    assert len(records) == 1 + plan.search_trials
    assert not anything_left(plan, records, absent)


def test_a_failed_teacher_ends_what_needs_it_unless_it_is_made_elsewhere() -> None:
    plan = plan_of(THREE_ARMS)
    records = run(plan, outcome=lambda trial: failing(trial) if trial.phase is Phase.TEACHER else finished(trial))
    assert {record.trial.variant for record in records.values()} == {"alone", *plan.teachers}
    assert not anything_left(plan, records, absent)
    assert anything_left(plan, records, stored)


def test_a_teacher_whose_process_died_is_worth_another_session() -> None:
    plan = plan_of(TWO_ARMS)

    def dying(trial: Trial) -> Record:
        return Record(trial, Status.FAILED, reason="its process died", died=True)

    runner = FakeRunner(plan, outcome=dying).run()
    assert [trial.phase for trial in runner.started] == [Phase.TEACHER]
    assert anything_left(plan, replay(runner.events), absent)
    again = FakeRunner(plan, runner.events).run()
    assert len(again.started) == plan.total_trials
    assert not any(record.died for record in replay(again.events).values())
    assert not anything_left(plan, replay(again.events), absent)


def test_a_spent_budget_leaves_the_final_runs_alone() -> None:
    plan = plan_of(THREE_ARMS)
    records = run(plan, ready=plan.teachers, out_of_budget=lambda: False)
    some = {id: record for id, record in records.items() if record.trial.index < 2}
    assert anything_left(plan, some, stored)
    assert anything_left(plan, some, stored, out_of_budget=True)
    finals = {
        id: replace(record, trial=replace(record.trial, repeats=None))
        for id, record in records.items()
        if record.trial.phase is Phase.FINAL
    }
    tested = {**some, **finals}
    assert anything_left(plan, tested, stored)
    assert not anything_left(plan, tested, stored, out_of_budget=True)
