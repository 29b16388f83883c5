"""Adaptive samplers: Tune's searchers over the spec's domains, without a Ray cluster."""

import json
import math
import statistics
import sys

import pytest

from orchestrator import load_spec
from orchestrator.errors import UsageError
from orchestrator.execution import space
from orchestrator.execution.space import SearcherSampler, decode, encode
from orchestrator.search.packages import require_packages
from orchestrator.search.plan import make_plan
from orchestrator.search.warm_start import Earlier
from orchestrator.spec.domains import Choice
from orchestrator.spec.samplers import OptunaSampler

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
    "data.augmentation.cutout": {"type": "qrandint", "low": 2, "high": 6, "q": 2},
    "training.gradient_clip": {"type": "choice", "values": [None, 1.0, 5.0]},
    "distillation.temperature": {"type": "choice", "values": SECTIONS},
}
ALL = {
    "optuna": "optuna",
    "gp": {"algorithm": "gp"},
    "cmaes": {"algorithm": "cmaes"},
    "nsgaii": {"algorithm": "nsgaii", "population_size": 5},
    "hyperopt": "hyperopt",
    "bohb": "bohb",
}
SAMPLERS = pytest.mark.parametrize("sampler", ALL)
LEARNERS = pytest.mark.parametrize("sampler", [name for name in ALL if name != "nsgaii"])
"""Those that learn much from some dozens of results, and draw no value twice."""


def make(sampler, space=SPACE, drawn=0, seed=0, earlier=(), **search):
    chosen = {} if sampler == "bohb" else {"sampler": ALL[sampler]}
    spec = load_spec(
        {
            "name": "exp",
            "data": {"dataset": "digits"},
            "teacher": {"model": "resnet14"},
            "student": {"model": "resnet8"},
            "search": {**chosen, "space": space, **search},
        }
    )
    plan = make_plan(spec)
    asked = spec.search
    if sampler == "bohb":
        pytest.importorskip("hpbandster")
        # Past validation, as epochs are in the space: bohb itself can search them.
        asked = asked.model_copy(update={"sampler": "bohb"})
    return SearcherSampler(plan.arms[0], drawn, asked, seed, earlier), plan


def tell(made, id, point, value):
    """As the agenda does with scheduler bohb; other samplers take no notice of the first."""
    if value is not None:
        made.observe(id, point, 5, value)
    made.tell(id, point, value)


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
        assert type(point["data.augmentation.cutout"]) is int
        assert point["training.gradient_clip"] in (None, 1.0, 5.0)
        assert point["distillation.temperature"] in SECTIONS
        assert plan.arms[0].variant.run.with_values(point).training.epochs == point["training.epochs"]
    assert {point["training.epochs"] for point in points} == {2, 3, 4}
    assert {point["data.augmentation.cutout"] for point in points} == {2, 4, 6}
    assert len({point["distillation.temperature"]["method"] for point in points}) == 3
    assert {point["training.gradient_clip"] for point in points} == {None, 1.0, 5.0}
    assert any(point[LR] < 0.045 for point in points)
    assert any(point[LR] > 0.045 for point in points)


@SAMPLERS
@pytest.mark.parametrize("kind", ["randint", "lograndint"])
def test_whole_numbers_reach_both_ends(sampler, kind):
    both = {path: {"type": kind, "low": 1, "high": 2} for path in ("training.epochs", "training.batch_size")}
    points = draw(make(sampler, both)[0], 30)
    assert (
        {point["training.epochs"] for point in points} == {point["training.batch_size"] for point in points} == {1, 2}
    )


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
        tell(made, f"t{number}", point, sign * score(point))
        points.append(point)
    return points


