"""HyperBand's brackets: who waits, who goes on, and that a search cut anywhere ends the same."""

import hashlib
import json
from typing import Any

import pytest
from fake_runs import FakeRunner, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.search.halving import brackets_of
from orchestrator.search.plan import Plan
from orchestrator.search.standing import anything_left
from orchestrator.search.trials import Phase, Record, Status, Trial, ended, replay
from orchestrator.spec.schedulers import HyperBandScheduler

LR = {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.2}}
SEARCH = {
    "training.epochs": 9,
    "search.scheduler": {"method": "hyperband"},
    "search.num_samples": 14,
    "search.space": LR,
    "search.variants": {"a": {}, "b": {}},
    "search.final_seeds": 1,
}


def scheduler(**options: Any) -> HyperBandScheduler:
    return HyperBandScheduler(method="hyperband", **options)


def at(trial: Trial, epoch: int) -> float:
    """The accuracy of a trial after an epoch: erratic, and the same every time."""
    text = f"{trial.variant}/{trial.index}/{epoch}/{trial.seed}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32 * 100


class BracketRunner(FakeRunner):
    """Does what the driver does with trials that wait."""

    def __init__(self, plan: Plan, events: Any = (), fails: Any = lambda trial: False, **options: Any) -> None:
        self._fails = fails
        super().__init__(plan, events, outcome=self._outcome_of, **options)
        self._epochs = plan.spec.training.epochs

    def start_one(self) -> bool:
        self.drop()
        return super().start_one()

    def drop(self) -> None:
        while out := self.agenda.out:
            for record in out:
                record.status = Status.STOPPED
                self.events.append(ended(record))
                self.agenda.finish(record)

    def _outcome_of(self, trial: Trial) -> Record:
        record = self.agenda.records[trial.id]
        rung = self.agenda.next_rung(record)
        if trial.phase is Phase.SEARCH and self._fails(trial):
            return Record(trial, Status.FAILED, reason="NaN", rungs=record.rungs)
        epoch = rung or self._epochs
        rungs = [*record.rungs, at(trial, epoch)] if rung else record.rungs
        return Record(
            trial, Status.PAUSED if rung else Status.FINISHED, {"val/acc1": at(trial, epoch)}, epoch, rungs=rungs
        )


def through_json(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(json.dumps({**event, "at": 1.0})) for event in events]


def ran(events: list[dict[str, Any]]) -> dict[str, Any]:
    found = replay(through_json(events))
    return {id: (r.status, r.epochs, r.rungs, r.metrics, dict(r.trial.params)) for id, r in found.items()}


def test_brackets_follow_the_papers_algorithm() -> None:
    found = brackets_of(143, 81, scheduler())
    assert [(bracket.size, bracket.rungs) for bracket in found] == [
        (81, (1, 3, 9, 27)),
        (34, (3, 9, 27)),
        (15, (9, 27)),
        (8, (27,)),
        (5, ()),
    ]
    assert [bracket.first for bracket in found] == [0, 81, 115, 130, 138]


@settings(deadline=None)
@given(
    count=st.integers(1, 400),
    epochs=st.integers(1, 300),
    grace=st.integers(1, 40),
    eta=st.floats(2, 6, allow_nan=False),
)
def test_every_trial_is_in_one_bracket_and_waits_before_its_last_epoch(count, epochs, grace, eta) -> None:
    found = brackets_of(count, epochs, scheduler(grace_period=grace, reduction_factor=eta))
    assert [n for bracket in found for n in bracket.numbers] == list(range(count))
    for bracket in found:
        assert list(bracket.rungs) == sorted(set(bracket.rungs))
        assert all(min(grace, epochs) <= rung < epochs for rung in bracket.rungs)


@pytest.mark.parametrize("workers", [1, 2, 5, 40])
def test_the_best_of_a_bracket_go_on_and_the_others_stop_at_their_rung(workers: int) -> None:
    runner = BracketRunner(plan_of(SEARCH), workers=workers).run()
    for variant in ("a", "b"):
        found = [runner.agenda.records[f"{variant}-{n:03d}"] for n in range(14)]
        # Nine trials wait after 1 and 3 epochs, five after 3.
        first = sorted(found[:9], key=lambda r: -r.rungs[0])
        assert [len(r.rungs) for r in first] == [2] * 3 + [1] * 6
        assert [r.status for r in first[3:]] == [Status.STOPPED] * 6
        assert [r.status for r in sorted(first[:3], key=lambda r: -r.rungs[1])] == [
            Status.FINISHED,
            Status.STOPPED,
            Status.STOPPED,
        ]
        second = sorted(found[9:], key=lambda r: -r.rungs[0])
        assert [(r.status, r.epochs) for r in second] == [(Status.FINISHED, 9)] + [(Status.STOPPED, 3)] * 4
    assert len(runner.ids(Phase.FINAL)) == 2
    assert runner.agenda.out == []


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fails", [lambda trial: False, lambda trial: trial.index % 4 == 1], ids=["none", "some"])
def test_cut_anywhere_the_rest_is_the_same(workers: int, fails: Any) -> None:
    plan = plan_of(SEARCH)
    whole = BracketRunner(plan, fails=fails, workers=workers).run().events
    expected = ran(whole)
    assert len(expected) == 1 + 28 + 2
    for cut in range(len(whole) + 1):
        before = replay(through_json(whole[:cut]))
        again = BracketRunner(plan, through_json(whole[:cut]), fails, workers=workers, seed=cut).run()
        assert ran(again.events) == expected
        assert not {t.id for t in again.started} & {id for id, r in before.items() if r.status.ended}


