"""Runs in MLflow's sqlite store, and what becomes of them when calls fail."""

import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from tracking_stores import EXPERIMENT, MLflowStore, away, epoch, epochs, trial_info, wait_until

from orchestrator import names
from orchestrator.errors import TrackingError
from orchestrator.search.trials import Status
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.mlflow import MAX_METRICS, REASON_TAG
from orchestrator.tracking.mlflow_store import STATUS_TAG, close_orphans


def test_children_are_nested_below_the_parent(mlflow_store, tracker):
    for key in ("a", "b"):
        tracker.start(trial_info(key))
        tracker.end(key, Status.FINISHED)
    tracker.close(Status.FINISHED)
    parent = mlflow_store.run(EXPERIMENT.key)
    assert names.PARENT_RUN_TAG not in parent.data.tags
    for key in ("a", "b"):
        assert mlflow_store.run(key).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert len(mlflow_store.runs()) == 3


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (Status.FINISHED, "FINISHED"),
        (Status.STOPPED, "FINISHED"),
        (Status.FAILED, "FAILED"),
        (Status.INTERRUPTED, "KILLED"),
    ],
)
def test_outcomes_are_shown_in_mlflows_terms(mlflow_store, tracker, status, shown):
    tracker.start(trial_info("a"))
    tracker.end("a", status, "a reason")
    tracker.close(status)
    trial, parent = mlflow_store.run("a"), mlflow_store.run(EXPERIMENT.key)
    assert (trial.info.status, trial.data.tags["orchestrator.status"]) == (shown, status)
    assert trial.data.tags["orchestrator.reason"] == "a reason"
    assert trial.info.end_time >= trial.info.start_time
    assert (parent.info.status, parent.data.tags["orchestrator.status"]) == (shown, status)


def test_a_run_is_shown_as_running_until_it_ends(mlflow_store, tracker):
    tracker.start(trial_info("a"))
    wait_until(lambda: len(mlflow_store.runs()) == 2)
    for key in ("a", EXPERIMENT.key):
        run = mlflow_store.run(key)
        assert (run.info.status, run.data.tags[STATUS_TAG]) == ("RUNNING", "running")
    tracker.end("a", Status.INTERRUPTED)
    tracker.close(Status.INTERRUPTED)

    second = mlflow_store.tracker()
    second.open(EXPERIMENT)
    parent = mlflow_store.run(EXPERIMENT.key)
    assert (parent.info.status, parent.data.tags[STATUS_TAG]) == ("RUNNING", "running")
    second.start(trial_info("a"))
    wait_until(lambda: mlflow_store.run("a").data.tags[STATUS_TAG] == "running")
    assert mlflow_store.run("a").info.status == "RUNNING"
    second.close(Status.FINISHED)


def test_metrics_stand_at_their_epoch(mlflow_store, tracker):
    tracker.start(trial_info("a"))
    for entry in epochs(1, 3):
        tracker.log("a", entry)
    tracker.close(Status.FINISHED)
    history = mlflow_store.client.get_metric_history(mlflow_store.run("a").info.run_id, names.VAL_ACC1)
    assert [(metric.step, metric.value) for metric in history] == [(1, 51), (2, 52), (3, 53)]
    assert "epoch" not in mlflow_store.run("a").data.metrics


