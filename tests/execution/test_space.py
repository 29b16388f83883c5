"""Adaptive samplers: Tune's searchers over the spec's domains, without a Ray cluster."""

import json
import math
import statistics
import sys

import pytest

from orchestrator import load_spec
from orchestrator.errors import UsageError
from orchestrator.execution.space import decode, encode, make_sampler
from orchestrator.search.plan import make_plan
from orchestrator.spec.search import Choice

LR = "training.optimizer.lr"
SECTIONS = [
    {"method": "constant", "base": 4.0},
    {"method": "flsw", "base": 4.0, "beta": 20.0, "gamma": 1.0, "min": 1.0, "max": 12.0},
    {"method": "cwsm"},
]
SPACE = {
    "distillation.kd_weight": {"type": "uniform", "low": 0.5, "high": 2.0},
    LR: {"type": "loguniform", "low": 0.01, "high": 0.2},
    "distillation.ce_weight": {"type": "quniform", "low": 0.1, "high": 0.7, "q": 0.1},
    "training.epochs": {"type": "randint", "low": 2, "high": 4},
    "training.batch_size": {"type": "lograndint", "low": 1, "high": 8},
    "training.gradient_clip": {"type": "choice", "values": [None, 1.0, 5.0]},
    "distillation.temperature": {"type": "choice", "values": SECTIONS},
}
SAMPLERS = pytest.mark.parametrize("sampler", ["optuna", "hyperopt"])


def make(sampler, space=SPACE, drawn=0, seed=0, **search):
    spec = load_spec(
        {
            "name": "exp",
            "data": {"dataset": "digits"},
            "teacher": {"model": "resnet14"},
            "student": {"model": "resnet8"},
            "search": {"sampler": sampler, "space": space, **search},
        }
    )
    plan = make_plan(spec)
    return make_sampler(plan.arms[0], drawn, spec.search, seed), plan


def draw(sampler, count, first=0):
    return [sampler.suggest(f"t{number}") for number in range(first, first + count)]


@SAMPLERS
def test_draws_lie_in_their_domains_as_plain_values(sampler):
    made, plan = make(sampler)
    points = draw(made, 30)
    for point in points:
        assert set(point) == set(SPACE)
        assert json.loads(json.dumps(point)) == point
        assert type(point["distillation.kd_weight"]) is type(point[LR]) is float
        assert 0.5 <= point["distillation.kd_weight"] <= 2.0
        assert 0.01 <= point[LR] <= 0.2
        assert type(point["distillation.ce_weight"]) is float
        assert point["distillation.ce_weight"] in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
        assert type(point["training.epochs"]) is type(point["training.batch_size"]) is int
        assert 2 <= point["training.epochs"] <= 4
        assert 1 <= point["training.batch_size"] <= 8
        assert point["training.gradient_clip"] in (None, 1.0, 5.0)
        assert point["distillation.temperature"] in SECTIONS
        assert plan.arms[0].variant.run.with_values(point).training.epochs == point["training.epochs"]
    assert {point["training.epochs"] for point in points} == {2, 3, 4}
    assert len({point["distillation.temperature"]["method"] for point in points}) == 3
    assert {point["training.gradient_clip"] for point in points} == {None, 1.0, 5.0}
    assert any(point[LR] < 0.045 for point in points)
    assert any(point[LR] > 0.045 for point in points)


@SAMPLERS
@pytest.mark.parametrize("kind", ["randint", "lograndint"])
def test_whole_numbers_reach_both_ends(sampler, kind):
    made, _ = make(sampler, {"training.epochs": {"type": kind, "low": 1, "high": 2}})
    assert {point["training.epochs"] for point in draw(made, 30)} == {1, 2}


@SAMPLERS
def test_the_same_seed_draws_the_same_and_another_does_not(sampler):
    assert draw(make(sampler)[0], 5) == draw(make(sampler)[0], 5)
    assert draw(make(sampler)[0], 5) != draw(make(sampler, seed=1)[0], 5)


def score(point):
    """Best at lr = 0.15 on the logarithmic scale, and at an epochs value of 30."""
    return -((math.log(point[LR] / 0.15)) ** 2) - ((point["training.epochs"] - 30) / 20) ** 2


QUADRATIC = {
    LR: {"type": "loguniform", "low": 0.0001, "high": 1.0},
    "training.epochs": {"type": "randint", "low": 1, "high": 40},
}


def run(made, count, first=0, sign=1):
    points = []
    for number in range(first, first + count):
        point = made.suggest(f"t{number}")
        made.tell(f"t{number}", point, sign * score(point))
        points.append(point)
    return points


