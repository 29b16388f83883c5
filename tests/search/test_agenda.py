"""The agenda: order, fairness and the choice of the best, with a formula in place of training."""

import pytest
from fake_runs import THREE_ARMS, TWO_ARMS, FakeRunner, failed, finished, formula, plan_of

from orchestrator.search.ranking import best_record
from orchestrator.search.trials import Phase, Record, Status, Trial
from orchestrator.spec import load_spec

WORKERS = pytest.mark.parametrize("workers", [1, 2, 3, 7, 50])


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


@pytest.mark.parametrize("limit", ["budget.time_s", "budget.student_epochs", "budget.max_failures"])
def test_where_a_budget_may_end_the_search_a_head_start_is_one_trial(limit: str) -> None:
    def watch(runner: FakeRunner) -> None:
        counts = [len(runner.ids(Phase.SEARCH, arm.name)) for arm in runner.plan.arms]
        assert max(counts) - min(counts) <= 1, counts

    runner = FakeRunner(plan_of(THREE_ARMS | {limit: 1000}), workers=5, watch=watch)
    while runner.start_one():
        pass
    assert [t.variant for t in runner.running[1:]] == ["alone"]
    assert len(runner.run().started) == runner.plan.total_trials


def test_a_teacher_that_has_failed_holds_nobody() -> None:
    plan = plan_of(THREE_ARMS | {"budget.time_s": 1000})
    runner = FakeRunner(plan, outcome=lambda t: failed(t) if t.phase is Phase.TEACHER else finished(t)).run()
    assert len(runner.ids(Phase.SEARCH, "alone")) == 4
    assert len(runner.ids(Phase.FINAL, "alone")) == 3


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


def test_without_finals_the_search_is_all() -> None:
    runner = FakeRunner(plan_of(TWO_ARMS | {"search.final_seeds": 0})).run()
    assert runner.ids(Phase.FINAL) == []
    assert len(runner.ids(Phase.SEARCH)) == 8
