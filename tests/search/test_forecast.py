"""The agenda on a clock: what a plan takes when every kind of run takes so long."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_runs import ALONE, THREE_ARMS, TWO_ARMS, FakeRunner, plan_of

from orchestrator.search.forecast import Cost, Forecast, Span, Timing, forecast
from orchestrator.search.kinds import kinds_of
from orchestrator.search.logits import plan_logits
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.trials import Phase, replay
from orchestrator.spec import load_spec

NOTHING = Span(0, 0, 0)


def sure(seconds: float) -> Span:
    return Span(seconds, seconds, seconds)


def timing(epoch: float, start: float = 0.0, test: float = 0.0, view: float = 0.0) -> Timing:
    return Timing(sure(start), sure(epoch), sure(test), sure(view))


def cost(alone: float, crowded: float | None = None, **more: float) -> Cost:
    return Cost(timing(alone, **more), timing(alone if crowded is None else crowded, **more))


def told(values: dict[str, Any], slots: int, each: Cost | dict[str, Cost], **more: Any) -> Forecast:
    plan = plan_of(values)
    return of(plan, slots, each, **more)


def of(plan: Plan, slots: int, each: Cost | dict[str, Cost], **more: Any) -> Forecast:
    known = each if isinstance(each, dict) else dict.fromkeys((*plan.by_name, *plan.teachers), each)
    return forecast(plan, plan_logits(plan, 0), known, slots, more.pop("start_up", NOTHING), **more)


def test_one_after_the_other_takes_the_sum() -> None:
    # A teacher, 8 search trials and 6 final runs of 5 epochs each.
    found = told(TWO_ARMS, 1, cost(2.0, start=1.0, test=3.0), start_up=sure(7))
    assert found.total.likely == pytest.approx(7 + 15 * (1 + 10) + 6 * 3)
    assert found.total.low == pytest.approx(found.total.high)
    assert {phase: runs for phase, (runs, _) in found.stages.items()} == {
        Phase.TEACHER: 1,
        Phase.SEARCH: 8,
        Phase.FINAL: 6,
    }
    assert found.stages[Phase.SEARCH][1].likely == pytest.approx(8 * 11)


def test_several_at_once_share_the_time_and_the_last_ones_wait() -> None:
    found = told(TWO_ARMS, 3, cost(1.0))
    # Of 8 trials the last two, of 6 final runs none leave a place idle; the teacher has company in vain.
    assert found.total.likely == pytest.approx(5 + 3 * 5 + 2 * 5)


def test_a_trial_with_company_is_slower_and_one_alone_is_not() -> None:
    found = told(TWO_ARMS, 2, cost(1.0, crowded=3.0))
    assert found.stages[Phase.TEACHER][1].likely == pytest.approx(5)
    assert found.stages[Phase.SEARCH][1].likely == pytest.approx(4 * 15)
    assert found.total.likely == pytest.approx(5 + 4 * 15 + 3 * 15)


def test_what_needs_no_teacher_runs_while_it_is_trained() -> None:
    plan = plan_of(THREE_ARMS)
    (key,) = plan.teachers
    costs = {name: cost(1.0) for name in plan.by_name} | {key: cost(4.0)}
    found = of(plan, 2, costs)
    # All 4 search trials of the arm without one fit into the 20 s of its training.
    assert found.stages[Phase.TEACHER][1].likely == pytest.approx(20)
    assert found.stages[Phase.SEARCH][1].likely == pytest.approx(40)
    assert of(plan, 2, costs, ready=[key]).stages.keys() == {Phase.SEARCH, Phase.FINAL}


def test_what_stops_trials_makes_a_range() -> None:
    values = TWO_ARMS | {"training.epochs": 9, "search.final_seeds": 0}
    for scheduler in ({"method": "asha", "grace_period": 3}, {"method": "median", "grace_period": 3}):
        found = told(values | {"search.scheduler": scheduler}, 1, cost(1.0), ready=plan_of(values).teachers)
        assert (found.total.low, found.total.high) == (pytest.approx(8 * 3), pytest.approx(8 * 9))
        assert found.total.low < found.total.likely < found.total.high


def test_brackets_have_no_range_as_it_is_known_how_many_go_on() -> None:
    values = {
        "training.epochs": 9,
        "search.scheduler": {"method": "hyperband"},
        "search.num_samples": 9,
        "search.space": TWO_ARMS["search.space"],
        "search.final_seeds": 0,
    }
    found = told(values, 1, cost(1.0), ready=plan_of(values).teachers)
    assert found.total.likely == pytest.approx(9 * 1 + 3 * 2 + 1 * 6)
    assert found.total.low == found.total.high


def test_searched_numbers_of_epochs_make_a_range() -> None:
    values = {
        "search.sampler": "optuna",
        "search.space": {"training.epochs": {"type": "randint", "low": 2, "high": 6}},
        "search.final_seeds": 0,
    }
    found = told(values, 1, cost(1.0), ready=plan_of(values).teachers)
    assert [found.total.low, found.total.likely, found.total.high] == [pytest.approx(4 * n) for n in (2, 4, 6)]


@pytest.mark.parametrize(("when_spent", "search"), [("finish", 15.0), ("stop", 12.0)])
def test_a_budget_of_time_ends_the_search_and_final_runs_follow(when_spent: str, search: float) -> None:
    values = TWO_ARMS | {"budget": {"time_s": 22.0, "when_spent": when_spent}}
    found = told(values, 2, cost(1.0), start_up=sure(5))
    assert found.stages[Phase.SEARCH][1].likely == pytest.approx(search)
    assert found.stages[Phase.FINAL][1].likely == pytest.approx(15)
    assert found.spent["likely"] == "budget.time_s"
    # Seconds of earlier sessions count.
    later = told(values, 2, cost(1.0), start_up=sure(5), spent_s=10)
    assert later.stages[Phase.SEARCH][1].likely == pytest.approx(5 if when_spent == "finish" else 2)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 12, 17, 39])
def test_a_budget_of_epochs_is_cut_to_the_epoch(limit: int, slots: int) -> None:
    budget = {"student_epochs": limit, "when_spent": "stop"}
    values = TWO_ARMS | {"budget": budget, "search.num_samples": 9, "search.final_seeds": 0}
    found = told(values, slots, cost(1.0), ready=plan_of(values).teachers)
    # All that run train an epoch in the same second.
    assert found.total.likely == pytest.approx(math.ceil(limit / slots), abs=1.001)
    assert found.spent["likely"] == "budget.student_epochs"


def test_views_of_a_teacher_are_made_once_for_all_that_share_them() -> None:
    values = TWO_ARMS | {"search.final_seeds": 2}
    plan = plan_of(values)
    each = cost(1.0, view=10.0)
    known = dict.fromkeys((*plan.by_name, *plan.teachers), each)
    stored = forecast(plan, plan_logits(plan, math.inf), known, 1, NOTHING, ready=plan.teachers)
    live = forecast(plan, plan_logits(plan, 0), known, 1, NOTHING, ready=plan.teachers)
    # 5 views for the search, whose trials have one seed, and 5 for each seed of the final runs.
    assert stored.total.likely - live.total.likely == pytest.approx(15 * 10)


def test_of_an_experiment_that_has_begun_what_is_left_is_told() -> None:
    plan = plan_of(TWO_ARMS)
    runner = FakeRunner(plan, workers=1)
    for _ in range(4):
        runner.start_one()
        runner.end_one()
    records = replay(runner.events)
    found = of(plan, 1, cost(1.0), records=records, ready=plan.teachers)
    assert {phase: runs for phase, (runs, _) in found.stages.items()} == {Phase.SEARCH: 5, Phase.FINAL: 6}
    assert found.total.likely == pytest.approx(11 * 5)


def test_ten_thousand_trials_are_no_trouble() -> None:
    values = TWO_ARMS | {"search.num_samples": 5000, "search.final_seeds": 0}
    found = told(values, 2, cost(1.0), ready=plan_of(values).teachers)
    assert found.total.likely == pytest.approx(5 * 5000)


# Kinds


def kinds(values: dict[str, Any]) -> list[tuple[str, ...]]:
    plan = plan_of(values)
    found = kinds_of(plan, plan_logits(plan, 0), plan.teachers)
    return [kind.of for kind in found]


def test_what_differs_in_rates_and_weights_alone_is_one_kind() -> None:
    arms = {
        "a": {"set": {"distillation.kd_weight": 0.3}},
        "b": {"set": {"training.optimizer.lr": 0.3}},
        "c": {"set": {"distillation.temperature": {"method": "constant"}}},
        "d": {"set": {"training.batch_size": 32}},
        "e": {"set": ALONE},
    }
    assert kinds({"search.variants": arms}) == [("a", "b"), ("c",), ("d",), ("e",)]


def test_a_space_is_measured_at_both_ends_and_at_every_choice() -> None:
    lr = {"type": "loguniform", "low": 0.01, "high": 0.2}
    batch = {"type": "qrandint", "low": 32, "high": 128, "q": 32}
    model = {"type": "choice", "values": ["resnet8", "resnet14", "resnet20"]}
    assert len(kinds({"search.space": {"training.optimizer.lr": lr}})) == 1
    assert len(kinds({"search.space": {"training.batch_size": batch}})) == 2
    assert len(kinds({"search.space": {"student.model": model}})) == 3


def test_networks_of_stage_0_are_kinds_unless_they_are_there() -> None:
    spec = load_spec(
        {
            "name": "chain",
            "data": {"dataset": "digits"},
            "teacher": {"model": "resnet20", "training": {"batch_size": 16}},
            "student": {"model": "resnet8"},
            "scheme": {"method": "teacher_assistants", "assistants": [{"model": "resnet14"}]},
            "search": {"space": {"training.optimizer.lr": {"type": "uniform", "low": 0.1, "high": 0.2}}},
        }
    )
    plan = make_plan(spec)
    found = kinds_of(plan, plan_logits(plan, math.inf), ())
    teacher, assistant, student = found
    assert (teacher.distils, teacher.teachers, teacher.run["teacher"]["training"]["batch_size"]) == (False, (), 16)
    assert (assistant.distils, assistant.run["student"]["model"]) == (True, "resnet14")
    assert [network["model"] for network in assistant.teachers] == ["resnet20"]
    assert [network["model"] for network in student.teachers] == ["resnet14"]
    assert student.stored
    assert [kind.of for kind in kinds_of(plan, plan_logits(plan, 0), plan.teachers)] == [("default",)]
    # Nothing diverges while it is measured.
    assert teacher.run["teacher"]["training"]["optimizer"]["lr"] < 1e-5
    assert student.run["training"]["optimizer"]["lr"] < 1e-5


def test_a_population_trains_in_step_to_its_end_and_so_do_the_runs_that_repeat_its_best() -> None:
    values = {
        "training.epochs": 9,
        "search.sampler": "random",
        "search.scheduler": {"method": "pbt", "perturbation_interval": 3},
        "search.num_samples": 4,
        "search.space": TWO_ARMS["search.space"],
        "search.final_seeds": 2,
    }
    found = told(values, 2, cost(1.0), ready=plan_of(values).teachers)
    assert found.stages[Phase.SEARCH][1].likely == pytest.approx(2 * 9)
    assert found.stages[Phase.FINAL][1].likely == pytest.approx(9)
    assert found.total.low == found.total.high


def test_every_configuration_of_several_is_run_on_every_seed() -> None:
    values = TWO_ARMS | {"search.metric": ["val/acc1", "val/loss"], "search.final_configs": 2}
    found = told(values, 1, cost(1.0), ready=plan_of(values).teachers)
    assert found.stages[Phase.FINAL][0] == 12
