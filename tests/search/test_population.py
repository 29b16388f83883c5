"""Populations: who takes over whom, which values follow, and that a search cut anywhere ends the same."""

import json
from typing import Any

import pytest
from fake_runs import TWO_ARMS, FakeRunner, formula, plan_of

from orchestrator.search.brackets import Exploit
from orchestrator.search.plan import Plan
from orchestrator.search.population import lineage, perturbed, schedule
from orchestrator.search.standing import anything_left
from orchestrator.search.trials import Change, Phase, Record, Status, Trial, changed, created, ended, replay
from orchestrator.spec.schedulers import PBTScheduler

LR, MAX = "training.optimizer.lr", "distillation.temperature.max"
EPOCHS, INTERVAL = 10, 3
SEARCH = TWO_ARMS | {
    # The best rate lies beyond, so that weights that go on with a larger one win.
    "search.space": {LR: {"type": "loguniform", "low": 0.001, "high": 0.07}},
    "training.epochs": EPOCHS,
    "search.scheduler": {"method": "pbt", "perturbation_interval": INTERVAL},
    "search.num_samples": 6,
    "search.final_seeds": 1,
}
PBT = PBTScheduler(method="pbt")


class PopulationRunner(FakeRunner):
    """Does what the driver does with trials that wait and are changed.

    A trial's weights are its accuracy: every epoch adds what its values are worth then, and who takes over another
    goes on with that one's.
    """

    def __init__(self, plan: Plan, events: Any = (), fails: Any = lambda trial: False, **options: Any) -> None:
        self._fails = fails
        self.folders: dict[str, float] = options.pop("folders", {})
        super().__init__(plan, events, outcome=self._outcome_of, **options)
        self._epochs = plan.spec.training.epochs

    def start_one(self) -> bool:
        for record in self.agenda.out:
            record.status = Status.STOPPED
            self.events.append(ended(record))
            self.agenda.finish(record)
        for exploit in self.agenda.exploits:
            if self.crash_in_change():
                return False
            loser, source = exploit.loser, exploit.source
            variant = self.plan.by_name[loser.trial.variant].variant
            change = Change(exploit.epoch, perturbed(variant, exploit, PBT), source.trial.id)
            self.folders[loser.trial.id] = self.folders[source.trial.id]
            self.events.append(changed(loser, change))
            self.agenda.change(loser, change)
        return super().start_one()

    def crash_in_change(self) -> bool:
        return False

    def _outcome_of(self, trial: Trial) -> Record:
        record = self.agenda.records[trial.id]
        rung = self.agenda.next_rung(record)
        if self._fails(trial):
            return Record(trial, Status.FAILED, reason="NaN", rungs=record.rungs, changes=record.changes)
        epoch = rung or self._epochs
        values = Trial(trial.id, trial.phase, trial.variant, trial.index, trial.seed, record.params)
        self.folders[trial.id] = value = self.folders.get(trial.id, 0.0) + formula(values) * (epoch - record.epochs)
        return Record(
            trial,
            Status.PAUSED if rung else Status.FINISHED,
            {"val/acc1": value},
            epoch,
            rungs=[*record.rungs, value] if rung else record.rungs,
            changes=record.changes,
        )


def through_json(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(json.dumps({**event, "at": 1.0})) for event in events]


def ran(events: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        id: (r.status, r.epochs, r.rungs, r.metrics, dict(r.trial.params), r.changes, r.trial.changes)
        for id, r in replay(through_json(events)).items()
    }


def paused(runner: FakeRunner) -> list[Trial]:
    return [r.trial for r in runner.agenda.records.values() if r.status is Status.PAUSED]


def members(runner: FakeRunner, variant: str = "kd") -> list[Record]:
    return [r for r in runner.agenda.records.values() if r.trial.phase is Phase.SEARCH and r.trial.variant == variant]


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_the_worst_take_over_the_best_after_every_interval(workers: int) -> None:
    runner = PopulationRunner(plan_of(SEARCH), workers=workers).run()
    for variant in ("kd", "dtd"):
        found = members(runner, variant)
        assert {r.status for r in found} == {Status.FINISHED}
        assert [len(r.rungs) for r in found] == [3] * 6
        for passed, epoch in enumerate((3, 6, 9)):
            ranked = sorted(found, key=lambda r: -r.rungs[passed])
            # A quarter of six, rounded up.
            changing = {r.trial.id: c.source for r in found for c in r.changes if c.epoch == epoch}
            assert set(changing) == {r.trial.id for r in ranked[4:]}
            assert set(changing.values()) <= {r.trial.id for r in ranked[:2]}
    assert runner.agenda.exploits == []