def test_many_and_long_parameters_fit(mlflow_store, tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    many = {f"section.field_{number}": number for number in range(250)}
    tracker.start(RunInfo("a", "a", params={**many, "data.long": "x" * 7000, "data.root": None}))
    assert tracker.close(Status.FINISHED) == []
    params = mlflow_store.run("a").data.params
    assert params == {
        **{name: str(value) for name, value in many.items()},
        "data.long": "x" * 6000,
        "data.root": "None",
    }


def test_long_histories_go_in_batches_of_whole_epochs(mlflow_store, wrap_calls):
    batches = []
    wrap_calls(after=lambda name, *args, **kwargs: batches.append(kwargs.get("metrics")))
    tracker = mlflow_store.tracker()
    tracker.open(EXPERIMENT)
    wide = {f"more/metric_{number}": float(number) for number in range(30)}
    history = [epoch(number, **wide) for number in range(1, 101)]
    tracker.start(trial_info("a"), history)
    assert tracker.close(Status.FINISHED) == []
    sent = [batch for batch in batches if batch]
    assert max(len(batch) for batch in sent) <= MAX_METRICS
    assert len(sent) < len(history) / 5
    steps = Counter(step for batch in sent for step in {metric.step for metric in batch})
    assert set(steps) == set(range(1, 101))
    assert set(steps.values()) == {1}
    assert mlflow_store.trial("a").epochs == history


def test_the_caller_never_waits_and_close_does(mlflow_store, wrap_calls):
    wrap_calls(before=lambda *args, **kwargs: time.sleep(0.02))
    tracker = mlflow_store.tracker()
    tracker.open(EXPERIMENT)
    started = time.monotonic()
    keys = [f"t{number}" for number in range(8)]
    for key in keys:
        tracker.start(trial_info(key))
        for entry in epochs(1, 10):
            tracker.log(key, entry)
        tracker.end(key, Status.FINISHED)
    assert time.monotonic() - started < 0.1
    assert tracker.close(Status.FINISHED) == []
    assert time.monotonic() - started > 8 * 5 * 0.02
    for key in keys:
        assert mlflow_store.trial(key).epochs == epochs(1, 10)


@pytest.mark.parametrize("effective", [False, True], ids=["request lost", "answer lost"])
def test_failing_calls_are_repeated_without_doubling_anything(mlflow_store, wrap_calls, effective):
    """Each kind of call on each run fails twice before it gets through, and may have had its effect then."""
    left = Counter()
    enabled = False

    def fail(name, *args, **kwargs):
        if enabled:
            what = name, str(args[:1])
            left[what] += 1
            if left[what] <= 2:
                raise away()

    wrap_calls(**{"after" if effective else "before": fail})
    first = mlflow_store.tracker()
    first.open(EXPERIMENT)
    enabled = True
    first.start(trial_info("a"))
    for entry in epochs(1, 3):
        first.log("a", entry)
    first.end("a", Status.INTERRUPTED, "Ctrl-C")
    assert first.close(Status.INTERRUPTED, {"best": 1.0}, "a note", {"results.json": "{}"}) == []
    enabled = False

    second = mlflow_store.tracker()
    second.open(EXPERIMENT)
    assert second.status("a") is Status.INTERRUPTED
    left.clear()
    enabled = True
    second.start(trial_info("a"), epochs(1, 4))
    second.start(trial_info("b"), epochs(1, 2))
    second.log("a", epoch(5))
    second.end("a", Status.FINISHED)
    second.end("b", Status.FAILED, "diverged")
    assert second.close(Status.FINISHED) == []

    assert sum(left.values()) > 20
    assert mlflow_store.trials() == ["a", "b"]
    a, b = mlflow_store.trial("a"), mlflow_store.trial("b")
    assert (a.epochs, a.status, a.reason) == (epochs(1, 5), "finished", None)
    assert (b.epochs, b.status, b.reason) == (epochs(1, 2), "failed", "diverged")
    assert a.params == b.params == {"training.optimizer.lr": "0.1"}
    assert b.artifacts == {"spec.yaml": "trial: b\n"}
    assert (mlflow_store.note(), mlflow_store.summary()) == ("a note", {"best": 1.0})


def test_what_the_store_refuses_is_reported_and_nothing_else_is_lost(mlflow_store, tracker):
    tracker.start(RunInfo("bad", "bad", params={"good": 1, "b§d": 2, "fine": 3}))
    for number in range(1, 4):
        tracker.log("bad", epoch(number, **{"tempér@ture": 1.0}))
    tracker.start(trial_info("good"))
    tracker.log("good", epoch(1))
    tracker.end("bad", Status.FINISHED)
    tracker.end("good", Status.FINISHED)
    started = time.monotonic()
    problems = tracker.close(Status.FINISHED, {"good": 1.0, "b@d": 2.0}, "a note")
    assert time.monotonic() - started < 10

    assert sorted(line.split(": ")[:2] for line in problems) == [
        ["bad", "b§d"],
        ["bad", "tempér@ture"],
        ["the experiment", "b@d"],
    ]
    assert all("Invalid" in line for line in problems)
    bad = mlflow_store.trial("bad")
    assert (bad.params, bad.epochs, bad.status) == ({"good": "1", "fine": "3"}, epochs(1, 3), "finished")
    assert mlflow_store.trial("good").epochs == epochs(1, 1)
    assert mlflow_store.summary() == {"good": 1.0}
    assert mlflow_store.note() == "a note"


def test_a_run_that_was_deleted_meanwhile_is_reported(mlflow_store, tracker):
    tracker.start(trial_info("a"))
    wait_until(lambda: len(mlflow_store.runs()) == 2 and mlflow_store.trial("a").artifacts)
    mlflow_store.client.delete_run(mlflow_store.run("a").info.run_id)
    tracker.log("a", epoch(1))
    tracker.start(trial_info("b"))
    tracker.log("b", epoch(1))
    problems = tracker.close(Status.FINISHED)
    assert problems
    assert all(line.startswith("a: ") for line in problems)
    assert mlflow_store.trial("b").epochs == epochs(1, 1)


def test_an_error_in_a_record_does_not_end_the_writer(mlflow_store, tracker):
    tracker.start(trial_info("a"))
    tracker.log("a", {"train/loss": 1.0})
    tracker.log("a", epoch(1))
    assert len(tracker.close(Status.FINISHED)) == 1
    assert mlflow_store.trial("a").epochs == epochs(1, 1)


def test_artifacts_that_cannot_be_written_do_not_block(mlflow_store, tracker):
    (mlflow_store.folder / "artifacts").rename(mlflow_store.folder / "moved")
    (mlflow_store.folder / "artifacts").write_text("a file in the folder's place")
    tracker.start(trial_info("a"))
    tracker.log("a", epoch(1))
    tracker.end("a", Status.FINISHED)
    problems = tracker.close(Status.FINISHED)
    assert [line.split(": ")[:2] for line in problems] == [["a", "spec.yaml"]]
    (mlflow_store.folder / "artifacts").unlink()
    seen = mlflow_store.trial("a")
    assert (seen.epochs, seen.status) == (epochs(1, 1), "finished")


def test_a_deleted_experiment_is_an_error_that_says_what_to_do(mlflow_store, tracker):
    tracker.close(Status.FINISHED)
    experiment = mlflow_store.client.get_experiment_by_name(mlflow_store.name)
    mlflow_store.client.delete_experiment(experiment.experiment_id)
    with pytest.raises(TrackingError) as caught:
        mlflow_store.tracker().open(EXPERIMENT)
    assert "'an experiment' was deleted" in caught.value.message
    assert f"--experiment-id {experiment.experiment_id}" in str(caught.value.hint)


def test_two_trackers_write_to_one_store_at_once(mlflow_store):
    """In two threads, each with its own parent run, in one MLflow experiment that both find missing."""
    store, problems = mlflow_store, []

    def work(which):
        try:
            tracker = store.tracker()
            tracker.open(RunInfo(f"experiment {which}", which))
            for number in range(3):
                tracker.start(trial_info(f"{which}{number}"))
                for entry in epochs(1, 20):
                    tracker.log(f"{which}{number}", entry)
                tracker.end(f"{which}{number}", Status.FINISHED)
            problems.extend(tracker.close(Status.FINISHED))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert store.trials() == ["a0", "a1", "a2", "b0", "b1", "b2"]
    for key in store.trials():
        assert store.trial(key).epochs == epochs(1, 20)
        parent = store.run(f"experiment {key[0]}").info.run_id
        assert store.run(key).data.tags[names.PARENT_RUN_TAG] == parent


TWO_PROCESSES = """
import sys
from orchestrator.search.trials import Status
from tracking_stores import MLflowStore, epochs, trial_info
from orchestrator.tracking.base import RunInfo
from pathlib import Path
uri, folder, which = sys.argv[1:]
tracker = MLflowStore(uri, Path(folder)).tracker()
tracker.open(RunInfo(f"experiment {which}", which))
tracker.start(trial_info(which), epochs(1, 50))
for entry in epochs(51, 100):
    tracker.log(which, entry)
tracker.end(which, Status.FINISHED)
sys.exit("; ".join(tracker.close(Status.FINISHED)) or None)
"""


def test_two_processes_make_and_fill_one_store_at_once(tmp_path):
    store = MLflowStore(f"sqlite:///{tmp_path / 'new.db'}", tmp_path)
    command = [sys.executable, "-c", TWO_PROCESSES, store.uri, str(tmp_path)]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    running = [
        subprocess.Popen([*command, which], env=environment, stderr=subprocess.PIPE, text=True) for which in "ab"
    ]
    for process in running:
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 0, error
    assert store.trials() == ["a", "b"]
    assert store.trial("a").epochs == store.trial("b").epochs == epochs(1, 100)


def test_orphans_of_a_dead_experiment_are_closed_and_no_others(mlflow_store):
    other = RunInfo("another key", "other")
    for experiment in (EXPERIMENT, other):
        tracker = mlflow_store.tracker()
        tracker.open(experiment)
        for key in ("finished", "failed", "running"):
            tracker.start(trial_info(f"{experiment.name} {key}"))
        tracker.end(f"{experiment.name} finished", Status.FINISHED)
        tracker.end(f"{experiment.name} failed", Status.FAILED, "diverged")
        tracker.log(f"{experiment.name} running", epoch(1))
        # Nobody closes it: its process is killed.
        wait_until(lambda name=experiment.name: f"{name} running" in mlflow_store.trials())
        wait_until(lambda name=experiment.name: mlflow_store.trial(f"{name} running").epochs)

    assert close_orphans(mlflow_store.uri, mlflow_store.name, EXPERIMENT.key) == 2

    def shown(key):
        run = mlflow_store.run(key)
        return run.info.status, run.data.tags[STATUS_TAG], run.data.tags.get(REASON_TAG)

    assert shown(EXPERIMENT.key) == ("KILLED", "interrupted", None)
    assert shown("exp-1234 running") == ("KILLED", "interrupted", None)
    assert shown("exp-1234 finished") == ("FINISHED", "finished", None)
    assert shown("exp-1234 failed") == ("FAILED", "failed", "diverged")
    assert shown("another key") == ("RUNNING", "running", None)
    assert shown("other running") == ("RUNNING", "running", None)
    assert mlflow_store.run(EXPERIMENT.key).info.end_time
    assert close_orphans(mlflow_store.uri, mlflow_store.name, EXPERIMENT.key) == 0
    assert close_orphans(mlflow_store.uri, "no such experiment", EXPERIMENT.key) == 0


def test_a_trial_that_waits_is_running_and_saved_with_the_session(mlflow_store):
    def shown(key):
        run = mlflow_store.run(key)
        return run.info.status, run.data.tags[STATUS_TAG], run.data.tags.get(REASON_TAG)

    tracker = mlflow_store.tracker()
    tracker.open(EXPERIMENT)
    for key in "abc":
        tracker.start(trial_info(key))
        tracker.log(key, epoch(1))
        tracker.end(key, Status.PAUSED, "waits after epoch 1")
    wait_until(lambda: mlflow_store.trials() == ["a", "b", "c"] and shown("c")[1] == "paused")
    assert {shown(key) for key in "abc"} == {("RUNNING", "paused", "waits after epoch 1")}
    assert mlflow_store.run("a").info.end_time is None
    tracker.end("b", Status.STOPPED, "stopped by the scheduler")
    tracker.start(trial_info("c"))
    tracker.end("c", Status.FINISHED)
    tracker.close(Status.INTERRUPTED)
    assert shown("a") == ("KILLED", "interrupted", "waits after epoch 1")
    assert shown("b") == ("FINISHED", "stopped", "stopped by the scheduler")
    assert shown("c") == ("FINISHED", "finished", None)


def test_a_waiting_trial_of_an_earlier_session_that_ends_without_a_start_stays_ended(mlflow_store):
    first = mlflow_store.tracker()
    first.open(EXPERIMENT)
    first.start(trial_info("a"))
    first.end("a", Status.PAUSED, "waits")
    wait_until(lambda: mlflow_store.trials() == ["a"] and mlflow_store.trial("a").status == "paused")
    # Its process is killed, and the next one drops the trial.
    second = mlflow_store.tracker()
    second.open(EXPERIMENT)
    second.end("a", Status.STOPPED, "stopped by the scheduler")
    second.close(Status.FINISHED)
    assert mlflow_store.run("a").info.status == "FINISHED"
    assert mlflow_store.trial("a").status == "stopped"
