"""`search.points`: what is tried first, in which variants, and what is refused."""

from typing import Any

import pytest
from search_specs import BASE, LR, TEMPERATURE, choice, refused, spec_with, uniform

from orchestrator.search.agenda import Agenda
from orchestrator.search.plan import make_plan
from orchestrator.spec import load_spec

RATE = "training.optimizer.lr"
SPACE = {RATE: LR, f"{TEMPERATURE}.max": uniform(6, 16)}
KD = {"kd": {"set": {TEMPERATURE: {"method": "constant"}}, "space": {f"{TEMPERATURE}.base": uniform(1, 8)}}}


def planned(**search: Any) -> dict[str, list[dict[str, Any]]]:
    return {arm.name: [dict(point) for point in arm.points] for arm in make_plan(spec_with(**search)).arms}


def test_points_come_first_and_the_rest_is_drawn_as_without_them() -> None:
    first = {RATE: 0.02, f"{TEMPERATURE}.max": 7.0}
    search = {"space": SPACE, "num_samples": 5}
    (with_points,) = planned(points=[first], **search).values()
    (without,) = planned(**search).values()
    assert with_points == [first, *without[1:]]


def test_a_value_that_a_point_leaves_out_is_drawn_alike_in_every_variant() -> None:
    found = planned(
        space={RATE: LR},
        points=[{RATE: 0.02}],
        variants={
            "a": {"space": {f"{TEMPERATURE}.max": uniform(6, 16)}},
            "b": {"space": {f"{TEMPERATURE}.max": uniform(6, 16)}},
        },
    )
    assert found["a"] == found["b"]
    assert found["a"][0][RATE] == 0.02
    assert 6 <= found["a"][0][f"{TEMPERATURE}.max"] <= 16


def test_variants_have_points_of_their_own_after_the_shared_ones() -> None:
    own = {f"{TEMPERATURE}.base": 3.0}
    variants = {"kd": KD["kd"] | {"points": [own]}, "fixed": {"set": {RATE: 0.1}}}
    plan = make_plan(spec_with(space={RATE: LR}, points=[{RATE: 0.02}, {RATE: 0.03}], variants=variants))
    kd, fixed = plan.arms
    assert [point[RATE] for point in kd.first[:2]] == [0.02, 0.03]
    assert kd.first[2][f"{TEMPERATURE}.base"] == 3.0
    assert len(kd.first) == 3
    assert fixed.first == ()
    assert fixed.points == ({},)


class Drawing:
    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"drawn": trial_id}

    def tell(self, trial_id: str, params: Any, value: float | None) -> None: ...


def test_an_adaptive_sampler_is_asked_after_the_points_also_in_a_later_session() -> None:
    first = [{RATE: 0.02}, {RATE: 0.03}]
    spec = spec_with(sampler="optuna", space={RATE: LR}, points=first, num_samples=4)
    plan = make_plan(spec)
    records: dict[str, Any] = {}
    params = []
    for _ in range(4):
        # Every trial in a session of its own, that ends before the trial does.
        agenda = Agenda(plan, lambda arm, drawn: Drawing(), records, plan.teachers)
        agenda._resume.clear()
        trial = agenda.next()
        params.append(dict(trial.params))
        records = agenda.records
    assert params == [*first, {"drawn": "default-002"}, {"drawn": "default-003"}]


def test_points_change_the_hash_and_their_absence_does_not() -> None:
    plain = spec_with(space={RATE: LR})
    assert spec_with(space={RATE: LR}, points=[]).hash == plain.hash
    assert spec_with(space={RATE: LR}, points=[{RATE: 0.02}]).hash != plain.hash


@pytest.mark.parametrize(
    ("search", "path", "words"),
    [
        ({"points": [{RATE: 0.5}]}, f"points.0.{RATE}", "is not in the domain of variant 'default'"),
        ({"points": [{RATE: 0.05}, {RATE: "0.05"}]}, f"points.1.{RATE}", "is not in the domain"),
        ({"points": [{"training.optimizer.rl": 0.1}]}, "points.0.training.optimizer.rl", "did you mean"),
        ({"points": [{}]}, "points.0", "names no value"),
        ({"points": [{RATE: 0.05}] * 3, "num_samples": 2}, "points", "3 points to try first, and search.num_samples 2"),
        ({"sampler": "grid", "space": {RATE: choice(0.1)}, "points": [{RATE: 0.1}]}, "points", "use sampler random"),
        (
            {"variants": {"a": {"points": [{f"{TEMPERATURE}.base": 4.0}]}}},
            f"variants.a.points.0.{TEMPERATURE}.base",
            "is not searched",
        ),
        (
            {
                "space": {f"{TEMPERATURE}.min": uniform(1, 6), f"{TEMPERATURE}.base": uniform(4, 8)},
                "constraints": [f"{TEMPERATURE}.min <= {TEMPERATURE}.base"],
                "points": [{f"{TEMPERATURE}.min": 5.5, f"{TEMPERATURE}.base": 4.5}],
            },
            f"points.0.{TEMPERATURE}.min",
            "does not keep search.constraints",
        ),
    ],
)
def test_points_that_cannot_be_tried_are_refused(search: dict[str, Any], path: str, words: str) -> None:
    problems = refused(**({"space": {RATE: LR}} | search))
    assert [problem.path for problem in problems] == [f"search.{path}"]
    assert words in str(problems[0])


def test_whole_numbers_steps_and_choices_are_checked() -> None:
    space = {
        "training.epochs": {"type": "qrandint", "low": 4, "high": 12, "q": 4},
        "distillation.ce_weight": {"type": "quniform", "low": 0.1, "high": 0.5, "q": 0.1},
        "training.gradient_clip": choice(None, 1.0),
    }
    good = {"training.epochs": 8, "distillation.ce_weight": 0.3, "training.gradient_clip": None}
    spec_with(space=space, points=[good])
    for path, value in (("training.epochs", 6), ("distillation.ce_weight", 0.25), ("training.gradient_clip", 2.0)):
        (problem,) = refused(space=space, points=[good | {path: value}])
        assert problem.path == f"search.points.0.{path}"


def test_a_whole_number_with_steps_must_have_its_ends_on_them() -> None:
    (problem,) = refused(space={"training.epochs": {"type": "qrandint", "low": 4, "high": 10, "q": 4}})
    assert (problem.path, problem.rule) == ("search.space.training.epochs.high", "must be a multiple of q (4)")
    with pytest.raises(Exception, match="warm_start"):
        load_spec(BASE | {"search": {"warm_start": {}}})