@SAMPLERS
@pytest.mark.parametrize(("metric", "mode", "sign"), [("val/acc1", "max", 1), ("val/loss", "min", -1)])
def test_results_draw_later_points_to_the_best(sampler, metric, mode, sign):
    early, late = [], []
    for seed in range(3):
        made, _ = make(sampler, QUADRATIC, seed=seed, metric=metric, mode=mode)
        scores = [score(point) for point in run(made, 60, sign=sign)]
        early += scores[:15]
        late += scores[-15:]
    assert statistics.mean(late) > statistics.mean(early) / 2
    assert statistics.median(late) > statistics.median(early) / 2


@SAMPLERS
def test_failed_trials_do_not_stop_the_search(sampler):
    made, _ = make(sampler, QUADRATIC)
    for number in range(30):
        point = made.suggest(f"t{number}")
        made.tell(f"t{number}", point, None if number % 3 else score(point))
    assert made.suggest("last") is not None


@SAMPLERS
def test_a_later_session_goes_on_from_earlier_results(sampler):
    informed, ignorant = [], []
    for seed in range(3):
        made, _ = make(sampler, QUADRATIC, seed=seed)
        earlier = run(made, 40)
        for points, told in ((informed, earlier), (ignorant, [])):
            resumed, _ = make(sampler, QUADRATIC, drawn=40, seed=seed)
            for number, point in enumerate(told):
                resumed.tell(f"t{number}", json.loads(json.dumps(point)), score(point))
            points += run(resumed, 12, first=40)
            assert not {point[LR] for point in points} & {point[LR] for point in earlier}
    assert statistics.mean(map(score, informed)) > statistics.mean(map(score, ignorant)) / 2
    assert statistics.median(map(score, informed)) > statistics.median(map(score, ignorant)) / 2


@SAMPLERS
def test_every_kind_of_value_of_an_earlier_session_is_taken(sampler):
    made, _ = make(sampler)
    earlier = draw(made, 25)
    resumed, _ = make(sampler, drawn=25)
    for number, point in enumerate(earlier):
        resumed.tell(f"t{number}", json.loads(json.dumps(point)), float(number))
    resumed.tell("failed", earlier[0], None)
    points = draw(resumed, 10, first=25)
    assert not {point[LR] for point in points} & {point[LR] for point in earlier}
    assert all(set(point) == set(SPACE) for point in points)


@SAMPLERS
def test_an_interrupted_trial_may_end_after_new_ones_were_drawn(sampler):
    earlier = draw(make(sampler)[0], 3)
    resumed, _ = make(sampler, drawn=3)
    resumed.tell("t0", earlier[0], 1.0)
    first, second = draw(resumed, 2, first=3)
    resumed.tell("t1", earlier[1], 2.0)  # drawn in the earlier session, ended in this one
    third = resumed.suggest("t5")
    resumed.tell("t3", first, 3.0)
    resumed.tell("t2", earlier[2], None)
    resumed.tell("t4", second, None)
    resumed.tell("t5", third, 4.0)
    points = [*earlier, first, second, third, *draw(resumed, 5, first=6)]
    assert len({point[LR] for point in points}) == len(points)


@SAMPLERS
def test_constraints_repair_what_is_drawn(sampler):
    space = {
        "distillation.temperature.min": {"type": "uniform", "low": 1.0, "high": 6.0},
        "distillation.temperature.base": {"type": "uniform", "low": 4.0, "high": 5.0},
    }
    variant = {"dtd": {"set": {"distillation.temperature": {"method": "flsw"}}, "space": space}}
    rule = ["distillation.temperature.min <= distillation.temperature.base"]
    made, plan = make(sampler, {}, variants=variant, constraints=rule)
    points = draw(made, 30)
    for point in points:
        plan.arms[0].variant.run.with_values(point)
    low, base = "distillation.temperature.min", "distillation.temperature.base"
    assert sum(point[low] == point[base] for point in points) > 3
    # A later session tells them as they ran; one that was moved out of its domain is left out.
    moved = {low: 0.5, base: 4.5}
    resumed, _ = make(sampler, {}, drawn=30, variants=variant, constraints=rule)
    for number, point in enumerate([*points, moved]):
        resumed.tell(f"t{number}", point, float(number))
    assert len(draw(resumed, 3, first=31)) == 3


def test_choices_of_equal_values_of_other_types_are_told_apart():
    domain = Choice(type="choice", values=[1, True, 1.0, "1", [1]])
    assert [encode(domain, value) for value in domain.values] == [0, 1, 2, 3, 4]
    for number, value in enumerate(domain.values):
        decoded = decode(domain, number)
        assert decoded == value
        assert type(decoded) is type(value)


def test_a_missing_hyperopt_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hyperopt", None)
    with pytest.raises(UsageError) as caught:
        make("hyperopt")
    assert "hyperopt is not installed" in caught.value.message
    assert "pip install 'distillation-orchestrator[hyperopt]'" in str(caught.value.hint)
    assert make("optuna")[0].suggest("t0")