def test_what_fails_leaves_its_place_to_others() -> None:
    runner = BracketRunner(plan_of(SEARCH), fails=lambda trial: trial.index in (0, 1, 2, 3, 4, 5, 6)).run()
    left = [runner.agenda.records[f"a-00{n}"] for n in (7, 8)]
    assert sorted(len(r.rungs) for r in left) == [2, 2]
    assert sorted(r.status for r in left) == [Status.FINISHED, Status.STOPPED]


def test_smaller_losses_go_on_where_the_metric_is_a_loss() -> None:
    runner = BracketRunner(plan_of(SEARCH | {"search.metric": "val/loss", "search.mode": "min"}))
    runner._outcome = lambda trial: _with_loss(BracketRunner._outcome_of(runner, trial))
    runner.run()
    found = [runner.agenda.records[f"a-{n:03d}"] for n in range(9)]
    assert {r.rungs[0] for r in found if len(r.rungs) == 2} == set(sorted(r.rungs[0] for r in found)[:3])


def _with_loss(record: Record) -> Record:
    return Record(record.trial, record.status, {"val/loss": 1.0, **record.metrics}, record.epochs, rungs=record.rungs)


def test_when_the_time_is_over_nothing_waits_any_longer() -> None:
    over: list[bool] = []
    runner = BracketRunner(plan_of(SEARCH), workers=2, out_of_budget=lambda: bool(over))
    while sum(r.status is Status.PAUSED for r in runner.agenda.records.values()) < 3:
        runner.start_one()
        runner.end_one()
    over.append(True)
    runner.run()
    assert {r.status for r in runner.agenda.records.values()} == {Status.STOPPED, Status.FINISHED}
    assert len(runner.ids(Phase.FINAL)) == 2


def test_trials_that_wait_in_vain_are_something_that_is_left() -> None:
    plan = plan_of(SEARCH | {"search.final_seeds": 0, "search.variants": {}})
    whole = BracketRunner(plan, workers=1).run().events
    last = max(n for n, event in enumerate(whole) if event.get("status") == "stopped")
    assert not anything_left(plan, replay(through_json(whole)), lambda key: True)
    assert anything_left(plan, replay(through_json(whole[:last])), lambda key: True)


def test_a_variant_that_searches_nothing_does_not_wait() -> None:
    plan = plan_of(SEARCH | {"search.space": {}, "search.variants": {"fixed": {}, "b": {"space": LR}}})
    runner = BracketRunner(plan).run()
    assert runner.agenda.records["fixed-000"].rungs == []
    assert runner.agenda.records["fixed-000"].status is Status.FINISHED


class Recording:
    def __init__(self) -> None:
        self.told: list[tuple[str, int | None, float | None]] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"training.optimizer.lr": 0.05}

    def observe(self, trial_id: str, params: Any, epochs: int, value: float) -> None:
        self.told.append((trial_id, epochs, value))

    def tell(self, trial_id: str, params: Any, value: float | None) -> None:
        self.told.append((trial_id, None, value))


BOHB = SEARCH | {"search.sampler": "bohb", "search.scheduler": {"method": "bohb"}, "search.variants": {}}


def test_bohb_is_told_every_rung_and_told_again_in_a_later_session() -> None:
    plan, sampler = plan_of(BOHB), Recording()
    runner = BracketRunner(plan, make_sampler=lambda arm, drawn: sampler, workers=1).run()
    for record in runner.agenda.records.values():
        if record.trial.phase is not Phase.SEARCH:
            continue
        mine = [(epochs, value) for id, epochs, value in sampler.told if id == record.trial.id]
        reached = [*runner.agenda._waiting.passed(record), *([9] if record.status is Status.FINISHED else [])]
        assert mine == [(epoch, at(record.trial, epoch)) for epoch in reached] + [(None, at(record.trial, reached[-1]))]
    later = Recording()
    BracketRunner(plan, through_json(runner.events), make_sampler=lambda arm, drawn: later)
    assert sorted(later.told, key=str) == sorted(sampler.told, key=str)


def test_other_samplers_are_told_the_last_value_alone() -> None:
    sampler = Recording()
    plan = plan_of(BOHB | {"search.sampler": "optuna", "search.scheduler": {"method": "hyperband"}})
    BracketRunner(plan, make_sampler=lambda arm, drawn: sampler).run()
    assert len(sampler.told) == 14
    assert {epochs for _, epochs, _ in sampler.told} == {None}
