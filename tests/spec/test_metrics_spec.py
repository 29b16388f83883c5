"""`search.metric` and `search.mode`: one or several, their hashes, and what is refused."""

from typing import Any

import pytest
from search_specs import BASE, LR, choice, refused, spec_with, uniform

from orchestrator.spec import ExperimentSpec, load_spec

SPACE = {"training.optimizer.lr": LR, "student.width": choice(0.5, 1.0)}
TWO = {"metric": ["val/acc1", "student.flops"], "space": SPACE}


def test_the_first_metric_is_what_all_else_goes_by() -> None:
    search = spec_with(**TWO).search
    assert search.first_metric == "val/acc1"
    assert search.objectives == {"val/acc1": 1, "student.flops": -1}
    assert search.mode == "max"
    search = spec_with(metric=["val/loss", "time/epoch_s"], mode="min").search
    assert search.objectives == {"val/loss": -1, "time/epoch_s": -1}


def test_what_says_the_same_is_one_spec() -> None:
    assert spec_with(**TWO).hash == spec_with(**TWO, mode=["max", "min"]).hash == spec_with(**TWO, mode="max").hash
    assert spec_with(metric=["val/acc1"]).hash == spec_with(metric="val/acc1").hash == spec_with().hash
    assert spec_with(metric=["val/acc1"], mode=["max"]).search.metric == "val/acc1"
    assert spec_with(**TWO).hash != spec_with(space=SPACE).hash
    spec = load_spec(BASE | {"search": {"sampler": "random", "metric": "val/loss", "mode": "min"}})
    assert spec.model_dump(exclude_defaults=True)["search"] == {
        "sampler": "random",
        "metric": "val/loss",
        "mode": "min",
    }
    for content in (spec_with(**TWO).model_dump(), spec_with(**TWO).model_dump(exclude_unset=True)):
        assert load_spec(content) == spec_with(**TWO)


@pytest.mark.parametrize(
    ("search", "path", "words"),
    [
        ({"metric": ["student.flops", "val/acc1"]}, "metric", "must begin with val/acc1 or val/loss"),
        ({"metric": []}, "metric", "must begin with"),
        ({"metric": ["val/acc1", "val/acc1"]}, "metric", "must differ"),
        ({"metric": ["val/acc1", "test/acc1"]}, "metric.1", "'time/epoch_s', 'student.parameters' or 'student.flops'"),
        ({"metric": "student.flops"}, "metric", "must be 'val/acc1' or 'val/loss'"),
        ({"mode": ["max", "max"]}, "mode", "must be [max, min]"),
        (
            {"metric": ["val/acc", "student.flops"], "mode": ["max", "min"]},
            "metric.0",
            "must be 'val/acc1', 'val/loss'",
        ),
        ({"metric": "val/acc", "mode": ["max"]}, "metric", "must be 'val/acc1' or 'val/loss'"),
        ({"metric": [], "mode": []}, "metric", "must begin with"),
        ({"mode": "min"}, "mode", "must be max for metric val/acc1"),
        ({"space": {"training.optimizer.lr": LR}}, "metric", "search a field of student"),
        ({"sampler": "hyperopt"}, "sampler", "use optuna with algorithm tpe, gp or nsgaii"),
        ({"sampler": "bohb", "scheduler": {"method": "bohb"}}, "sampler", "use optuna with algorithm"),
        ({"sampler": {"algorithm": "cmaes"}}, "sampler", "cannot weigh several metrics"),
        ({"sampler": "optuna", "warm_start": {"experiment": "a"}}, "warm_start", "takes one metric"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_use(search: dict[str, Any], path: str, words: str) -> None:
    space = {**SPACE, "distillation.kd_weight": uniform(0.1, 1)}
    problems = refused(**(TWO | {"space": space} | search))
    assert [problem.path for problem in problems] == [f"search.{path}"]
    assert words in str(problems[0])


def test_the_schema_takes_lists_of_both() -> None:
    properties = ExperimentSpec.model_json_schema()["$defs"]["SearchSpec"]["properties"]
    assert {"type": "array", "items": {"enum": ["max", "min"]}} in properties["mode"]["anyOf"]
    assert [form.get("type") for form in properties["metric"]["oneOf"]].count("array") == 1
