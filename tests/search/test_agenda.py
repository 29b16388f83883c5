"""The agenda: order, fairness, failures and budgets, with a formula in place of training."""

from collections.abc import Mapping
from typing import Any

import pytest
from fake_runs import THREE_ARMS, TWO_ARMS, FakeRunner, finished, formula, plan_of

from orchestrator.search.agenda import Agenda, PlannedSampler, best_record
from orchestrator.search.plan import Arm
from orchestrator.search.trials import Phase, Record, Status, Trial
from orchestrator.spec import load_spec

WORKERS = pytest.mark.parametrize("workers", [1, 2, 3, 7, 50])


def failed(trial: Trial) -> Record:
    return Record(trial, Status.FAILED, {"val/acc1": 99.9}, epochs=1, reason="broken")


@WORKERS
def test_everything_that_was_planned_is_run_once(workers: int) -> None:
    plan = plan_of(THREE_ARMS)
    runner = FakeRunner(plan, workers=workers).run()
    ids = [trial.id for trial in runner.started]
    assert len(ids) == len(set(ids)) == plan.total_trials == 1 + 12 + 9
    assert runner.agenda.next() is None
    assert runner.agenda.running == []
    assert all(record.status is Status.FINISHED for record in runner.agenda.records.values())
    for arm in plan.arms:
        search = [t for t in runner.started if t.phase is Phase.SEARCH and t.variant == arm.name]
        assert [dict(t.params) for t in sorted(search, key=lambda t: t.index)] == [dict(p) for p in arm.points]


@WORKERS
def test_students_wait_for_their_teacher_and_the_student_alone_does_not(workers: int) -> None:
    def watch(runner: FakeRunner) -> None:
        done = {t.variant for t in runner.ended if t.phase is Phase.TEACHER}
        if not done:
            assert {t.variant for t in runner.started if t.phase is not Phase.TEACHER} <= {"alone"}

    runner = FakeRunner(plan_of(THREE_ARMS), workers=workers, watch=watch).run()
    assert runner.started[0].phase is Phase.TEACHER
    if workers > 1:
        runner = FakeRunner(plan_of(THREE_ARMS), workers=workers)
        while len(runner.running) < workers and runner.start_one():
            pass
        assert [t.variant for t in runner.running[1:]] == ["alone"] * min(workers - 1, 4)


def test_a_teacher_that_is_there_already_is_not_trained() -> None:
    plan = plan_of(TWO_ARMS)
    runner = FakeRunner(plan, ready=plan.teachers).run()
    assert runner.ids(Phase.TEACHER) == []
    assert len(runner.ids(Phase.SEARCH)) == 8


def test_each_variant_waits_for_its_own_teacher_alone() -> None:
    plan = plan_of({"search.variants": {"a": {}, "b": {"set": {"teacher.model": "resnet20"}}}})
    runner = FakeRunner(plan)
    while runner.start_one():
        pass
    assert [t.phase for t in runner.running] == [Phase.TEACHER, Phase.TEACHER]
    runner.end_one(runner.running[1])
    assert runner.start_one()
    assert runner.started[-1].variant == "b"
    assert runner.ids(Phase.SEARCH, "a") == []


@WORKERS
def test_the_search_is_fair_at_every_moment(workers: int) -> None:
    def watch(runner: FakeRunner) -> None:
        counts = [len(runner.ids(Phase.SEARCH, arm.name)) for arm in runner.plan.arms]
        assert max(counts) - min(counts) <= 1, counts

    plan = plan_of(THREE_ARMS)
    FakeRunner(plan, workers=workers, ready=plan.teachers, watch=watch).run()


def test_after_a_variants_head_start_the_others_catch_up_first() -> None:
    runner = FakeRunner(plan_of(THREE_ARMS), workers=3)
    for _ in range(3):
        runner.start_one()
    runner.end_one(runner.running[0])
    for _ in range(4):
        runner.start_one()
    assert [t.variant for t in runner.started[3:]] == ["kd", "dtd", "kd", "dtd"]


@WORKERS
def test_finals_run_the_best_values_after_their_variants_search(workers: int) -> None:
    plan = plan_of(THREE_ARMS | {"seed": 10})

    def watch(runner: FakeRunner) -> None:
        last = runner.started[-1]
        if last.phase is Phase.FINAL:
            search = [t for t in runner.ended if t.phase is Phase.SEARCH and t.variant == last.variant]
            assert len(search) == 4
            assert last.params == max(search, key=formula).params

    runner = FakeRunner(plan, workers=workers, watch=watch).run()
    for arm in plan.arms:
        finals = [t for t in runner.started if t.phase is Phase.FINAL and t.variant == arm.name]
        assert [t.seed for t in finals] == [11, 12, 13]


def test_the_smallest_loss_wins_where_the_spec_says_so() -> None:
    plan = plan_of(TWO_ARMS | {"search.metric": "val/loss", "search.mode": "min"})

    def outcome(trial: Trial) -> Record:
        return Record(trial, Status.FINISHED, {"val/loss": -formula(trial), "val/acc1": -formula(trial)})

    runner = FakeRunner(plan, outcome=outcome).run()
    search = [t for t in runner.started if t.phase is Phase.SEARCH and t.variant == "kd"]
    finals = [t for t in runner.started if t.phase is Phase.FINAL and t.variant == "kd"]
    assert {t.params["training.optimizer.lr"] for t in finals} == {
        max(search, key=formula).params["training.optimizer.lr"]
    }


