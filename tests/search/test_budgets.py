"""The agenda where student-epochs are limited, and where what runs is stopped once a budget is spent."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fake_runs import TWO_ARMS, CrashError, FakeRunner, plan_of

from orchestrator.errors import SpecError
from orchestrator.search.agenda import Agenda
from orchestrator.search.standing import anything_left
from orchestrator.search.trials import Phase, Record, Status, Trial, replay
from orchestrator.spec import load_spec
from orchestrator.spec.budget import BudgetSpec

STOPS = TWO_ARMS | {"budget.student_epochs": 12, "budget.when_spent": "stop", "search.final_seeds": 1}
BRACKETS = {
    "search.scheduler": {"method": "hyperband"},
    "training.epochs": 9,
    "search.num_samples": 9,
    "search.space": TWO_ARMS["search.space"],
}


def agenda_of(values: dict[str, Any], records: dict[str, Record] | None = None) -> Agenda:
    plan = plan_of(values)
    return Agenda(plan, _never, records or {}, plan.teachers)


def _never(arm: object, drawn: int) -> Any:
    raise AssertionError


def trained(agenda: Agenda, trial: Trial, epochs: int, status: Status = Status.FINISHED) -> Record:
    """A running trial has trained so far; it ends unless it runs on."""
    record = agenda.records[trial.id]
    record.epochs, record.metrics = epochs, {"val/acc1": 50.0}
    if status is not Status.RUNNING:
        record.status = status
        agenda.finish(record)
    return record


@pytest.mark.parametrize(("limit", "trials"), [(1, 1), (5, 1), (6, 2), (15, 3), (16, 4), (1000, 8)])
def test_the_search_ends_when_its_trials_have_trained_enough(limit: int, trials: int) -> None:
    runner = FakeRunner(plan_of(TWO_ARMS | {"budget.student_epochs": limit}), workers=1).run()
    assert len(runner.ids(Phase.SEARCH)) == trials
    # Neither the teacher's epochs nor those of final runs count.
    assert runner.agenda.spent == ("budget.student_epochs" if 5 * trials >= limit else None)


def test_a_search_that_is_cut_short_has_given_every_variant_as_many_trials() -> None:
    runner = FakeRunner(plan_of(TWO_ARMS | {"budget.student_epochs": 20}), workers=1).run()
    assert Counter(trial.variant for trial in runner.started if trial.phase is Phase.SEARCH) == {"kd": 2, "dtd": 2}
    assert Counter(trial.variant for trial in runner.started if trial.phase is Phase.FINAL) == {"kd": 3, "dtd": 3}


@pytest.mark.parametrize("crash_after", range(2, 18))
def test_a_later_session_counts_the_epochs_of_earlier_ones(crash_after: int) -> None:
    plan = plan_of(TWO_ARMS | {"budget.student_epochs": 15})
    runner = FakeRunner(plan, workers=1)
    with pytest.raises(CrashError):
        runner.run(crash_after=crash_after)
    again = FakeRunner(plan, runner.events, workers=1).run()
    ended = [r for r in replay(again.events).values() if r.trial.phase is Phase.SEARCH]
    assert len(ended) == 3
    assert not anything_left(plan, replay(again.events), lambda key: False)


def test_epochs_of_running_trials_count_as_they_come() -> None:
    agenda = agenda_of(STOPS)
    first, second = agenda.next(), agenda.next()
    assert first is not None
    assert second is not None
    running = trained(agenda, first, 5, Status.RUNNING)
    assert not agenda.budget_spent
    trained(agenda, second, 7, Status.RUNNING)
    assert agenda.budget_spent
    assert agenda.next() is None
    assert agenda.cuts(running)


def test_once_spent_a_budget_stays_so_where_a_checkpoint_lies_further_back() -> None:
    agenda = agenda_of(STOPS)
    first = agenda.next()
    assert first is not None
    trained(agenda, first, 12, Status.RUNNING)
    assert agenda.budget_spent
    agenda.records[first.id].epochs = 3
    assert agenda.budget_spent


def test_a_trial_that_was_interrupted_is_dropped_where_a_spent_budget_stops_trials() -> None:
    agenda = agenda_of(STOPS)
    first, second = agenda.next(), agenda.next()
    assert first is not None
    assert second is not None
    trained(agenda, first, 4, Status.INTERRUPTED)
    assert agenda.out == []
    trained(agenda, second, 8)
    (out,) = agenda.out
    assert out.trial == first
    out.status = Status.STOPPED
    agenda.finish(out)
    finals = [agenda.next(), agenda.next()]
    assert [trial and trial.phase for trial in finals] == [Phase.FINAL] * 2


def test_a_trial_that_was_interrupted_goes_on_where_a_spent_budget_lets_trials_finish() -> None:
    agenda = agenda_of(STOPS | {"budget.when_spent": "finish"})
    first, second = agenda.next(), agenda.next()
    assert first is not None
    assert second is not None
    trained(agenda, first, 4, Status.INTERRUPTED)
    trained(agenda, second, 8)
    assert agenda.out == []
    assert agenda.next() == first
    assert not agenda.cuts(agenda.records[first.id])


def test_neither_teachers_nor_final_runs_are_cut() -> None:
    plan = plan_of(STOPS)
    agenda = Agenda(plan, _never, {}, (), out_of_budget=lambda: True)
    assert agenda.spent == "budget.time_s"
    (key,) = plan.teachers
    arm = plan.arms[0]
    assert agenda.cuts(Record(plan.search_trial(arm, 0, {})))
    assert not agenda.cuts(Record(plan.teacher_trial(key)))
    assert not agenda.cuts(Record(plan.final_trial(arm, 0, {})))


@pytest.mark.parametrize("when_spent", ["finish", "stop"])
def test_trials_that_wait_for_others_do_not_go_on(when_spent: str) -> None:
    agenda = agenda_of(BRACKETS | {"budget.student_epochs": 2, "budget.when_spent": when_spent})
    for _ in range(2):
        trial = agenda.next()
        assert trial is not None
        agenda.records[trial.id].rungs = [50.0]
        trained(agenda, trial, 1, Status.PAUSED)
    assert [record.trial.index for record in agenda.out] == [0, 1]


def test_defaults_and_what_is_refused() -> None:
    budget = BudgetSpec()
    assert (budget.time_s, budget.student_epochs, budget.max_failures, budget.when_spent) == (
        None,
        None,
        None,
        "finish",
    )
    assert (budget.failures.max_retries, budget.failures.max_restarts, budget.failures.stop_after_alike) == (0, 2, 5)
    spec = {
        "name": "a",
        "data": {"dataset": "digits"},
        "teacher": {"model": "resnet8"},
        "student": {"model": "resnet8"},
    }
    for path, value, told in (
        ("budget.student_epochs", 0, "must be >= 1"),
        ("budget.when_spent", "pause", "'finish' or 'stop'"),
        ("budget.failures.max_retries", -1, "must be >= 0"),
        ("budget.failures.stop_after_alike", 0, "must be >= 1"),
        ("budget.failures.on_divergence", "retry", "unknown key"),
    ):
        with pytest.raises(SpecError, match=told):
            load_spec(spec, {path: value})
