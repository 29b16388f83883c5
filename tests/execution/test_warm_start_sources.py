"""Where a warm start's trials come from: an experiment of the home folder, or MLflow; and that they are kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator import load_spec, names
from orchestrator.errors import UsageError
from orchestrator.execution.warm_start import in_words, warm_start
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Record, Status, created, ended
from orchestrator.spec.variants import flatten
from orchestrator.store.home import Home
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.mlflow import MLflowTracker

RATE = "training.optimizer.lr"
SPEC: dict[str, Any] = {
    "name": "earlier",
    "data": {"dataset": "digits"},
    "student": {"model": "resnet8"},
    "distillation": {"kd_weight": 0.0, "ce_weight": 1.0},
    "training": {"epochs": 4},
    "search": {
        "num_samples": 4,
        "space": {
            RATE: {"type": "loguniform", "low": 0.001, "high": 1.0},
            "training.batch_size": {"type": "choice", "values": [16, 32]},
        },
    },
}
POINTS = [
    {RATE: 0.005, "training.batch_size": 16},
    {RATE: 0.02, "training.batch_size": 32},
    {RATE: 0.1, "training.batch_size": 16},
]


def later(source: dict[str, Any], **changes: Any) -> Any:
    space = {
        RATE: {"type": "loguniform", "low": 0.01, "high": 1.0},
        "training.batch_size": {"type": "randint", "low": 8, "high": 64},
    }
    return load_spec(SPEC, {"name": "later", "search.space": space, "search.warm_start": source, **changes})


def records() -> list[Record]:
    plan = make_plan(load_spec(SPEC))
    trials = [plan.search_trial(plan.arms[0], n, point) for n, point in enumerate(POINTS)]
    return [Record(trial, Status.FINISHED, {"val/acc1": 50.0 + n}, 4) for n, trial in enumerate(trials)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With an experiment whose trials have ended."""
    home = Home(tmp_path / "home")
    home.create()
    spec = load_spec(SPEC)
    folder = home.experiment(spec)
    with folder.opened(spec):
        for record in records():
            folder.journal.append(created(record.trial))
            folder.journal.append(ended(record))
    return home


def told(home: Home, spec: Any, uri: str = "") -> Any:
    folder = home.experiment(spec)
    with folder.opened(spec):
        return warm_start(make_plan(spec), home, folder, uri)


EXPECTED = [(POINTS[1], 51.0, 4), (POINTS[2], 52.0, 4)]


def as_tuples(found: Any) -> list[Any]:
    return [(dict(trial.params), trial.value, trial.epochs) for trial in found["default"].trials]


def test_an_experiment_is_read_once_and_then_the_journal(home: Home) -> None:
    spec = later({"experiment": "earlier"})
    found = told(home, spec)
    assert as_tuples(found) == EXPECTED
    assert in_words(found) == "warm start: default learns from 2 trials (1 left out)"
    shutil.rmtree(home.find("earlier").path)
    assert told(home, spec) == found


def test_an_mlflow_experiment_is_read_once_and_then_the_journal(home: Home, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    tracker = MLflowTracker(uri, "runs", tmp_path / "artifacts")
    tracker.open(RunInfo("key", "earlier-12345678"))
    plan = make_plan(load_spec(SPEC))
    for record in records():
        tags = {"phase": "search", "variant": "default", "experiment": "earlier-12345678"}
        run = RunInfo(
            record.trial.id,
            record.trial.id,
            params=flatten(plan.run_of(record.trial).model_dump()),
            tags={f"{names.TAG_PREFIX}{name}": value for name, value in tags.items()},
        )
        tracker.start(run)
        for epoch in (3, 4):
            value = record.metrics["val/acc1"] - (4 - epoch)
            tracker.log(run.key, {"epoch": epoch, "val/acc1": value, names.EPOCH_TIME: 1.0})
        tracker.end(run.key, Status.FINISHED)
    # The values of a population's trial may have changed.
    tracker.start(RunInfo("changing", "changing", params=run.params, tags=run.tags))
    tracker.log("changing", {"epoch": 1, "val/acc1": 99.0, names.value_metric(RATE): 0.1, names.EPOCH_TIME: 1.0})
    tracker.end("changing", Status.FINISHED)
    assert tracker.close(Status.FINISHED) == []
    spec = later({"mlflow": "runs", "uri": uri})
    found = told(home, spec)
    assert as_tuples(found) == EXPECTED
    assert told(home, later({"mlflow": "runs"}), uri) == found
    (tmp_path / "other.db").unlink()
    assert told(home, spec) == found
    with pytest.raises(UsageError, match="there is no MLflow experiment 'others'"):
        told(home, later({"mlflow": "others"}), f"sqlite:///{tmp_path / 'none.db'}")


def test_what_is_not_there_or_of_no_use_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="there is no experiment 'earlyer'"):
        told(home, later({"experiment": "earlyer"}))
    nothing = {RATE: {"type": "uniform", "low": 2, "high": 3}}
    with pytest.raises(UsageError, match="3 lie outside the domains"):
        told(home, later({"experiment": "earlier"}, **{"search.space": nothing}))
    spec = later({"experiment": "later"})
    home.experiment(spec).path.mkdir(parents=True)
    home.experiment(spec).journal.append({"event": "experiment"})
    with pytest.raises(UsageError, match="is this experiment itself"):
        told(home, spec)


def test_a_warm_start_needs_a_sampler_that_learns() -> None:
    with pytest.raises(Exception, match="learns nothing from results: use optuna"):
        later({"experiment": "earlier"}, **{"search.sampler": "random"})
    with pytest.raises(Exception, match="give either experiment or mlflow"):
        later({"experiment": "a", "mlflow": "b"})
    with pytest.raises(Exception, match="is where an experiment under mlflow is"):
        later({"experiment": "a", "uri": "https://mlflow.example"})
