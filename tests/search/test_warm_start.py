"""What samplers learn from an earlier experiment: which trials fit, and that the journal keeps them."""

import json
from typing import Any

from fake_runs import LR, formula, plan_of

from orchestrator.search.plan import Plan
from orchestrator.search.trials import Change, Phase, Record, Status, Trial
from orchestrator.search.warm_start import MISSING, chosen, past_of, recorded, replayed, selected
from orchestrator.spec.domains import Choice

RATE = "training.optimizer.lr"
BASE = "distillation.temperature.base"
EARLIER = {"search.space": {RATE: {"type": "loguniform", "low": 0.001, "high": 1.0}}}


def records_of(plan: Plan, rates: list[float], variant: str = "default", **more: Any) -> list[Record]:
    arm = plan.by_name[variant]
    trials = [plan.search_trial(arm, n, {RATE: rate, **more}) for n, rate in enumerate(rates)]
    return [Record(trial, Status.FINISHED, {"val/acc1": formula(trial)}, epochs=5) for trial in trials]


def told(plan: Plan, earlier: Plan, records: list[Record]) -> Any:
    return selected(plan, past_of(earlier, records, "val/acc1"))


def test_trials_inside_the_domains_are_told_and_the_others_counted() -> None:
    earlier = plan_of(EARLIER)
    records = records_of(earlier, [0.005, 0.02, 0.1, 0.5])
    found = told(plan_of({"search.space": {RATE: LR}}), earlier, records)["default"]
    assert [(dict(t.params), t.value, t.epochs) for t in found.trials] == [
        ({RATE: 0.02}, records[1].metrics["val/acc1"], 5),
        ({RATE: 0.1}, records[2].metrics["val/acc1"], 5),
    ]
    assert found.left_out == 2


def test_only_search_trials_with_a_result_count() -> None:
    earlier = plan_of(EARLIER)
    records = records_of(earlier, [0.02] * 4)
    records[0].status, records[1].status = Status.FAILED, Status.STOPPED
    del records[2].metrics["val/acc1"]
    final = Trial("f", Phase.FINAL, "default", 0, 1, {RATE: 0.02})
    records.append(Record(final, Status.FINISHED, {"val/acc1": 99.0}))
    found = told(plan_of({"search.space": {RATE: LR}}), earlier, records)["default"]
    assert [t.value for t in found.trials] == [records[1].metrics["val/acc1"], records[3].metrics["val/acc1"]]
    assert found.left_out == 0


def test_trials_whose_values_changed_in_mid_training_tell_nothing() -> None:
    earlier = plan_of(EARLIER)
    records = records_of(earlier, [0.02, 0.03])
    records[0].changes = (Change(2, {RATE: 0.04}, records[1].trial.id),)
    found = told(plan_of({"search.space": {RATE: LR}}), earlier, records)["default"]
    assert [dict(t.params) for t in found.trials] == [{RATE: 0.03}]


def test_a_field_that_was_not_searched_counts_with_its_value() -> None:
    earlier = plan_of(EARLIER | {BASE: 3.0})
    space = {RATE: LR, BASE: {"type": "uniform", "low": 2, "high": 4}}
    found = told(plan_of({"search.space": space}), earlier, records_of(earlier, [0.02]))["default"]
    assert dict(found.trials[0].params) == {RATE: 0.02, BASE: 3.0}
    narrow = {RATE: LR, BASE: {"type": "uniform", "low": 3.5, "high": 4}}
    assert told(plan_of({"search.space": narrow}), earlier, records_of(earlier, [0.02]))["default"].left_out == 1


def test_variants_learn_from_those_of_their_names() -> None:
    variants = {"a": {}, "b": {}, "fixed": {"set": {RATE: 0.1}}}
    earlier = plan_of(EARLIER | {"search.variants": {"a": {}, "c": {}}})
    records = [*records_of(earlier, [0.02, 0.03], "a"), *records_of(earlier, [0.04], "c")]
    found = told(plan_of({"search.space": {RATE: LR}, "search.variants": variants}), earlier, records)
    assert {name: len(one.trials) for name, one in found.items()} == {"a": 2, "b": 0}


def test_sections_and_empty_values_are_found_again() -> None:
    sections = [{"method": "constant"}, {"method": "flsw"}, {"method": "flsw", "beta": 20.0}]
    space = {
        "distillation.temperature": {"type": "choice", "values": sections},
        "training.gradient_clip": {"type": "choice", "values": [None, 1.0]},
    }
    plan = plan_of({"search.space": space})
    arm = plan.arms[0]
    points = [{"distillation.temperature": s, "training.gradient_clip": c} for s in sections for c in (None, 1.0)]
    records = [
        Record(plan.search_trial(arm, n, p), Status.FINISHED, {"val/acc1": 1.0}, 5) for n, p in enumerate(points)
    ]
    assert [dict(t.params) for t in told(plan, plan, records)["default"].trials] == points


def test_a_choice_is_found_among_texts() -> None:
    """As MLflow has parameters."""
    domain = Choice(type="choice", values=[{"method": "flsw"}, {"method": "flsw", "beta": 20.0}, {"method": "cwsm"}])
    params = {"t.method": "flsw", "t.beta": "20.0", "t.gamma": "1.0"}
    assert chosen("t", domain, params, as_text=True) == {"method": "flsw", "beta": 20.0}
    assert chosen("t", domain, params | {"t.beta": "10.0"}, as_text=True) == {"method": "flsw"}
    assert chosen("t", domain, {"t.method": "constant"}, as_text=True) is MISSING


def test_the_journal_gives_back_what_was_told() -> None:
    earlier = plan_of(EARLIER)
    found = told(plan_of({"search.space": {RATE: LR}}), earlier, records_of(earlier, [0.02, 0.1, 0.5]))
    assert replayed(json.loads(json.dumps(recorded(found)))) == found
