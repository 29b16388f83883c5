"""The images that go into runs, and the state of the machine, as MLflow has them."""

import json
import time

import mlflow.data
import pynvml
import pytest
from tracking_stores import EXPERIMENT, epoch, trial_info, wait_until

from orchestrator.search.trials import Status
from orchestrator.tracking import mlflow as tracking
from orchestrator.tracking.base import DataSet
from orchestrator.tracking.memory import MemoryTracker
from orchestrator.tracking.mlflow_system import SystemMetrics

TRAIN = DataSet("digits", "training", "0123456789abcdef", [100, 1, 8, 8], 10)
VAL = DataSet("digits", "validation", "fedcba9876543210", [20, 1, 8, 8], 10, root="/data/digits")


def inputs(run):
    return {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}


def test_a_trial_has_its_images_and_the_experiment_all_of_them(mlflow_store, tracker):
    tracker.start(trial_info("a"))
    tracker.start(trial_info("b"))
    for data in ([TRAIN], [TRAIN]):
        tracker.describe("a", {"precision": "float32"}, data)
    tracker.describe("b", {}, [TRAIN, VAL])
    assert tracker.close(Status.FINISHED) == []
    found = {key: inputs(mlflow_store.run(key)) for key in ("a", "b", EXPERIMENT.key)}
    assert {key: set(parts) for key, parts in found.items()} == {
        "a": {"training"},
        "b": {"training", "validation"},
        EXPERIMENT.key: {"training", "validation"},
    }
    train = found["a"]["training"]
    assert (train.name, train.digest) == ("digits", TRAIN.digest)
    assert json.loads(train.profile) == {"num_rows": 100, "num_classes": 10}
    (pixels,) = json.loads(json.loads(train.schema)["mlflow_tensorspec"]["features"])
    assert pixels["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 1, 8, 8]}


def test_mlflow_reads_where_images_come_from(mlflow_store, tracker):
    tracker.start(trial_info("b"))
    tracker.describe("b", {}, [TRAIN, VAL])
    tracker.close(Status.FINISHED)
    parts = inputs(mlflow_store.run("b"))
    assert mlflow.data.get_source(parts["validation"]).uri == "/data/digits"
    assert "digits" in str(mlflow.data.get_source(parts["training"]).to_dict()["tags"])


def test_the_tracker_in_memory_keeps_images():
    tracker = MemoryTracker()
    tracker.open(EXPERIMENT)
    tracker.start(trial_info("a"))
    tracker.describe("a", {}, [TRAIN])
    assert tracker.runs["a"].data == [TRAIN]


def test_the_machines_state_is_with_the_experiment_and_goes_on_where_it_was(mlflow_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    monkeypatch.setattr(tracking, "SEND_EVERY_S", 0.02)
    name = "system/cpu_utilization_percentage"
    steps = []
    for _ in range(2):
        tracker = mlflow_store.tracker()
        tracker.open(EXPERIMENT)
        before = len(steps)
        wait_until(lambda tracker=tracker, before=before: len(seen(mlflow_store, tracker, name)) >= before + 2)
        assert tracker.close(Status.FINISHED) == []
        steps = seen(mlflow_store, tracker, name)
    assert steps == list(range(len(steps)))
    assert "system/system_memory_usage_megabytes" in mlflow_store.run(EXPERIMENT.key).data.metrics


def test_gpus_are_among_the_machines_metrics(mlflow_store, tracker, monkeypatch):
    class Asked:
        used, total, gpu = 20e9, 80e9, 63

    # As the driver's library answers where there is one; without a GPU it cannot be loaded.
    for call, answer in {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": 0,
        "nvmlDeviceGetMemoryInfo": Asked,
        "nvmlDeviceGetUtilizationRates": Asked,
        "nvmlDeviceGetPowerUsage": 350_000,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    }.items():
        monkeypatch.setattr(pynvml, call, lambda *_, answer=answer: answer)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    tracker.close(Status.FINISHED)
    system = SystemMetrics(tracker.parent_id, mlflow_store.uri, mlflow_store.client)
    time.sleep(0.02)
    metrics = system.due()
    gpu = {metric.key: metric.value for metric in metrics if "gpu" in metric.key}
    assert gpu["system/gpu_0_utilization_percentage"] == 63
    assert gpu["system/gpu_0_memory_usage_percentage"] == 25
    assert gpu["system/gpu_0_power_usage_watts"] == 350


def seen(store, tracker, name):
    return sorted(metric.step for metric in store.client.get_metric_history(tracker.parent_id, name))


@pytest.mark.parametrize(("interval", "enabled"), [("3600", None), ("0.01", "false")])
def test_short_experiments_and_those_that_want_none_have_none(mlflow_store, monkeypatch, interval, enabled):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", interval)
    if enabled:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", enabled)
    monkeypatch.setattr(tracking, "SEND_EVERY_S", 0.02)
    tracker = mlflow_store.tracker()
    tracker.open(EXPERIMENT)
    tracker.start(trial_info("a"))
    tracker.log("a", epoch(1))
    wait_until(lambda: len(mlflow_store.runs()) == 2 and mlflow_store.run("a").data.metrics)
    tracker.close(Status.FINISHED)
    assert mlflow_store.run(EXPERIMENT.key).data.metrics == {}
