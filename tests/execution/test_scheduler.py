"""Early stopping within each variant."""

import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from orchestrator import load_spec, names
from orchestrator.execution.scheduler import StandIn, VariantScheduler, relive, variant_schedulers
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Phase, Trial

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE
ASHA = {"method": "asha", "grace_period": 1, "reduction_factor": 2}


def schedulers(scheduler=ASHA, epochs=8, **search):
    spec = load_spec(
        {
            "name": "exp",
            "data": {"dataset": "digits"},
            "teacher": {"model": "resnet14"},
            "student": {"model": "resnet8"},
            "training": {"epochs": epochs},
            "search": {"scheduler": scheduler, "variants": {"kd": {}, "dtd": {}}, **search},
        }
    )
    return variant_schedulers(spec.search, make_plan(spec).arms)


class Trials:
    """Trials as Tune and as the driver know them, and what the scheduler says of them."""

    def __init__(self, inner, histories=None):
        self._known = {}
        self.scheduler = VariantScheduler(
            inner, self._known.__getitem__, lambda trial: (histories or {}).get(trial.id, [])
        )

    def add(self, id, variant="kd", phase=Phase.SEARCH):
        self._known[id] = Trial(id, phase, variant, 0, 0)
        self.scheduler.on_trial_add(None, SimpleNamespace(trial_id=id, config={}))

    def report(self, id, epoch, acc1):
        trial = SimpleNamespace(trial_id=id, config={})
        return self.scheduler.on_trial_result(None, trial, {"epoch": epoch, names.VAL_ACC1: acc1})


def rungs(scheduler):
    """What the scheduler has recorded: accuracy by trial at each rung."""
    return {milestone: dict(recorded) for milestone, recorded in scheduler._brackets[0]._rungs}


def test_weak_trials_are_stopped_by_those_of_their_own_variant():
    trials = Trials(schedulers())
    for id, acc1 in (("a", 90.0), ("b", 91.0), ("c", 92.0)):
        trials.add(id)
        assert trials.report(id, 1, acc1) == CONTINUE
    trials.add("weak")
    assert trials.report("weak", 1, 50.0) == STOP
    trials.add("strong")
    assert trials.report("strong", 1, 99.0) == CONTINUE


def test_the_success_of_a_variant_stops_no_trial_of_another():
    trials = Trials(schedulers())
    for number in range(6):
        trials.add(f"kd-{number}")
        trials.report(f"kd-{number}", 1, 99.0)
    trials.add("dtd-0", "dtd")
    assert [trials.report("dtd-0", epoch, 10.0) for epoch in range(1, 8)] == [CONTINUE] * 7
    trials.add("dtd-1", "dtd")
    assert trials.report("dtd-1", 1, 9.0) == STOP


@pytest.mark.parametrize(("phase", "variant"), [(Phase.TEACHER, "0123abcd"), (Phase.FINAL, "kd")])
def test_teachers_and_final_runs_are_never_stopped_and_stop_nobody(phase, variant):
    trials = Trials(schedulers())
    for number in range(6):
        trials.add(f"kd-{number}")
        trials.report(f"kd-{number}", 1, 99.0)
    trials.add("other", variant, phase)
    assert [trials.report("other", epoch, 1.0) for epoch in range(1, 9)] == [CONTINUE] * 8
    trials.scheduler.on_trial_complete(None, SimpleNamespace(trial_id="other"), {"epoch": 8, names.VAL_ACC1: 1.0})

    fresh = Trials(schedulers())
    fresh.add("other", variant, phase)
    fresh.report("other", 1, 99.9)
    fresh.add("kd-0")
    assert fresh.report("kd-0", 1, 1.0) == CONTINUE


def test_a_smaller_loss_is_better_where_the_metric_is_a_loss():
    inner = schedulers(metric="val/loss", mode="min")["kd"]
    decisions = []
    for number, loss in enumerate([0.1, 0.2, 0.9, 0.05]):
        trial = SimpleNamespace(trial_id=str(number))
        inner.on_trial_add(None, trial)
        decisions.append(inner.on_trial_result(None, trial, {"epoch": 1, names.VAL_LOSS: loss}))
    assert decisions == [CONTINUE, STOP, STOP, CONTINUE]


def test_every_trial_gets_its_grace_period():
    trials = Trials(schedulers({**ASHA, "grace_period": 4}))
    for number in range(6):
        trials.add(f"good-{number}")
        for epoch in range(1, 8):
            trials.report(f"good-{number}", epoch, 99.0)
    trials.add("weak")
    assert [trials.report("weak", epoch, 1.0) for epoch in range(1, 5)] == [CONTINUE] * 3 + [STOP]


def test_a_grace_period_above_all_epochs_stops_nobody():
    trials = Trials(schedulers({**ASHA, "grace_period": 20}, epochs=5))
    for number in range(6):
        trials.add(f"{number}")
        assert [trials.report(f"{number}", epoch, 99.0 - number) for epoch in range(1, 6)] == [CONTINUE] * 5


def test_results_without_an_epoch_and_failures_are_let_pass():
    trials = Trials(schedulers())
    trials.add("a")
    failed = SimpleNamespace(trial_id="a")
    result = {"failure": "out of memory", "fatal": False, "done": True}
    assert trials.scheduler.on_trial_result(None, failed, result) == CONTINUE
    trials.scheduler.on_trial_complete(None, failed, result)


def test_without_a_scheduler_nothing_is_stopped():
    assert schedulers({"method": "none"}) == {}
    trials = Trials({})
    trials.add("a")
    assert trials.report("a", 1, 0.0) == CONTINUE


