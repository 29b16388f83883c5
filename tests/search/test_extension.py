"""What an experiment may grow by: every trial that it has stays as it is, seed, values and lot."""

from __future__ import annotations

from typing import Any

import pytest
from fake_runs import FakeRunner
from small_spec import small_spec

from orchestrator.search.extension import Change, compare, grown, recorded, replayed
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Phase, Record, Status, Trial, replay
from orchestrator.search.winners import outdated
from orchestrator.spec import ExperimentSpec, load_spec

BASE = small_spec({"name": "grows", "training.epochs": 9, "search.num_samples": 4, "search.final_seeds": 2})
NEW = {"set": {"distillation.kd_weight": 0.5}}


def spec_of(changes: dict[str, Any] | None = None) -> ExperimentSpec:
    return load_spec(BASE, changes or {})


def compared(changes: dict[str, Any], base: dict[str, Any] | None = None) -> Any:
    return compare(spec_of(base), spec_of({**(base or {}), **changes}))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"search.num_samples": 6}, [Change("search.num_samples", 4, 6)]),
        ({"search.final_seeds": 3}, [Change("search.final_seeds", 2, 3)]),
        ({"search.variants.late": NEW}, [Change("search.variants.late", None, NEW)]),
        ({"resources.cpus_per_worker": 2, "budget.time_s": 9, "tracking.experiment": "other"}, []),
        ({"search.reference": "kd"}, []),
        (
            {"search.num_samples": 5, "search.variants.late": {}},
            [Change("search.num_samples", 4, 5), Change("search.variants.late", None, {})],
        ),
    ],
)
def test_what_only_adds_is_an_extension(changes: dict[str, Any], found: list[Change]) -> None:
    assert compared(changes).obstacle is None
    assert list(compared(changes).changes) == found


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"search.num_samples": 3}, "search.num_samples 3 instead of 4"),
        ({"search.final_seeds": 1}, "search.final_seeds 1 instead of 2"),
        ({"training.epochs": 5}, "training.epochs 5 instead of 9"),
        ({"seed": 1, "search.num_samples": 9}, "seed 1 instead of 0"),
        ({"search.sampler": "optuna"}, "search.sampler optuna instead of random"),
        ({"search.space": {}}, "search.space.training.optimizer.lr"),
        ({"search.variants": {"kd": {}}}, "search.variants, which lacks 'alone'"),
        ({"search.variants.kd": NEW}, "search.variants.kd.set.distillation.kd_weight 0.5 instead of nothing"),
        ({"search.points": [{"training.optimizer.lr": 0.1}], "search.num_samples": 5}, "search.points"),
        ({"search.constraints": ["training.optimizer.lr <= 0.1"], "search.num_samples": 5}, "search.constraints"),
    ],
)
def test_what_changes_trials_is_none_and_named(changes: dict[str, Any], named: str) -> None:
    assert named in compared(changes).obstacle


def test_variants_cannot_be_added_where_there_were_none() -> None:
    none = {**BASE, "search": {**BASE["search"], "variants": {}}}
    assert "its one arm would be gone" in str(compare(load_spec(none), load_spec(BASE)).obstacle)


SAMPLERS = [
    {"search.sampler": "random"},
    {"search.sampler": "random", "search.points": [{"training.optimizer.lr": 0.1}]},
    {"search.sampler": "grid", "search.space": {"training.batch_size": {"type": "choice", "values": [8, 16, 32]}}},
    {"search.sampler": "optuna"},
    {"search.sampler": {"method": "optuna", "algorithm": "nsgaii"}},
    {"search.sampler": "hyperopt"},
    {"search.sampler": "random", "search.scheduler": {"method": "asha"}},
    {"search.sampler": "random", "search.scheduler": {"method": "median"}},
    {"search.sampler": "random", "search.scheduler": {"method": "hyperband"}, "search.num_samples": 17},
    {"search.sampler": "bohb", "search.scheduler": {"method": "bohb"}, "search.num_samples": 9},
]


@pytest.mark.parametrize("base", SAMPLERS, ids=str)
def test_under_every_sampler_earlier_trials_stay_as_they_are(base: dict[str, Any]) -> None:
    old = spec_of(base)
    new = spec_of({**base, "search.num_samples": old.search.samples + 7})
    assert compare(old, new).obstacle is None
    before, after = make_plan(old), make_plan(new)
    for arm in before.arms:
        then = after.by_name[arm.name]
        assert then.count > arm.count
        assert then.first == arm.first
        for number in range(arm.count):
            params = arm.points[number] if arm.points else {}
            assert after.search_trial(then, number, params) == before.search_trial(arm, number, params)
            assert then.points is None or then.points[number] == params


@pytest.mark.parametrize("count", [4, 10, 16, 18])
def test_a_bracket_with_places_left_cannot_grow(count: int) -> None:
    base = {"search.scheduler": {"method": "hyperband"}, "search.num_samples": count}
    found = compared({"search.num_samples": count + 9}, base).obstacle
    assert "scheduler hyperband" in found
    assert f"{count} cannot grow" in found
    # More seeds, or other variants, leave its brackets alone.
    assert compared({"search.final_seeds": 9, "search.variants.late": NEW}, base).obstacle is None


