"""A gang of real Ray Train workers on one machine, driven as Tune drives its trials; real processes are killed."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import load_spec, names
from orchestrator.execution.cache import Cache
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.gang import terms
from orchestrator.execution.job import FAILURE, FATAL, INTERRUPTED, Job
from orchestrator.execution.session import Session
from orchestrator.search.trials import Phase
from orchestrator.spec.resources import ResourcesSpec
from orchestrator.store.trial import TrialFolder
from tests.execution.conftest import descendants

quiet_settings()
ray = pytest.importorskip("ray")

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits", "train_samples": 63, "validation_fraction": 0.1},
    "teacher": {"model": "resnet8", "width": 0.25, "norm": "group", "training": {"epochs": 2}},
    "student": {"model": "resnet8", "width": 0.125, "norm": "group"},
    "distillation": {
        "temperature": {"method": "flsw", "base": 4, "beta": 10, "min": 1, "max": 12},
        "adjustment": {"rule": "probability_shift"},
    },
    # The last batch has a single image, so that one worker has none of it.
    "training": {"epochs": 3, "batch_size": 31, "checkpoint_interval_s": 0},
}
ENDLESS = {"training.epochs": 100_000}


class Trials:
    """One trial's actor and the hub, as a session has them."""

    def __init__(self, hub: Any, gang: dict[str, Any], folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self._gang = gang
        self._actor: Any = None
        self.start_s = 0.0
        """Seconds until the first result of all."""

    def job(self, name: str, changes: dict[str, Any] | None = None, **fields: Any) -> Job:
        """A trial of the small spec; students have the teacher that `teach` made."""
        spec = load_spec(SPEC, changes)
        teacher = {"model": spec.teacher.model_dump(exclude_unset=True), "weights": str(self.folder / "teacher")}
        fields = {"phase": Phase.SEARCH, "teachers": [teacher], **fields}
        return Job(name, run=spec.run_content({}), split_seed=0, folder=str(self.folder / name), **fields)

    def teach(self) -> None:
        job = self.job("teacher-run", phase=Phase.TEACHER, teachers=[], distils=False)
        finish(Session(dataclasses.replace(job, weights=str(self.folder / "teacher")), Cache()))

    def start(self, job: Job) -> None:
        from orchestrator.execution.trial import GangTrainable

        config = {"job": job.to_json(), "threads": 1, "gang": self._gang}
        if self._actor is None:
            self._actor = ray.remote(GangTrainable).options(num_cpus=0).remote(config)
        else:
            assert ray.get(self._actor.reset.remote(config))

    def step(self) -> Any:
        """Train an epoch; returns what will be its result."""
        return self._actor.train.remote()

    def run(self, job: Job) -> list[dict[str, Any]]:
        begin = time.monotonic()
        self.start(job)
        results = [ray.get(self.step(), timeout=120)]
        self.start_s = self.start_s or time.monotonic() - begin
        while not results[-1]["done"]:
            results.append(ray.get(self.step(), timeout=120))
        return results

    def stop(self) -> None:
        """End the actor as Tune does."""
        ray.get(self._actor.stop.remote(), timeout=30)

    def workers(self) -> list[int]:
        return descendants("RayTrainWorker")

    def kill_actor(self) -> None:
        (process,) = descendants("GangTrainable")
        os.kill(process, signal.SIGKILL)
        self._actor = None


def finish(session: Session) -> list[dict[str, Any]]:
    results = []
    while not session.done:
        results.append(session.train_epoch())
    return results


def alike(results: list[dict[str, Any]]) -> list[Any]:
    """The metrics of each epoch but times, to what rounding may differ by."""
    timed = ("time/", "throughput/")
    kept = [{k: v for k, v in r.items() if names.is_metric(k) and not k.startswith(timed)} for r in results]
    return [pytest.approx(metrics, rel=1e-3, abs=1e-4) for metrics in kept]


def plain(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("time/", "throughput/")
    return [{k: v for k, v in r.items() if names.is_metric(k) and not k.startswith(timed)} for r in results]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    from orchestrator.execution.hub import serving_hub

    folder = tmp_path_factory.mktemp("gang")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        with serving_hub(2) as (name, hub):
            made = Trials(hub, terms(ResourcesSpec(num_workers=2), name, str(folder / "gangs")), folder)
            made.teach()
            yield made
            made.stop()
            wait_for(lambda: not made.workers(), seconds=10)
    finally:
        ray.shutdown()


def test_workers_train_as_one_process_does(trials: Trials) -> None:
    results = trials.run(trials.job("two", phase=Phase.FINAL))
    alone = finish(Session(trials.job("one", phase=Phase.FINAL), Cache()))
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert plain(results) == alike(alone)
    assert names.TEST_ACC1 in results[-1]
    assert names.TEMPERATURE_MEAN in results[0]


def test_the_next_trial_has_the_same_workers_and_is_quick(trials: Trials) -> None:
    trials.run(trials.job("before"))
    workers, begin = trials.workers(), time.monotonic()
    trials.run(trials.job("after"))
    assert time.monotonic() - begin < trials.start_s / 3
    assert trials.workers() == workers
    assert len(workers) == 2


def test_a_diverging_trial_fails_and_leaves_the_workers_to_the_next(trials: Trials) -> None:
    trials.run(trials.job("before-it"))
    workers = trials.workers()
    (result,) = trials.run(trials.job("diverging", {"training.optimizer.lr": 1e30}))
    assert "diverging" in result[FAILURE]
    assert "epoch 1, step" in result[FAILURE]
    assert result[FATAL] is False
    assert "DivergenceError" in TrialFolder(trials.folder / "diverging").error.read_text()
    assert trials.run(trials.job("after-it"))[-1]["epoch"] == 3
    assert trials.workers() == workers


def test_missing_data_is_told_by_all_workers_and_they_go_on(trials: Trials) -> None:
    trials.run(trials.job("before-none"))
    workers = trials.workers()
    (result,) = trials.run(trials.job("none", {"data": {"dataset": "fashion-mnist", "root": str(trials.folder)}}))
    assert str(trials.folder) in result[FAILURE]
    assert result[FATAL] is True
    assert trials.run(trials.job("after-none"))[-1]["epoch"] == 3
    assert trials.workers() == workers


def test_what_fails_while_a_run_is_built_fails_the_trial_alone(trials: Trials) -> None:
    layers = {"distillation.features": [{"method": "fitnet", "layers": ["nowhere"]}]}
    (result,) = trials.run(trials.job("misbuilt", layers))
    assert "distillation.features.0" in result[FAILURE]
    assert trials.run(trials.job("after-misbuilt"))[-1]["epoch"] == 3


def test_a_worker_killed_in_mid_epoch_costs_that_epoch(trials: Trials) -> None:
    slow = {"training.epochs": 2, "training.batch_size": 1}
    undisturbed = trials.run(trials.job("undisturbed", slow))
    job = trials.job("disturbed", slow)
    trials.start(job)
    results = [ray.get(trials.step(), timeout=120)]
    workers = trials.workers()
    second = trials.step()
    time.sleep(0.05)
    os.kill(workers[1], signal.SIGKILL)
    results.append(ray.get(second, timeout=120))
    assert not set(trials.workers()) & set(workers)
    assert [result["epoch"] for result in results] == [1, 2]
    assert plain(results) == alike(undisturbed)
    assert [entry["epoch"] for entry in TrialFolder(Path(job.folder)).metrics()] == [1, 2]


def places() -> set[str]:
    return {group["state"] for group in ray.util.placement_group_table().values()}


def test_a_killed_trials_actor_leaves_no_worker_and_no_place_taken(trials: Trials) -> None:
    def nothing_left() -> bool:
        return not trials.workers() and places() == {"REMOVED"} and ray.available_resources().get("CPU") == 2

    trials.start(trials.job("abandoned", ENDLESS))
    ray.get(trials.step(), timeout=120)
    trials.kill_actor()
    wait_for(nothing_left, 15)
    # The next one is killed when its workers have a place, and before they are there.
    trials.start(trials.job("abandoned", ENDLESS))
    trials.step()
    wait_for(lambda: "CREATED" in places())
    trials.kill_actor()
    wait_for(nothing_left, 15)
    trials.start(trials.job("abandoned", {"training.epochs": 100_000}))
    assert ray.get(trials.step(), timeout=120)["epoch"] > 1


def test_a_stop_ends_workers_in_mid_epoch_and_keeps_what_was_complete(trials: Trials) -> None:
    job = trials.job("stopped", {"training.epochs": 50, "training.batch_size": 1, "data.train_samples": 1290})
    trials.start(job)
    assert ray.get(trials.step(), timeout=120)["epoch"] == 1
    begin = time.monotonic()
    second = trials.step()
    trials.hub.stop.remote()
    assert INTERRUPTED in ray.get(second, timeout=30)
    assert time.monotonic() - begin < 15
    assert [entry["epoch"] for entry in TrialFolder(Path(job.folder)).metrics()] == [1]
    assert list(TrialFolder(Path(job.folder)).checkpoints.iterdir())
