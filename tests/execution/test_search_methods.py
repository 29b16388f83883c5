"""One short experiment for every sampler and scheduler, all on one local Ray; and a kill in the middle of brackets."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from safetensors.torch import load_file

from orchestrator import load_spec
from orchestrator.analysis.results import Results
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.runner import run_experiment
from orchestrator.execution.watcher import Watcher
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.experiment import assign
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.tracking.memory import MemoryTracker
from tests.execution.conftest import Shell

LR = "training.optimizer.lr"
SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits", "train_samples": 60, "validation_fraction": 0.1},
    "student": {"model": "resnet8", "width": 0.125},
    "distillation": {"kd_weight": 0.0, "ce_weight": 1.0},
    "training": {"epochs": 1, "batch_size": 30, "schedule": {"method": "constant"}},
    "search": {
        "num_samples": 4,
        "final_seeds": 0,
        "space": {
            LR: {"type": "loguniform", "low": 0.001, "high": 0.1},
            "training.optimizer.weight_decay": {"type": "uniform", "low": 0.0, "high": 0.01},
            "training.batch_size": {"type": "qrandint", "low": 20, "high": 40, "q": 10},
            "student.norm": {"type": "choice", "values": ["batch", "group"]},
        },
    },
}
BRACKETS = {"training.epochs": 4, "search.num_samples": 9}
HYPERBAND = BRACKETS | {"search.sampler": "random", "search.scheduler": {"method": "hyperband", "reduction_factor": 2}}


NUMBERS = {
    LR: {"type": "loguniform", "low": 0.001, "high": 0.1},
    "training.optimizer.momentum": {"type": "uniform", "low": 0.5, "high": 0.95},
}
POPULATION = {
    "training.epochs": 6,
    "search.num_samples": 4,
    "search.final_seeds": 1,
    "search.sampler": "random",
    "search.space": NUMBERS,
}


class Notes(Watcher):
    def __init__(self) -> None:
        self.told: list[str] = []

    def on_note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    quiet_settings()
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield Home(tmp_path_factory.mktemp("home"))
    ray.shutdown()


def run(home: Home, name: str, watcher: Watcher | None = None, at_once: int = 1, **changes: Any) -> dict[str, Record]:
    spec = load_spec(assign(SPEC, {"name": name, "resources.max_concurrent_trials": at_once, **changes}))
    run_experiment(spec, home, tracker=MemoryTracker(), watcher=watcher)
    records = home.find(name).records()
    for record in records.values():
        if record.trial.phase is Phase.SEARCH:
            assert all(spec.search.space[path].takes(value) for path, value in record.trial.params.items())
    return records


def statuses(records: dict[str, Record]) -> Counter[Status]:
    return Counter(record.status for record in records.values())


@pytest.mark.parametrize("algorithm", ["gp", "cmaes", "nsgaii"])
def test_optunas_algorithms(home: Home, algorithm: str) -> None:
    first = {"population_size": 2} if algorithm == "nsgaii" else {"startup_trials": 2}
    records = run(home, algorithm, **{"search.sampler": {"algorithm": algorithm, **first}})
    assert statuses(records) == {Status.FINISHED: 4}
    assert len({json.dumps(dict(record.trial.params)) for record in records.values()}) >= 3


def test_hyperopt(home: Home) -> None:
    records = run(home, "hyperopt", **{"search.sampler": {"method": "hyperopt", "startup_trials": 2}})
    assert statuses(records) == {Status.FINISHED: 4}


def test_points_and_a_warm_start_of_an_earlier_experiment(home: Home) -> None:
    earlier = run(home, "earlier", **{"search.sampler": "optuna"})
    assert statuses(earlier) == {Status.FINISHED: 4}
    point = {LR: 0.02, "student.norm": "group"}
    notes = Notes()
    changes = {"search.warm_start": {"experiment": "earlier"}, "search.points": [point], "search.num_samples": 2}
    later = run(home, "later", notes, **changes)
    assert later["default-000"].trial.params.items() >= point.items()
    assert notes.told == ["warm start: default learns from 4 trials"]
    (event,) = [e for e in home.find("later").journal.read() if e["event"] == "warm_start"]
    told = event["variants"]["default"]["trials"]
    assert [trial["params"] for trial in told] == [dict(record.trial.params) for record in earlier.values()]
    assert [trial["value"] for trial in told] == [record.metrics["val/acc1"] for record in earlier.values()]


def test_several_metrics_and_final_runs_of_their_front(home: Home) -> None:
    changes = {
        "search.metric": ["val/acc1", "student.flops"],
        "search.sampler": {"algorithm": "nsgaii", "population_size": 2},
        "search.space": {LR: SPEC["search"]["space"][LR], "student.width": {"type": "choice", "values": [0.125, 0.25]}},
        "search.points": [{"student.width": 0.125}, {"student.width": 0.25}],
        "search.final_seeds": 1,
        "search.final_configs": 2,
    }
    records = run(home, "several", **changes)
    assert statuses(records) == {Status.FINISHED: 6}
    assert len({record.described["student.flops"] for record in records.values()}) == 2
    first, second = (record for record in records.values() if record.trial.phase is Phase.FINAL)
    assert first.trial.id == "default-final-1"
    repeated = records[str(second.trial.repeats)].trial
    assert second.trial.id == f"default-final-1@{repeated.index:03d}"
    assert (second.trial.params, second.trial.seed) == (repeated.params, first.trial.seed)
    found = Results(home.find("several").spec(), records)
    front = found.front()
    assert front is not None
    assert [objective.name for objective in front.objectives] == ["test/acc1", "student.flops"]
    assert [placed.candidate.name for placed in front.placed] == ["default", repeated.id]
    assert len(found.variants[0].finals) == 1


@pytest.mark.parametrize("scheduler", [{"method": "asha"}, {"method": "median", "min_trials": 1}])
def test_schedulers_that_stop_trials(home: Home, scheduler: dict[str, Any]) -> None:
    changes = {"search.scheduler": {**scheduler, "grace_period": 2}, "training.epochs": 6, "search.num_samples": 5}
    records = run(home, scheduler["method"], **changes)
    assert statuses(records).keys() <= {Status.FINISHED, Status.STOPPED}
    assert all(record.epochs == 6 for record in records.values() if record.status is Status.FINISHED)
    assert all(2 <= record.epochs <= 6 for record in records.values())


def check_brackets(records: dict[str, Record]) -> None:
    found = list(records.values())
    assert [len(record.rungs) for record in found[:4]].count(2) == 2
    assert [record.epochs for record in found[:4]].count(4) == 1
    assert [record.epochs for record in found[4:7]].count(4) == 1
    assert [record.epochs for record in found[7:]] == [4, 4]
    assert statuses(records) == {Status.FINISHED: 4, Status.STOPPED: 5}


def test_bohb(home: Home) -> None:
    pytest.importorskip("hpbandster")
    scheduler = {"method": "bohb", "reduction_factor": 2}
    options = {"method": "bohb", "startup_trials": 2, "random_fraction": 0.0}
    check_brackets(run(home, "bohb", **BRACKETS, **{"search.sampler": options, "search.scheduler": scheduler}))


def of_trials(folder: ExperimentFolder) -> dict[str, Any]:
    """What the trials of an experiment came to, but for times."""
    timed = ("time/epoch_s", "throughput/samples_per_s")
    return {
        id: (r.status, r.epochs, r.rungs, dict(r.trial.params), {k: v for k, v in r.metrics.items() if k not in timed})
        for id, r in folder.records().items()
    }


def weights(path: Path) -> dict[str, bytes]:
    """Tensors of a file; the metadata beside them have no order."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def test_hyperband_that_is_killed_ends_as_one_that_is_not(home: Home, shell: Shell) -> None:
    records = run(home, "hyperband", at_once=2, **HYPERBAND)
    check_brackets(records)
    whole = home.find("hyperband")
    assert not any(whole.trial(id).checkpoints.exists() for id in records)
    path = shell.folder / "spec.yaml"
    path.write_text((whole.path / "spec.yaml").read_text())
    process = shell.start("run", path)
    folder = ExperimentFolder(shell.home / "experiments" / whole.id)
    shell.wait_until(lambda: any(r.status is Status.PAUSED for r in folder.records().values()), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = Path(folder.journal.path).read_text()
    assert '"paused"' in before
    done = shell.run("run", path)
    assert done.returncode == 0, done.stdout
    assert of_trials(folder) == of_trials(whole)


@pytest.mark.parametrize("method", ["pbt", "pb2"])
def test_a_population_and_the_replay_of_its_winner(home: Home, method: str) -> None:
    tracker = MemoryTracker()
    spec = load_spec(
        assign(SPEC, {"name": method, **POPULATION, "search.scheduler": {"method": method, "perturbation_interval": 2}})
    )
    found = run_experiment(spec, home, tracker=tracker)
    folder = home.find(method)
    records = folder.records()
    assert statuses(records) == {Status.FINISHED: 5}
    members = [r for r in records.values() if r.trial.phase is Phase.SEARCH]
    events = [event for event in folder.journal.read() if event["event"] == "changed"]
    assert [event["epoch"] for event in events] == [2, 4]
    changing = [r for r in members if r.changes]
    for record in changing:
        epochs = folder.trial(record.trial.id).metrics()
        assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4, 5, 6]
        for change in record.changes:
            after = epochs[change.epoch]
            assert after[f"params/{LR}"] == pytest.approx(change.params[LR])
            assert after["optimizer/lr"] == pytest.approx(change.params[LR])
        run = tracker.runs[record.trial.id]
        assert run.info.params[LR] == record.trial.params[LR]
        assert [e[f"params/{LR}"] for e in run.epochs] == [e[f"params/{LR}"] for e in epochs]
        assert len(json.loads(run.info.artifacts["values.json"])) == 1 + len(record.changes)
    (variant,) = found.variants
    final = records["default-final-1"]
    assert (final.trial.params, final.trial.changes) == (variant.first, variant.changes)
    rates = [epoch[f"params/{LR}"] for epoch in folder.trial(final.trial.id).metrics()]
    expected = [variant.first[LR]] * 6
    for change in variant.changes:
        expected[change.epoch :] = [change.params[LR]] * (6 - change.epoch)
    assert rates == pytest.approx(expected)
    assert "test/acc1" in final.metrics
    assert not any(folder.trial(id).checkpoints.exists() for id in records)