def test_the_best_is_one_that_ran_to_its_end_if_there_is_one() -> None:
    search = load_spec(
        {
            "name": "a",
            "data": {"dataset": "digits"},
            "teacher": {"model": "resnet8"},
            "student": {"model": "resnet8"},
        }
    ).search

    def record(name: str, status: Status, value: float | None) -> Record:
        return Record(Trial(name, Phase.SEARCH, "a", 0, 0), status, {} if value is None else {"val/acc1": value})

    stopped, low, high = (
        record("s", Status.STOPPED, 90),
        record("l", Status.FINISHED, 50),
        record("h", Status.FINISHED, 60),
    )
    broken, nothing = record("f", Status.FAILED, 99), record("n", Status.FINISHED, None)
    running, interrupted = record("r", Status.RUNNING, 99), record("i", Status.INTERRUPTED, 99)
    assert best_record([stopped, low, high, broken, nothing, running, interrupted], search) is high
    assert best_record([stopped, broken], search) is stopped
    assert best_record([broken, running, interrupted, nothing], search) is None
    # Of equals the first.
    twin = record("t", Status.FINISHED, 60)
    assert best_record([high, twin], search) is high


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


@WORKERS
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


def test_when_the_time_is_over_a_teacher_is_still_trained_but_no_search_begins() -> None:
    runner = FakeRunner(plan_of(TWO_ARMS), out_of_budget=lambda: True).run()
    assert [t.phase for t in runner.started] == [Phase.TEACHER]


def test_without_finals_the_search_is_all() -> None:
    runner = FakeRunner(plan_of(TWO_ARMS | {"search.final_seeds": 0})).run()
    assert runner.ids(Phase.FINAL) == []
    assert len(runner.ids(Phase.SEARCH)) == 8


# Adaptive samplers


class Recording:
    """A sampler that notes what it is asked and told."""

    def __init__(self, arm: Arm, drawn: int, most: int = 100) -> None:
        self.arm, self.drawn, self.most = arm, drawn, most
        self.asked: list[str] = []
        self.told: list[tuple[str, dict[str, Any], float | None]] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if len(self.asked) >= self.most:
            return None
        self.asked.append(trial_id)
        return {"training.optimizer.lr": 0.01 * (1 + self.drawn + len(self.asked))}

    def tell(self, trial_id: str, params: Mapping[str, Any], value: float | None) -> None:
        self.told.append((trial_id, dict(params), value))


def test_an_adaptive_sampler_is_asked_for_each_trial_and_told_each_result() -> None:
    made: dict[str, Recording] = {}

    def make(arm: Arm, drawn: int) -> Recording:
        return made.setdefault(arm.name, Recording(arm, drawn))

    def outcome(trial: Trial) -> Record:
        if trial.id == "kd-002":
            return failed(trial)
        status = Status.STOPPED if trial.id == "kd-001" else Status.FINISHED
        return Record(trial, status, {"val/acc1": formula(trial)})

    plan = plan_of({"search.sampler": "optuna"} | TWO_ARMS)
    runner = FakeRunner(plan, make_sampler=make, outcome=outcome).run()
    assert {name: sampler.drawn for name, sampler in made.items()} == {"kd": 0, "dtd": 0}
    assert made["kd"].asked == ["kd-000", "kd-001", "kd-002", "kd-003"]
    told = {id: (params, value) for id, params, value in made["kd"].told}
    assert len(made["kd"].told) == len(told) == 4
    assert told["kd-002"][1] is None
    for trial in runner.started:
        if trial.phase is Phase.SEARCH and trial.variant == "kd":
            assert told[trial.id][0] == trial.params
            if trial.id != "kd-002":
                assert told[trial.id][1] == formula(trial)


def test_a_sampler_that_waits_for_results_is_asked_again() -> None:
    class Sequential(Recording):
        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            return super().suggest(trial_id) if len(self.told) == len(self.asked) else None

    plan = plan_of({"search.sampler": "optuna"} | TWO_ARMS)
    runner = FakeRunner(plan, workers=5, make_sampler=Sequential, ready=plan.teachers).run()
    assert len(runner.ids(Phase.SEARCH)) == 8
    assert len(runner.ids(Phase.FINAL)) == 6


def test_on_resume_the_sampler_is_told_the_past_and_how_much_was_drawn() -> None:
    plan = plan_of({"search.sampler": "optuna"} | TWO_ARMS)
    first = FakeRunner(plan, workers=1, make_sampler=Recording)
    for _ in range(6):
        first.start_one()
        first.end_one(first.running[0])
    first.start_one()
    assert first.running[0].id == "dtd-002"
    made: dict[str, Recording] = {}

    def make(arm: Arm, drawn: int) -> Recording:
        return made.setdefault(arm.name, Recording(arm, drawn))

    again = FakeRunner(plan, first.events, workers=1, make_sampler=make)
    assert {name: sampler.drawn for name, sampler in made.items()} == {"kd": 3, "dtd": 3}
    assert [id for id, _, _ in made["kd"].told] == ["kd-000", "kd-001", "kd-002"]
    assert [id for id, _, _ in made["dtd"].told] == ["dtd-000", "dtd-001"]
    by_id = {t.id: t for t in first.started}
    for id, params, value in made["kd"].told + made["dtd"].told:
        assert params == by_id[id].params
        assert value == formula(by_id[id])
    again.run()
    assert made["kd"].asked == ["kd-003"]
    assert made["dtd"].asked == ["dtd-003"]
    assert next(t for t in again.started if t.id == "dtd-002").params == by_id["dtd-002"].params
    assert [id for id, _, _ in made["dtd"].told] == ["dtd-000", "dtd-001", "dtd-002", "dtd-003"]


def test_a_planned_sampler_ends() -> None:
    points = [{"a": 1}, {"a": 2}]
    sampler = PlannedSampler(points)
    first = sampler.suggest("x")
    first["a"] = 7
    assert [sampler.suggest("y"), sampler.suggest("z")] == [{"a": 2}, None]
    assert points == [{"a": 1}, {"a": 2}]


# Records of earlier sessions


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
