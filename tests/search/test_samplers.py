"""What the agenda asks and tells its samplers."""

from collections.abc import Mapping
from typing import Any

from fake_runs import TWO_ARMS, FakeRunner, failed, formula, plan_of

from orchestrator.search.agenda import PlannedSampler
from orchestrator.search.plan import Arm
from orchestrator.search.trials import Phase, Record, Status, Trial


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