@LEARNERS
@pytest.mark.parametrize(("metric", "mode", "sign"), [("val/acc1", "max", 1), ("val/loss", "min", -1)])
def test_results_draw_later_points_to_the_best(sampler, metric, mode, sign):
    early, late = [], []
    for seed in range(1 if sampler == "gp" else 3):
        made, _ = make(sampler, QUADRATIC, seed=seed, metric=metric, mode=mode)
        scores = [score(point) for point in run(made, 20 if sampler == "gp" else 60, sign=sign)]
        early += scores[: len(scores) // 4]
        late += scores[-len(scores) // 4 :]
    # A third of bohb's trials is drawn at random whatever the results, so a mean says little of it.
    assert sampler == "bohb" or statistics.mean(late) > statistics.mean(early) / 2
    assert statistics.median(late) > statistics.median(early) / 2


@SAMPLERS
def test_failed_trials_do_not_stop_the_search(sampler):
    made, _ = make(sampler, QUADRATIC)
    for number in range(30):
        point = made.suggest(f"t{number}")
        tell(made, f"t{number}", point, None if number % 3 else score(point))
    assert made.suggest("last") is not None


@LEARNERS
def test_a_later_session_goes_on_from_earlier_results(sampler):
    informed, ignorant = [], []
    for seed in range(1 if sampler == "gp" else 3):
        # What is known need not come from the sampler itself.
        made, _ = make("optuna" if sampler == "gp" else sampler, QUADRATIC, seed=seed)
        earlier = run(made, 40)
        for points, told in ((informed, earlier), (ignorant, [])):
            resumed, _ = make(sampler, QUADRATIC, drawn=40, seed=seed)
            for number, point in enumerate(told):
                tell(resumed, f"t{number}", json.loads(json.dumps(point)), score(point))
            points += run(resumed, 5 if sampler == "gp" else 12, first=40)
            assert not {point[LR] for point in points} & {point[LR] for point in earlier}
    assert sampler == "bohb" or statistics.mean(map(score, informed)) > statistics.mean(map(score, ignorant)) / 2
    assert statistics.median(map(score, informed)) > statistics.median(map(score, ignorant)) / 2


@LEARNERS
def test_every_kind_of_value_of_an_earlier_session_is_taken(sampler):
    made, _ = make(sampler)
    earlier = draw(made, 25)
    resumed, _ = make(sampler, drawn=25)
    for number, point in enumerate(earlier):
        tell(resumed, f"t{number}", json.loads(json.dumps(point)), float(number))
    tell(resumed, "failed", earlier[0], None)
    points = draw(resumed, 10, first=25)
    assert not {point[LR] for point in points} & {point[LR] for point in earlier}
    assert all(set(point) == set(SPACE) for point in points)


@SAMPLERS
def test_an_interrupted_trial_may_end_after_new_ones_were_drawn(sampler):
    earlier = draw(make(sampler)[0], 3)
    resumed, _ = make(sampler, drawn=3)
    tell(resumed, "t0", earlier[0], 1.0)
    first, second = draw(resumed, 2, first=3)
    tell(resumed, "t1", earlier[1], 2.0)  # drawn in the earlier session, ended in this one
    third = resumed.suggest("t5")
    tell(resumed, "t3", first, 3.0)
    tell(resumed, "t2", earlier[2], None)
    tell(resumed, "t4", second, None)
    tell(resumed, "t5", third, 4.0)
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
        tell(resumed, f"t{number}", point, float(number))
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
        require_packages(make("hyperopt")[1].spec.search)
    assert caught.value.message == "search.sampler hyperopt: hyperopt is not installed"
    assert "pip install 'distillation-orchestrator[hyperopt]'" in str(caught.value.hint)
    require_packages(make("optuna")[1].spec.search)


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch):
    for sampler, module, extra in (("cmaes", "cmaes", "cmaes"), ("bohb", "ConfigSpace", "bohb")):
        monkeypatch.setitem(sys.modules, module, None)
        search = make("optuna")[1].spec.search
        given = {"sampler": "bohb"} if sampler == "bohb" else {"sampler": OptunaSampler(algorithm="cmaes")}
        with pytest.raises(UsageError) as caught:
            require_packages(search.model_copy(update=given))
        assert module in caught.value.message
        assert f"pip install 'distillation-orchestrator[{extra}]'" in str(caught.value.hint)


@LEARNERS
def test_what_an_earlier_experiment_found_is_known_from_the_start(sampler):
    """As well as what the sampler finds out by itself."""
    source, _ = make("optuna" if sampler == "gp" else sampler, QUADRATIC, seed=5)
    earlier = [Earlier(point, score(point), 5) for point in run(source, 40)]
    informed, ignorant = [], []
    for seed in range(1 if sampler == "gp" else 3):
        informed += run(make(sampler, QUADRATIC, seed=seed, earlier=earlier)[0], 6)
        ignorant += run(make(sampler, QUADRATIC, seed=seed)[0], 6)
    assert statistics.median(map(score, informed)) > statistics.median(map(score, ignorant)) / 2
    known = {trial.params[LR] for trial in earlier}
    assert not known & {point[LR] for point in informed}


def test_a_later_generation_has_values_of_the_best_of_an_earlier_session():
    earlier = run(make("nsgaii", QUADRATIC)[0], 40)
    best = sorted(earlier, key=score)[-10:]
    resumed, _ = make("nsgaii", QUADRATIC, drawn=40)
    for number, point in enumerate(earlier):
        tell(resumed, f"t{number}", json.loads(json.dumps(point)), score(point))
    points = run(resumed, 10, first=40)
    assert sum(point[LR] in {known[LR] for known in best} for point in points) >= 3


@SAMPLERS
def test_points_that_it_did_not_draw_are_learnt_from(sampler):
    """As the points that a spec wants tried first."""
    made, _ = make(sampler, QUADRATIC)
    best = {LR: 0.15, "training.epochs": 30}
    tell(made, "first", best, 0.0)
    assert not {LR: 0.15}.items() <= made.suggest("second").items()
    assert [result.values[-1][1] for result in made._results.values()] == [0.0]


@SAMPLERS
def test_a_resumed_search_makes_its_searcher_anew_for_what_it_did_not_draw_and_not_for_each_draw(sampler, monkeypatch):
    earlier = draw(make(sampler, QUADRATIC)[0], 4)
    made, real = [], space.make_searcher
    monkeypatch.setattr(space, "make_searcher", lambda *a: made.append(1) or real(*a))
    resumed, _ = make(sampler, QUADRATIC, drawn=4)
    for number in (0, 1):
        tell(resumed, f"t{number}", earlier[number], score(earlier[number]))
    points = dict(zip(("t4", "t5"), draw(resumed, 2, first=4), strict=True))
    for number in (2, 3):  # under way in both sessions
        tell(resumed, f"t{number}", earlier[number], score(earlier[number]))
        points[f"t{number + 4}"] = resumed.suggest(f"t{number + 4}")
    told = len(made)
    assert told == (1 if sampler in ("optuna", "gp") else 3)
    for number in range(4, 12):
        tell(resumed, f"t{number}", points[f"t{number}"], score(points[f"t{number}"]))
        points[f"t{number + 4}"] = resumed.suggest(f"t{number + 4}")
    assert len(made) == told
    # A generation takes values over from an earlier one.
    assert sampler == "nsgaii" or len({point[LR] for point in [*earlier, *points.values()]}) == 4 + len(points)


def test_bohb_models_the_largest_number_of_epochs_that_has_enough_results():
    pytest.importorskip("hpbandster")
    made, _ = make("bohb", QUADRATIC)
    for number in range(12):
        point = made.suggest(f"t{number}")
        made.observe(f"t{number}", point, 3, score(point))
        if number % 2:
            made.observe(f"t{number}", point, 9, score(point))
        made.tell(f"t{number}", point, score(point))
    made.suggest("next")
    assert {budget: len(losses) for budget, losses in made._searcher.bohber.losses.items()} == {3: 12, 9: 6}
    assert max(made._searcher.bohber.kde_models) == 9