def test_changes_are_made_to_the_first_spec_and_to_those_in_between() -> None:
    first, second, third = spec_of(), spec_of({"search.num_samples": 6}), None
    changes = [Change("search.num_samples", 4, 6), Change("search.num_samples", 6, 9)]
    changes += [Change("search.variants.la.te", None, NEW), Change("search.final_seeds", 2, 3)]
    for spec in (first, second):
        third = grown(spec, changes)
        assert (third.search.num_samples, third.search.final_seeds) == (9, 3)
        assert list(third.search.variants) == ["alone", "kd", "la.te"]
    assert third is not None
    assert grown(third, changes) is third
    assert compare(first, third).obstacle is None


def test_what_is_given_otherwise_than_it_was_stays() -> None:
    changes = [Change("budget.time_s", 60.0, 120.0)]
    assert grown(spec_of({"budget.time_s": 60}), changes).budget.time_s == 120
    assert grown(spec_of({"budget.time_s": 30}), changes).budget.time_s == 30
    assert grown(spec_of(), changes).budget.time_s is None


def test_the_journal_tells_of_changes_and_hashes() -> None:
    changes, new = [Change("search.num_samples", 4, 6)], spec_of({"search.num_samples": 6})
    event = recorded(changes, new)
    assert replayed([{"event": "session"}, event]) == (changes, {new.hash})


# Trials


def better_later(trial: Trial) -> Record:
    """The fifth trial, which only the extension has, is the best."""
    accuracy = 99.0 if trial.index == 4 else 80.0 + trial.index
    return Record(trial, Status.FINISHED, {"val/acc1": accuracy, "test/acc1": accuracy}, epochs=9)


def worse_later(trial: Trial) -> Record:
    return Record(trial, Status.FINISHED, {"val/acc1": 90.0 - trial.index, "test/acc1": 1.0}, epochs=9)


def extended(outcome: Any, **changes: Any) -> tuple[FakeRunner, FakeRunner]:
    before = FakeRunner(make_plan(spec_of()), outcome=outcome).run()
    spec = spec_of({"search.num_samples": 6, **{k.replace("__", "."): v for k, v in changes.items()}})
    return before, FakeRunner(make_plan(spec), before.events, outcome=outcome).run()


def test_nothing_that_has_ended_is_repeated_and_a_new_best_has_final_runs_of_its_own() -> None:
    before, after = extended(better_later)
    assert not {trial.id for trial in before.started} & {trial.id for trial in after.started}
    assert after.ids(Phase.SEARCH) == ["alone-004", "kd-004", "alone-005", "kd-005"]
    assert sorted(after.ids(Phase.FINAL, "kd")) == ["kd-final-1@004", "kd-final-2@004"]
    records = replay(after.events)
    assert outdated(records, after.plan.spec.search) == {
        f"{name}-final-{n}" for name in ("alone", "kd") for n in (1, 2)
    }
    seeds = {name: records[name].trial.seed for name in records if "final" in name}
    assert seeds["kd-final-1@004"] == seeds["kd-final-1"]
    assert FakeRunner(after.plan, after.events, outcome=better_later).run().started == []


def test_where_the_best_stays_its_final_runs_stay() -> None:
    _, after = extended(worse_later, search__final_seeds=3)
    assert after.ids(Phase.FINAL, "kd") == ["kd-final-3"]
    assert outdated(replay(after.events), after.plan.spec.search) == set()


def test_a_variant_that_is_added_catches_up_first() -> None:
    before = FakeRunner(make_plan(spec_of())).run()
    after = FakeRunner(make_plan(spec_of({"search.variants.late": NEW})), before.events).run()
    assert after.ids(Phase.SEARCH) == [f"late-{n:03d}" for n in range(4)]
    assert after.ids(Phase.FINAL) == ["late-final-1", "late-final-2"]
    assert after.ids(Phase.TEACHER) == []


@pytest.mark.parametrize("outcome", [better_later, worse_later])
def test_a_final_run_that_was_interrupted_goes_on_if_its_configuration_is_still_the_best(outcome: Any) -> None:
    whole = FakeRunner(make_plan(spec_of()), outcome=outcome).run()
    events = [e for e in whole.events if not (e["event"] == "ended" and e["id"] == "kd-final-2")]
    plan = make_plan(spec_of({"search.num_samples": 6}))
    after = FakeRunner(plan, events, outcome=outcome)
    while after.start_one():
        after.end_one()
        names = [trial.id for trial in after.started]
        assert "kd-final-2" not in names or {"kd-004", "kd-005"} < set(names)
    if outcome is worse_later:
        assert after.ids(Phase.FINAL, "kd") == ["kd-final-2"]
        assert after.agenda.outdated == []
    else:
        assert sorted(after.ids(Phase.FINAL, "kd")) == ["kd-final-1@004", "kd-final-2@004"]
        assert [record.trial.id for record in after.agenda.outdated] == ["kd-final-2"]