def test_values_that_follow_are_those_of_the_source_perturbed_within_the_domains() -> None:
    runner = PopulationRunner(plan_of(SEARCH), workers=3).run()
    space = runner.plan.by_name["dtd"].variant.space
    kept = 0
    for record in members(runner, "dtd"):
        for change in record.changes:
            source = runner.agenda.records[str(change.source)]
            before = [c.params for c in source.changes if c.epoch < change.epoch]
            old = before[-1] if before else source.trial.params
            assert all(space[path].takes(value) for path, value in change.params.items())
            for path, value in change.params.items():
                ends = space[path].extremes
                kept += any(value == pytest.approx(min(max(old[path] * f, ends[0]), ends[1])) for f in (0.8, 1.2))
    assert kept >= 6


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fails", [lambda trial: False, lambda trial: trial.index == 1], ids=["none", "some"])
def test_cut_anywhere_the_rest_is_the_same(workers: int, fails: Any) -> None:
    plan = plan_of(SEARCH)
    whole = PopulationRunner(plan, fails=fails, workers=workers).run().events
    expected = ran(whole)
    assert sum(len(found[5]) for found in expected.values()) > 6
    for cut in range(len(whole) + 1):
        folders: dict[str, float] = {}
        for event in whole[:cut]:
            if event["event"] == "ended" and "val/acc1" in event["metrics"]:
                folders[event["id"]] = event["metrics"]["val/acc1"]
            if event["event"] == "changed":
                folders[event["id"]] = folders[event["source"]]
        again = PopulationRunner(plan, through_json(whole[:cut]), fails, workers=workers, seed=cut, folders=folders)
        assert ran(again.run().events) == expected


def test_a_failed_trial_is_neither_waited_for_nor_taken_over() -> None:
    runner = PopulationRunner(plan_of(SEARCH), fails=lambda t: t.phase is Phase.SEARCH and t.index < 3).run()
    assert {r.status for r in members(runner)[:3]} == {Status.FAILED}
    left = members(runner)[3:]
    assert [len(r.rungs) for r in left] == [3] * 3
    assert {c.source for r in left for c in r.changes} <= {r.trial.id for r in left}


def test_who_ended_while_waiting_gives_and_takes_nothing() -> None:
    runner = PopulationRunner(plan_of(SEARCH | {"search.variants": {}}), workers=1)
    runner.crash_in_change = lambda: True  # type: ignore[method-assign]
    runner.run()
    (first, second) = runner.agenda.exploits
    for record in (first.source, second.loser):
        record.status = Status.STOPPED
        runner.agenda.finish(record)
    assert all(exploit.source is not first.source for exploit in runner.agenda.exploits)
    assert all(exploit.loser is not second.loser for exploit in runner.agenda.exploits)


def test_a_comparison_that_is_left_to_make_is_something_that_is_left() -> None:
    plan = plan_of(SEARCH | {"search.variants": {}})
    runner = PopulationRunner(plan, workers=1)
    runner.crash_in_change = lambda: True  # type: ignore[method-assign]
    runner.run()
    assert runner.agenda.next() is None
    assert anything_left(plan, replay(through_json(runner.events)), lambda key: True)


def test_final_runs_repeat_the_values_that_made_the_winners_weights() -> None:
    runner = PopulationRunner(plan_of(SEARCH), workers=2).run()
    records = runner.agenda.records
    for variant in ("kd", "dtd"):
        winner = max(members(runner, variant), key=lambda r: r.metrics["val/acc1"])
        final = records[f"{variant}-final-1"]
        assert final.status is Status.FINISHED
        assert (dict(final.trial.params), final.trial.changes) == lineage(winner, records.__getitem__)
        # The worth of an epoch depends on its values alone, but for the seed: alike values make alike weights.
        seed = final.trial.seed * 1e-3 * EPOCHS
        assert final.metrics["val/acc1"] == pytest.approx(winner.metrics["val/acc1"] + seed)
        assert len(final.rungs) == len(final.trial.changes) == len(final.made)
        assert all(change.source is None for change in final.trial.changes)
    assert any(r.trial.changes for r in records.values())