@pytest.mark.parametrize("keep", ["stored", "live"])
def test_a_population_that_learns_from_a_teacher(home: Home, keep: str) -> None:
    """Its loss changes in mid-training, its teacher's answers are where they were."""
    flsw = {"method": "flsw", "base": 4, "beta": 10, "min": 1, "max": 12}
    changes = {
        "teacher": {"model": "resnet8", "width": 0.25, "training": {"epochs": 1}},
        "data.views": 2,
        "distillation": {"kd_weight": 0.9, "temperature": flsw, "teacher_logits": {"keep": keep}},
        "training.epochs": 4,
        "search.num_samples": 3,
        "search.final_seeds": 1,
        "search.sampler": "random",
        "search.space": {"distillation.temperature.max": {"type": "uniform", "low": 5, "high": 16}},
        "search.scheduler": {"method": "pbt", "perturbation_interval": 2, "resample_probability": 1},
    }
    records = run(home, f"taught-{keep}", **changes)
    assert set(statuses(records)) == {Status.FINISHED}
    (changed,) = (record for record in records.values() if record.changes)
    folder = home.find(f"taught-{keep}").trial(changed.trial.id)
    assert ("teacher_logits/mean_error" in folder.metrics()[-1]) == (keep == "stored")
    head, *rows = (folder.artifacts / "temperatures.csv").read_text().splitlines()
    assert head.startswith("epoch,min,max,")
    ends = [float(row.split(",")[2]) for row in rows]
    old, new = (values["distillation.temperature.max"] for values in (changed.trial.params, changed.params))
    assert ends == [old, old, new, new]


def test_a_population_that_is_killed_ends_as_one_that_is_not(home: Home, shell: Shell) -> None:
    changes = POPULATION | {"training.epochs": 4, "search.scheduler": {"method": "pbt", "perturbation_interval": 1}}
    run(home, "killed-pbt", at_once=2, **changes)
    whole = home.find("killed-pbt")
    path = shell.folder / "spec.yaml"
    path.write_text((whole.path / "spec.yaml").read_text())
    process = shell.start("run", path)
    folder = ExperimentFolder(shell.home / "experiments" / whole.id)
    shell.wait_until(lambda: any(r.changes for r in folder.records().values()), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = shell.run("run", path)
    assert done.returncode == 0, done.stdout
    assert of_trials(folder) == of_trials(whole)
    assert {id: r.changes for id, r in folder.records().items()} == {id: r.changes for id, r in whole.records().items()}
    final = folder.trial("default-final-1").weights
    assert weights(final) == weights(whole.trial("default-final-1").weights)
