"""Whole experiments whose trials have two workers, by the command and on a cluster of several nodes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator import load_spec, names
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.runner import run_experiment
from orchestrator.execution.watcher import Watcher
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.store.home import Home
from tests.execution.conftest import SPEC, Shell, below, descendants

quiet_settings()
ray = pytest.importorskip("ray")

RAYS = ("ray::IDLE", "DashboardAgent", "RuntimeEnvAgent", "AutoscalingCoordinator")
"""Processes that Ray keeps for what comes next, a node's agents, and actors of its own."""
TWO_WORKERS = {"resources.num_workers": 2, "search.final_seeds": 1, "student.norm": "group"}


def steps_of(shell: Shell, record: Record, workers: str = "2") -> list[int]:
    """The steps that MLflow has of a trial; it must have one run of it, with so many workers."""
    client = MlflowClient(f"sqlite:///{shell.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`orchestrator.key` = '{record.trial.id}'")
    assert run.data.params["resources.num_workers"] == workers
    return sorted(metric.step for metric in client.get_metric_history(run.info.run_id, names.TRAIN_LOSS))


def test_a_search_with_dead_workers_and_a_dead_trials_actor_is_complete_and_leaves_nothing(shell: Shell) -> None:
    """On a Ray that was there before, so that what is left is seen."""

    class Killer(Watcher):
        """Kills a worker in the first search trial, and the actor of the second one."""

        def __init__(self) -> None:
            self.killed: list[str] = []

        def on_epoch(self, record: Record) -> None:
            for index, process in ((0, "RayTrainWorker"), (1, "GangTrainable")):
                mine = record.trial.phase is Phase.SEARCH and record.trial.index == index
                if mine and record.epochs == 2 and process not in self.killed:
                    self.killed.append(process)
                    os.kill(descendants(process)[0], signal.SIGKILL)

    changes = {
        **TWO_WORKERS,
        "training.epochs": 12,
        "training.checkpoint_interval_s": 0,
        "search.variants": {"dtd": {}},
    }
    spec = load_spec({**SPEC, "resources": {}}, changes)
    watcher = Killer()
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        outcome = run_experiment(spec, Home(shell.home), watcher=watcher)
        assert watcher.killed == ["RayTrainWorker", "GangTrainable"]
        assert {record.status for record in outcome.records} == {Status.FINISHED}
        for record in outcome.records:
            assert steps_of(shell, record) == list(range(1, record.epochs + 1))
        ends = time.monotonic() + 20
        while left := [command for command in below("ray::").values() if not any(own in command for own in RAYS)]:
            assert time.monotonic() < ends, left
            time.sleep(0.1)
        assert {group["state"] for group in ray.util.placement_group_table().values()} == {"REMOVED"}
        assert ray.available_resources()["CPU"] == 2
    finally:
        ray.shutdown()


def test_trials_of_two_workers_wait_for_each_other_in_brackets(shell: Shell) -> None:
    changes = {
        **TWO_WORKERS,
        "training.epochs": 4,
        "search.num_samples": 4,
        "search.scheduler": {"method": "hyperband", "reduction_factor": 2},
        "search.variants": {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}},
    }
    done = shell.run("run", shell.spec(changes))
    assert done.returncode == 0, done.stdout
    *search, final = shell.records().values()
    assert (final.trial.phase, final.status, final.epochs) == (Phase.FINAL, Status.FINISHED, 4)
    ranked = sorted(search, key=lambda record: -record.epochs)
    assert [(r.epochs, len(r.rungs), r.status) for r in ranked] == [
        (4, 2, Status.FINISHED),
        (2, 2, Status.STOPPED),
        (1, 1, Status.STOPPED),
        (1, 1, Status.STOPPED),
    ]
    for passed in (0, 1):
        values = [r.rungs[passed] for r in ranked if len(r.rungs) > passed]
        assert min(values[: len(values) // 2]) >= max(values[len(values) // 2 :])
    for record in search:
        assert steps_of(shell, record) == list(range(1, record.epochs + 1))


def test_ctrl_c_keeps_the_last_epoch_and_ends_the_workers(shell: Shell) -> None:
    spec = shell.spec(
        {
            **TWO_WORKERS,
            "training.epochs": 100_000,
            "search.variants": {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}},
        }
    )
    process = shell.start("run", spec)
    shell.wait_until(lambda: any(shell.home.glob("experiments/*/trials/*/checkpoints/*.pt")), process, seconds=240)
    workers = descendants("RayTrainWorker", process.pid)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    (record,) = shell.records().values()
    assert record.status is Status.INTERRUPTED
    assert record.epochs == len(steps_of(shell, record))
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_the_loss_of_a_node_costs_an_elastic_trial_workers_and_no_more(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    # How soon the head sees that nothing answers there any more.
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    # How long the lost place is looked for before fewer workers go on.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "4")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        changes = {
            "resources": {"num_workers": [1, 2], "placement": "spread"},
            "training.epochs": 100,
            "training.checkpoint_interval_s": 0,
            "search": {"final_seeds": 0, "variants": {"dtd": {}}},
            "student.norm": "group",
        }
        spec = load_spec({k: v for k, v in SPEC.items() if k != "search"}, changes)
        lost = threading.Event()
        outcome: list[Any] = []

        class Watching(Watcher):
            def on_epoch(self, record: Record) -> None:
                if record.trial.phase is Phase.SEARCH and record.epochs >= 3:
                    lost.set()

        # The nodes can only be changed by the main thread.
        def work() -> None:
            outcome.append(run_experiment(spec, Home(shell.home), watcher=Watching()))

        running = threading.Thread(target=work)
        running.start()
        assert lost.wait(120)
        before = descendants("RayTrainWorker")
        assert len(before) == 2
        cluster.remove_node(nodes[1], allow_graceful=False)
        groups: set[tuple[int, ...]] = set()
        end = time.monotonic() + 200
        while running.is_alive() and time.monotonic() < end:
            groups.add(tuple(pid for pid in descendants("RayTrainWorker") if pid not in before))
            time.sleep(0.2)
        running.join(0)
        (result,) = outcome
        assert {len(group) for group in groups} == {0, 1}, "new workers are fewer"
        assert {record.status for record in result.records} == {Status.FINISHED}
        (student,) = (record for record in result.records if record.trial.phase is Phase.SEARCH)
        assert student.epochs == 100
        for record in result.records:
            assert steps_of(shell, record, "[1, 2]") == list(range(1, record.epochs + 1))
    finally:
        ray.shutdown()
        cluster.shutdown()