def test_a_lineage_leads_through_the_trials_whose_weights_were_taken() -> None:
    def record(id: str, lr: float, *changes: Change) -> Record:
        return Record(Trial(id, Phase.SEARCH, "kd", 0, 0, {LR: lr}), changes=changes)

    a = record("a", 0.1, Change(4, {LR: 0.12}, "b"), Change(8, {LR: 0.2}, "c"))
    b = record("b", 0.02, Change(2, {LR: 0.03}, "c"), Change(6, {LR: 0.5}, "a"))
    c = record("c", 0.04, Change(6, {LR: 0.07}, "b"))
    found = {r.trial.id: r for r in (a, b, c)}
    # c took b's weights after 6, b had taken c's after 2.
    assert lineage(a, found.__getitem__) == (
        {LR: 0.04},
        (Change(2, {LR: 0.03}), Change(6, {LR: 0.07}), Change(8, {LR: 0.2})),
    )
    assert schedule(a.trial.params, a.made) == [
        {"after_epoch": 0, "params": {LR: 0.1}, "weights_of": None},
        {"after_epoch": 4, "params": {LR: 0.12}, "weights_of": "b"},
        {"after_epoch": 8, "params": {LR: 0.2}, "weights_of": "c"},
    ]


def test_final_runs_go_on_when_the_budget_is_spent() -> None:
    over: list[bool] = []
    runner = PopulationRunner(plan_of(SEARCH), workers=1, out_of_budget=lambda: bool(over))
    while not any(trial.phase is Phase.FINAL for trial in paused(runner)):
        assert runner.start_one()
        runner.end_one()
    over.append(True)
    runner.run()
    assert {r.status for r in runner.agenda.records.values()} == {Status.FINISHED}


def test_the_journal_tells_of_every_change() -> None:
    trial = Trial("kd-000", Phase.SEARCH, "kd", 0, 0, {LR: 0.1})
    record = Record(trial, Status.PAUSED, epochs=3, rungs=[50.0])
    assert "changes" not in created(trial)["trial"]
    first, second = Change(3, {LR: 0.12}, "kd-001"), Change(6, {LR: 0.1}, "kd-002")
    events = [created(trial), ended(record), changed(record, first)]
    record.changes = (first,)
    events += [ended(record), changed(record, second)]
    assert events[-1] == {
        "event": "changed",
        "id": "kd-000",
        "old": {LR: 0.12},
        "epoch": 6,
        "params": {LR: 0.1},
        "source": "kd-002",
    }
    again = replay(through_json(events))["kd-000"]
    assert again.changes == (first, second)
    assert again.params == {LR: 0.1}


def test_choices_and_whole_numbers_are_perturbed_by_steps() -> None:
    space = {
        "distillation.temperature": {"type": "choice", "values": [{"method": "cwsm"}, {"method": "flsw"}]},
        "distillation.warmup_epochs": {"type": "randint", "low": 0, "high": 3},
    }
    plan = plan_of(SEARCH | {"search.variants": {}, "search.space": space})
    variant = plan.by_name["default"].variant
    values = {"distillation.temperature": {"method": "cwsm"}, "distillation.warmup_epochs": 2}
    source = Record(Trial("s", Phase.SEARCH, "default", 0, 0, values), Status.PAUSED, rungs=[1.0])
    drawn = [
        perturbed(variant, Exploit(source, source, 3, str(n)), PBTScheduler(method="pbt", resample_probability=0))
        for n in range(40)
    ]
    assert {json.dumps(d["distillation.temperature"]) for d in drawn} == {'{"method": "cwsm"}', '{"method": "flsw"}'}
    assert {d["distillation.warmup_epochs"] for d in drawn} == {1, 3}
    anew = [
        perturbed(variant, Exploit(source, source, 3, str(n)), PBTScheduler(method="pbt", resample_probability=1))
        for n in range(40)
    ]
    assert {d["distillation.warmup_epochs"] for d in anew} == {0, 1, 2, 3}
