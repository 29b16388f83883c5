"""The agenda that is given records of earlier sessions, and trials that are interrupted in this one."""

from typing import Any

import pytest
from fake_runs import TWO_ARMS, FakeRunner, failed, finished, plan_of

from orchestrator.search.agenda import Agenda, PlannedSampler
from orchestrator.search.trials import Phase, Record, Status, replay


def test_what_a_killed_session_left_running_does_not_count_as_running() -> None:
    plan = plan_of(TWO_ARMS)
    first = FakeRunner(plan, ready=plan.teachers)
    first.start_one()
    records = {record.trial.id: Record(record.trial) for record in first.agenda.records.values()}
    agenda = Agenda(plan, _never, records, ready_teachers=())
    # Its teacher is gone; were it to fail now, nothing at all would be running.
    assert agenda.running == []
    teacher = agenda.next()
    assert teacher.phase is Phase.TEACHER
    assert agenda.next() is None
    agenda.finish(failed(teacher))
    assert agenda.next() is None
    assert agenda.running == []
    assert [record.status for record in records.values()] == [Status.RUNNING]


@pytest.mark.parametrize("lost", ["created", "ended"])
def test_a_line_that_the_journal_has_lost_is_done_again_and_nothing_else(lost: str) -> None:
    plan = plan_of(TWO_ARMS)
    first = FakeRunner(plan, ready=plan.teachers).run()
    (line,) = (e for e in first.events if e["event"] == lost and (e.get("id") or e["trial"]["id"]) == "kd-001")
    kept = [event for event in first.events if event is not line]
    again = FakeRunner(plan, kept, ready=plan.teachers).run()
    assert again.started == [next(t for t in first.started if t.id == "kd-001")]
    assert again.agenda.records.keys() == first.agenda.records.keys()


def test_events_of_trials_that_a_journal_does_not_know_count_for_nothing() -> None:
    events = [
        {"event": "changed", "id": "kd-001", "epoch": 1, "params": {}, "source": None},
        {"event": "taken back", "ids": ["kd-001"]},
        {"event": "resumed", "id": "kd-001"},
    ]
    assert replay(events) == {}


def test_an_interrupted_trial_goes_on_without_its_old_reason() -> None:
    plan = plan_of(TWO_ARMS)
    trial = plan.search_trial(plan.arms[0], 0, plan.arms[0].points[0])
    record = Record(trial, Status.INTERRUPTED, {"val/acc1": 3.0}, epochs=2, seconds=5.0, reason="no data")
    agenda = Agenda(plan, _never, {trial.id: record}, plan.teachers)
    assert agenda.next() == trial
    (running,) = agenda.running
    assert (running.status, running.reason) == (Status.RUNNING, None)
    assert (running.epochs, running.seconds, running.metrics) == (2, 5.0, {"val/acc1": 3.0})
    assert record.status is Status.INTERRUPTED


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED])
def test_a_teacher_whose_file_is_gone_is_trained_again_before_what_needs_it(status: Status) -> None:
    plan = plan_of(TWO_ARMS)
    (key,) = plan.teachers
    teacher = plan.teacher_trial(key)
    student = plan.search_trial(plan.arms[0], 0, plan.arms[0].points[0])
    records = {teacher.id: Record(teacher, status), student.id: Record(student, Status.INTERRUPTED)}
    agenda = Agenda(plan, _never, records, ready_teachers=())
    assert agenda.next() == teacher
    assert agenda.next() is None
    agenda.finish(finished(teacher))
    assert agenda.next() == student
    assert agenda.next().id == "dtd-000"


def test_finals_wait_for_a_teacher_whose_file_is_gone() -> None:
    plan = plan_of(TWO_ARMS)
    first = FakeRunner(plan, ready=plan.teachers).run()
    search = {id: r for id, r in first.agenda.records.items() if r.trial.phase is Phase.SEARCH}
    agenda = Agenda(plan, _never, search, ready_teachers=())
    teacher = agenda.next()
    assert teacher.phase is Phase.TEACHER
    assert agenda.next() is None
    agenda.finish(finished(teacher))
    assert agenda.next().phase is Phase.FINAL


def test_a_teacher_whose_students_have_all_ended_is_not_trained_again() -> None:
    plan = plan_of({"search.variants": {"a": {}, "b": {"set": {"teacher.model": "resnet20"}}}})
    done = FakeRunner(plan, ready=plan.teachers).run().agenda.records
    left = {id: record for id, record in done.items() if record.trial.variant == "a"}
    agenda = Agenda(plan, _never, left, ready_teachers=())
    started = []
    while (trial := agenda.next()) is not None:
        started.append(trial)
        agenda.finish(finished(trial))
    assert [t.variant for t in started if t.phase is Phase.TEACHER] == plan.by_name["b"].teacher_keys
    assert {t.variant for t in started if t.phase is not Phase.TEACHER} == {"b"}


def _never(arm: object, drawn: int) -> Any:
    raise AssertionError


def test_a_trial_that_was_interrupted_in_mid_session_is_handed_out_again_before_others() -> None:
    plan = plan_of(TWO_ARMS)
    agenda = Agenda(plan, lambda arm, drawn: PlannedSampler([]), {}, plan.teachers)
    first, second = agenda.next(), agenda.next()
    assert first is not None
    assert second is not None
    agenda.finish(Record(first, Status.INTERRUPTED, epochs=2, reason="its process died"))
    again = agenda.next()
    assert again == first
    assert agenda.records[first.id].status is Status.RUNNING
    assert agenda.records[first.id].reason is None
    assert agenda.records[first.id].epochs == 2
    assert agenda.next() not in (first, second)