def test_searched_epochs_count_at_their_largest():
    space = {"training.epochs": {"type": "randint", "low": 2, "high": 16}}
    inner = schedulers(epochs=4, space=space)["kd"]
    assert sorted(rungs(inner)) == [1, 2, 4, 8, 16]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 8))
def test_reliving_past_trials_decides_later_ones_as_if_they_had_been_seen(seed, count):
    """Trials that ran side by side, in any order, are shown again one after the other."""
    rng = random.Random(seed)
    live, later = schedulers()["kd"], schedulers()["kd"]
    histories = {f"t{number}": [] for number in range(count)}
    trials = {id: SimpleNamespace(trial_id=id) for id in histories}
    running = list(histories)
    for trial in trials.values():
        live.on_trial_add(None, trial)
    while running:
        id = rng.choice(running)
        epoch = {"epoch": len(histories[id]) + 1, names.VAL_ACC1: rng.uniform(0, 100)}
        histories[id].append(epoch)
        if live.on_trial_result(None, trials[id], epoch) == STOP or epoch["epoch"] == 8:
            live.on_trial_complete(None, trials[id], epoch)
            running.remove(id)
    for id, history in histories.items():
        relive(later, id, history)
    decisive = [milestone for milestone in rungs(live) if milestone < 8]  # after the last epoch all end
    assert [rungs(later)[milestone] for milestone in decisive] == [rungs(live)[m] for m in decisive]
    for scheduler in (live, later):
        scheduler.on_trial_add(None, SimpleNamespace(trial_id="new"))
    for number in range(1, 9):
        result = {"epoch": number, names.VAL_ACC1: rng.uniform(0, 100)}
        decisions = {s.on_trial_result(None, SimpleNamespace(trial_id="new"), result) for s in (live, later)}
        assert len(decisions) == 1


def test_a_relived_trial_that_was_stopped_counts_at_its_rung():
    inner = schedulers()["kd"]
    relive(inner, "good", [{"epoch": 1, names.VAL_ACC1: 90.0}])
    relive(inner, "weak", [{"epoch": 1, names.VAL_ACC1: 50.0}])
    assert rungs(inner)[1] == {"good": 90.0, "weak": 50.0}
    trial = SimpleNamespace(trial_id="new")
    inner.on_trial_add(None, trial)
    assert inner.on_trial_result(None, trial, {"epoch": 1, names.VAL_ACC1: 60.0}) == STOP


def test_a_resumed_trial_is_judged_by_the_epochs_it_had_at_each_rung():
    """Its later epochs must not stand at rungs that it passed in an earlier session."""
    inner = schedulers()
    history = [{"epoch": epoch, names.VAL_ACC1: 40.0 + epoch} for epoch in range(1, 5)]
    trials = Trials(inner, {"resumed": history})
    trials.add("other")
    trials.report("other", 1, 50.0)
    trials.add("resumed")
    assert [trials.report("resumed", epoch, 95.0) for epoch in range(4, 8)] == [CONTINUE] * 4
    assert rungs(inner["kd"]) == {
        8: {},
        4: {"resumed": 44.0},
        2: {"resumed": 42.0},
        1: {"other": 50.0, "resumed": 41.0},
    }
    trials.add("new")
    assert trials.report("new", 1, 55.0) == CONTINUE


MEDIAN = {"method": "median", "grace_period": 2, "min_trials": 2}


def test_a_trial_below_the_median_of_the_others_averages_is_stopped_after_its_grace_period():
    trials = Trials(schedulers(MEDIAN))
    for id, acc1 in (("a", 90.0), ("b", 80.0), ("c", 70.0)):
        trials.add(id)
        for epoch in range(1, 5):
            trials.report(id, epoch, acc1)
    trials.add("weak")
    assert [trials.report("weak", epoch, 79.0) for epoch in (1, 2)] == [CONTINUE, STOP]
    trials.add("good")
    assert [trials.report("good", epoch, 81.0) for epoch in range(1, 5)] == [CONTINUE] * 4
    trials.add("other", "dtd")
    assert [trials.report("other", epoch, 1.0) for epoch in range(1, 5)] == [CONTINUE] * 4


def test_a_trial_with_too_few_others_goes_on():
    trials = Trials(schedulers(MEDIAN))
    for id in ("a", "b"):
        trials.add(id)
        assert [trials.report(id, epoch, 50.0 if id == "b" else 90.0) for epoch in range(1, 5)] == [CONTINUE] * 4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 8))
def test_the_median_after_a_restart_is_that_of_before(seed, count):
    """Also where what the rule would say of a trial, shown again, is another thing than it said."""
    rng = random.Random(seed)
    live, later = schedulers(MEDIAN)["kd"], schedulers(MEDIAN)["kd"]
    histories = {f"t{number}": [] for number in range(count)}
    trials = {id: StandIn(id) for id in histories}
    for trial in trials.values():
        live.on_trial_add(None, trial)
    running = list(histories)
    while running:
        id = rng.choice(running)
        epoch = {"epoch": len(histories[id]) + 1, names.VAL_ACC1: rng.uniform(0, 100)}
        histories[id].append(epoch)
        stops = live.on_trial_result(None, trials[id], dict(epoch)) == STOP
        if stops or epoch["epoch"] == 8:
            live.on_trial_complete(None, trials[id], dict(epoch))
            running.remove(id)
    for id, history in histories.items():
        relive(later, id, history)
    new = StandIn("new")
    for number in range(1, 9):
        result = {"epoch": number, names.VAL_ACC1: rng.uniform(0, 100)}
        assert live.on_trial_result(None, new, dict(result)) == later.on_trial_result(None, new, dict(result))
