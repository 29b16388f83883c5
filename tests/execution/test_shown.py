"""What runs show to everyone who may look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from orchestrator.execution.shown import contents, experiment_info, trial_info
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Record
from orchestrator.spec import load_spec
from orchestrator.store.home import Home

SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "search": {
        "sampler": "random",
        "num_samples": 2,
        "final_seeds": 2,
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.2}},
        "variants": {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}, "kd": {}},
    },
}
DTD: dict[str, Any] = {
    "set": {
        "distillation.temperature": {"method": "flsw", "base": 4, "beta": 10, "min": 1, "max": 12},
        "distillation.adjustment.rule": "probability_shift",
    },
    "space": {
        "distillation.temperature.min": {"type": "uniform", "low": 0.5, "high": 4},
        "distillation.temperature.max": {"type": "uniform", "low": 5, "high": 16},
        "student.norm": {"type": "choice", "values": ["batch", "group"]},
    },
}


def test_a_variable_that_a_spec_names_is_shown_by_its_name(tmp_path: Path) -> None:
    uri = "https://me:${env:PASSWORD}@mlflow.example"
    spec = load_spec(SPEC, {"tracking.uri": uri})
    run = experiment_info(spec, Home(tmp_path).own(spec), "key", "{}")
    assert yaml.safe_load(run.artifacts["spec.yaml"])["tracking"]["uri"] == uri


def test_a_run_is_named_after_its_trial_and_seed_and_coloured_by_its_variant(tmp_path: Path) -> None:
    plan = make_plan(load_spec(SPEC))
    (key,) = plan.teachers
    alone, kd = plan.arms
    assert kd.points is not None
    trials = [
        plan.search_trial(alone, 0, kd.points[0]),
        plan.search_trial(kd, 0, kd.points[0]),
        plan.search_trial(kd, 1, kd.points[1]),
        plan.final_trial(kd, 1, kd.points[1]),
        plan.teacher_trial(key),
    ]
    folder = Home(tmp_path).own(plan.spec)
    shown = [trial_info(plan, folder, Record(trial), "{}") for trial in trials]
    assert [run.key for run in shown] == [trial.id for trial in trials]
    assert [run.name for run in shown] == [
        "alone-000 seed 0",
        "kd-000 seed 0",
        "kd-001 seed 0",
        "kd-final-2 seed 2",
        f"teacher-{key[:8]} seed 0",
    ]
    first, one, two, last, taught = (run.tags["mlflow.runColor"] for run in shown)
    assert one == two == last
    assert len({first, one, taught}) == 3
    assert shown[1].note.startswith("`kd`: search trial 1 of 2: lr 0.")
    assert shown[3].note.startswith("`kd`: the best configuration on the fresh seed 2, tested: lr 0.")
    assert shown[4].note == "Trained once, for `kd`."


def test_what_there_is_to_see_follows_from_the_spec() -> None:
    plain = contents(load_spec(SPEC), "tiny-1")
    assert (plain.id, plain.metric, plain.mode) == ("tiny-1", "val/acc1", "max")
    assert plain.searched == plain.numeric == ["training.optimizer.lr"]
    assert (plain.contour, plain.has_temperatures, plain.has_adjustment, plain.has_finals) == (None, False, False, True)
    optimizers = {"type": "choice", "values": [{"method": "sgd"}, {"method": "adamw"}]}
    changes = {
        "search.variants.dtd": DTD,
        "search.final_seeds": 0,
        "search.space": {"training.optimizer": optimizers},
    }
    full = contents(load_spec(SPEC, changes), "tiny-1")
    # A whole section that is searched is no parameter.
    assert full.searched == ["distillation.temperature.min", "distillation.temperature.max", "student.norm"]
    assert full.numeric == full.searched[:2]
    assert full.contour == ("distillation.temperature.min", "distillation.temperature.max")
    assert (full.has_temperatures, full.has_adjustment, full.has_finals) == (True, True, False)
