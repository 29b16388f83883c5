"""The agenda where trials fail and where a budget is spent."""

from collections.abc import Iterator
from typing import Any

import pytest
from fake_runs import THREE_ARMS, TWO_ARMS, FakeRunner, failed, finished, plan_of

from orchestrator.search.agenda import Agenda
from orchestrator.search.trials import Phase, Record, Status, Trial


def test_a_variant_whose_trials_all_fail_has_no_finals_and_the_others_have_theirs() -> None:
    def outcome(trial: Trial) -> Record:
        return failed(trial) if trial.variant == "dtd" else finished(trial)

    runner = FakeRunner(plan_of(TWO_ARMS), outcome=outcome).run()
    assert len(runner.ids(Phase.SEARCH, "dtd")) == 4
    assert runner.ids(Phase.FINAL, "dtd") == []
    assert len(runner.ids(Phase.FINAL, "kd")) == 3
    assert runner.agenda.best("dtd") is None


def test_a_failed_trial_is_not_repeated_and_never_the_best() -> None:
    def outcome(trial: Trial) -> Record:
        return failed(trial) if trial.id == "kd-001" else finished(trial)

    runner = FakeRunner(plan_of(TWO_ARMS), outcome=outcome).run()
    ids = [t.id for t in runner.started]
    assert ids.count("kd-001") == 1
    assert len(ids) == 1 + 8 + 6
    assert runner.agenda.best("kd").trial.id != "kd-001"


def test_stopped_trials_count_as_tried() -> None:
    def outcome(trial: Trial) -> Record:
        stops = trial.phase is Phase.SEARCH and trial.index % 2 == 0
        return Record(trial, Status.STOPPED if stops else Status.FINISHED, {"val/acc1": 99.0 if stops else 50.0})

    runner = FakeRunner(plan_of(TWO_ARMS), outcome=outcome).run()
    assert len(runner.started) == 1 + 8 + 6
    assert runner.agenda.best("kd").trial.index % 2 == 1


def test_a_failed_teacher_ends_the_experiment_without_its_dependants() -> None:
    def outcome(trial: Trial) -> Record:
        return failed(trial) if trial.phase is Phase.TEACHER else finished(trial)

    runner = FakeRunner(plan_of(THREE_ARMS), outcome=outcome).run()
    assert {t.variant for t in runner.started if t.phase is not Phase.TEACHER} == {"alone"}
    assert len(runner.ids(Phase.SEARCH, "alone")) == 4
    assert len(runner.ids(Phase.FINAL, "alone")) == 3
    assert len(runner.ids(Phase.TEACHER)) == 1


def test_after_max_failures_only_finals_are_started() -> None:
    plan = plan_of(TWO_ARMS | {"budget.max_failures": 2})

    def outcome(trial: Trial) -> Record:
        return failed(trial) if trial.id in ("kd-001", "dtd-001") else finished(trial)

    runner = FakeRunner(plan, outcome=outcome, workers=1).run()
    assert runner.ids(Phase.SEARCH) == ["kd-000", "dtd-000", "kd-001", "dtd-001"]
    assert len(runner.ids(Phase.FINAL)) == 6
    assert runner.agenda.budget_spent


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 50])
def test_when_the_time_is_over_what_runs_finishes_and_finals_follow(workers: int) -> None:
    plan = plan_of(TWO_ARMS)
    over: list[bool] = []
    runner = FakeRunner(plan, workers=workers, ready=plan.teachers, out_of_budget=lambda: bool(over))
    runner.start_one()
    runner.start_one()
    over.append(True)
    assert runner.agenda.next() is None
    runner.run()
    assert runner.ids(Phase.SEARCH) == ["kd-000", "dtd-000"]
    assert len(runner.ids(Phase.FINAL)) == 6


def test_when_the_time_is_over_before_any_search_no_teacher_is_trained() -> None:
    assert FakeRunner(plan_of(TWO_ARMS), out_of_budget=lambda: True).run().started == []


def test_after_failures_enough_a_teacher_that_only_search_trials_wait_for_is_not_trained() -> None:
    plan = plan_of(THREE_ARMS | {"budget.max_failures": 1})
    runner = FakeRunner(plan, outcome=lambda trial: failed(trial) if trial.id == "alone-000" else finished(trial))
    agenda = runner.agenda
    teacher, lone = agenda.next(), agenda.next()
    assert teacher.phase is Phase.TEACHER
    assert lone.id == "alone-000"
    agenda.finish(Record(teacher, Status.INTERRUPTED, epochs=1))
    agenda.finish(failed(lone))
    assert agenda.next() is None


def test_when_the_time_is_over_a_teacher_is_trained_again_for_what_its_search_has_begun() -> None:
    plan = plan_of({"search.variants": {"a": {}, "b": {"set": {"teacher.model": "resnet20"}}, "c": {}}})
    ended, interrupted = (plan.search_trial(plan.by_name[name], 0, {}) for name in "ab")
    for records, wanted in (
        ({ended.id: finished(ended)}, "a"),
        ({ended.id: failed(ended)}, None),
        ({interrupted.id: Record(interrupted, Status.INTERRUPTED)}, "b"),
    ):
        agenda = Agenda(plan, _never, records, ready_teachers=(), out_of_budget=lambda: True)
        started = list(_run(agenda))
        teachers = [trial.variant for trial in started if trial.phase is Phase.TEACHER]
        assert teachers == (plan.by_name[wanted].teacher_keys if wanted else [])
        finals = plan.spec.search.final_seeds if wanted else 0
        assert [t.variant for t in started if t.phase is Phase.FINAL] == [wanted] * finals


def _run(agenda: Agenda) -> Iterator[Trial]:
    for trial in iter(agenda.next, None):
        yield trial
        agenda.finish(finished(trial))


def _never(arm: object, drawn: int) -> Any:
    raise AssertionError
