"""Which trials come first, and what final runs repeat of them."""

import random
from typing import Any

import pytest
from fake_runs import LR, FakeRunner, plan_of
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.search.ranking import best_first, best_record, values_of
from orchestrator.search.trials import Phase, Record, Status, Trial, created, replay

RATE, WIDTH = "training.optimizer.lr", "student.width"
SPACE = {RATE: LR, WIDTH: {"type": "choice", "values": [0.25, 0.5, 1.0]}}
TWO = {"search.metric": ["val/acc1", "student.flops"], "search.space": SPACE}
SEARCH = plan_of(TWO).spec.search
ONE = plan_of({"search.space": SPACE}).spec.search


def record(number: int, accuracy: float, flops: float, status: Status = Status.FINISHED) -> Record:
    trial = Trial(f"t-{number}", Phase.SEARCH, "default", number, 0)
    return Record(trial, status, {"val/acc1": accuracy}, described={"student.flops": flops})


def numbers(records: list[Record]) -> list[int]:
    return [record.trial.index for record in records]


def test_fronts_come_one_after_the_other_each_by_the_first_metric() -> None:
    found = [record(0, 80, 10), record(1, 90, 30), record(2, 85, 20), record(3, 84, 25), record(4, 70, 10)]
    assert numbers(best_first(found, SEARCH, 5)) == [1, 2, 0, 3, 4]
    assert numbers(best_first(found, SEARCH, 2)) == [1, 2]
    assert numbers(best_first(found, ONE, 5)) == [1, 2, 3, 0, 4]


def test_of_equally_accurate_ones_the_smaller_is_the_best() -> None:
    found = [record(0, 90, 30), record(1, 90, 20)]
    assert best_record(found, SEARCH) is found[1]
    assert best_record(found, ONE) is found[0]


def test_complete_trials_go_before_stopped_ones_and_those_without_a_value_are_left_out() -> None:
    found = [record(0, 99, 1, Status.STOPPED), record(1, 50, 9), record(2, 99, 1, Status.FAILED)]
    unknown = Record(Trial("u", Phase.SEARCH, "default", 3, 0), Status.FINISHED, {"val/acc1": 99.0})
    assert numbers(best_first([*found, unknown], SEARCH, 9)) == [1]
    assert numbers(best_first(found[::2], SEARCH, 9)) == [0]
    assert values_of(unknown, SEARCH) is None
    assert values_of(unknown, ONE) == (99.0,)
    assert best_record([], SEARCH) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_nobody_is_beaten_by_one_that_comes_later(values: list[tuple[int, int]]) -> None:
    found = [record(n, *pair) for n, pair in enumerate(values)]
    ranked = best_first(found, SEARCH, len(found))
    assert sorted(numbers(ranked)) == list(range(len(found)))
    gains = [(r.metrics["val/acc1"], -r.described["student.flops"]) for r in ranked]
    for place, mine in enumerate(gains):
        assert not any(later != mine and later[0] >= mine[0] and later[1] >= mine[1] for later in gains[place:])
    if found:
        assert ranked[0] == best_record(found, SEARCH)


def outcome(trial: Trial) -> Record:
    values = random.Random(str(sorted(trial.params.items())))
    flops = 1e6 * float(trial.params.get(WIDTH, 1))
    return Record(trial, Status.FINISHED, {"val/acc1": values.random()}, 5, described={"student.flops": flops})


@pytest.mark.parametrize("changes", [TWO, {"search.space": SPACE}], ids=["several", "one"])
def test_final_runs_repeat_the_best_configurations_on_the_same_seeds(changes: dict[str, Any]) -> None:
    plan = plan_of(changes | {"search.num_samples": 9, "search.final_configs": 3, "search.final_seeds": 2})
    assert plan.final_trials == 6
    runner = FakeRunner(plan, outcome=outcome).run()
    records = runner.agenda.records.values()
    expected = best_first([r for r in records if r.trial.phase is Phase.SEARCH], plan.spec.search, 3)
    finals = [trial for trial in runner.started if trial.phase is Phase.FINAL]
    assert [trial.params for trial in finals] == [r.trial.params for r in expected for _ in range(2)]
    assert [trial.seed for trial in finals] == [1, 2] * 3
    assert [trial.repeats for trial in finals] == [r.trial.id for r in expected for _ in range(2)]
    assert [trial.id for trial in finals[:3]] == [
        "default-final-1",
        "default-final-2",
        f"default-final-1@{expected[1].trial.index:03d}",
    ]
    assert replay([created(finals[2])])[finals[2].id].trial == finals[2]
    again = FakeRunner(plan, runner.events, outcome=outcome).run()
    assert again.started == []


def test_a_search_with_fewer_results_has_fewer_final_runs() -> None:
    fixed = {"search.space": {}, "search.variants": {"a": {}, "b": {"space": SPACE}}}
    plan = plan_of(fixed | {"search.num_samples": 3, "search.final_configs": 5, "search.final_seeds": 2})
    assert plan.final_trials == 2 + 6

    def one_result(trial: Trial) -> Record:
        fails = trial.phase is Phase.SEARCH and trial.variant == "b" and trial.index > 0
        return Record(trial, Status.FAILED if fails else Status.FINISHED, {"val/acc1": 50.0}, 5)

    runner = FakeRunner(plan, outcome=one_result).run()
    assert [trial.id for trial in runner.started if trial.phase is Phase.FINAL] == [
        "a-final-1",
        "a-final-2",
        "b-final-1",
        "b-final-2",
    ]


class Recording:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {RATE: 0.05, WIDTH: 0.5}

    def observe(self, trial_id: str, params: Any, epochs: int, value: float) -> None: ...

    def tell(self, trial_id: str, params: Any, value: Any) -> None:
        self.told.append(value)


def test_a_sampler_is_told_all_metrics_in_their_order() -> None:
    sampler = Recording()
    plan = plan_of(TWO | {"search.sampler": "optuna", "search.num_samples": 2, "search.final_seeds": 0})
    runner = FakeRunner(plan, outcome=outcome, make_sampler=lambda arm, drawn: sampler).run()
    found = [r for r in runner.agenda.records.values() if r.trial.phase is Phase.SEARCH]
    assert sampler.told == [(r.metrics["val/acc1"], r.described["student.flops"]) for r in found]
