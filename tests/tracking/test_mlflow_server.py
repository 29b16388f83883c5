"""Tracking on an MLflow server, also one that goes away."""

import re
import time
from dataclasses import replace

import pytest
from mlflow.entities import ViewType
from student_models import student_model
from tracking_stores import EXPERIMENT, MLflowStore, epoch, epochs, trial_info, wait_until

from orchestrator.execution.checks import Request, State, Tracked, examine, versions
from orchestrator.search.trials import Status
from orchestrator.tracking.mlflow_store import download, open_client


@pytest.fixture
def store(server, tmp_path, request):
    return MLflowStore(server.uri, tmp_path, name=request.node.name)


def open_tracker(store, **arguments):
    tracker = store.tracker(**arguments)
    tracker.open(EXPERIMENT)
    return tracker


def test_a_server_is_written_to_like_a_file(store):
    tracker = open_tracker(store)
    tracker.start(trial_info("a"), epochs(1, 2))
    tracker.log("a", epoch(3))
    tracker.end("a", Status.STOPPED, "weak")
    assert tracker.close(Status.FINISHED, {"best": 1.0}, "a note", {"results.json": "{}"}) == []
    seen = store.trial("a")
    assert (seen.epochs, seen.status, seen.reason) == (epochs(1, 3), "stopped", "weak")
    assert seen.artifacts == {"spec.yaml": "trial: a\n"}
    assert (store.note(), store.summary()) == ("a note", {"best": 1.0})
    assert store.experiment().artifacts == {"spec.yaml": "name: exp\n", "results.json": "{}"}


def test_a_server_has_students_registered_and_gives_them_back(store, tmp_path):
    student = student_model(tmp_path, "kd-final-0")
    for _ in range(2):
        tracker = open_tracker(store)
        tracker.start(trial_info("kd-final-0"), epochs(1, 2))
        tracker.end("kd-final-0", Status.FINISHED)
        tracker.register("exp-1234", [student])
        assert tracker.close(Status.FINISHED) == []
    assert [version.version for version in store.client.search_model_versions("name='exp-1234'")] in ([1], ["1"])
    (tmp_path / "there").mkdir()
    found = download("models:/exp-1234@champion", store.uri, tmp_path / "there")
    (weights,) = found.rglob("*.safetensors")
    assert weights.read_bytes() == student.weights.read_bytes()


def test_a_server_that_goes_away_for_a_while_loses_nothing(store, server):
    tracker = open_tracker(store)
    keys = [f"t{number}" for number in range(4)]
    for key in keys:
        tracker.start(trial_info(key))
        for entry in epochs(1, 30):
            tracker.log(key, entry)
    # In the middle of writing.
    wait_until(lambda: len(store.runs()) >= 3)
    server.kill()
    started = time.monotonic()
    for key in keys:
        for entry in epochs(31, 60):
            tracker.log(key, entry)
        tracker.end(key, Status.FINISHED)
    tracker.start(trial_info("late"))
    tracker.log("late", epoch(1))
    tracker.end("late", Status.FAILED, "diverged")
    assert time.monotonic() - started < 0.5
    time.sleep(1.5)
    server.start()
    assert tracker.close(Status.FINISHED) == []
    assert store.trials() == ["late", *keys]
    for key in keys:
        seen = store.trial(key)
        assert (seen.epochs, seen.status) == (epochs(1, 60), "finished")
    late = store.trial("late")
    assert (late.epochs, late.status, late.reason) == (epochs(1, 1), "failed", "diverged")
    assert store.experiment().status == "finished"


def test_a_server_that_stays_away_is_given_up_and_made_good_later(store, server):
    tracker = open_tracker(store, patience_s=1.0)
    tracker.start(trial_info("a"))
    tracker.log("a", epoch(1))
    wait_until(lambda: store.trials() == ["a"] and store.trial("a").epochs)
    server.kill()
    for entry in epochs(2, 9):
        tracker.log("a", entry)
    tracker.end("a", Status.FINISHED)
    for number in range(200):
        tracker.start(trial_info(f"t{number}"))
        tracker.end(f"t{number}", Status.FINISHED)
    started = time.monotonic()
    problems = tracker.close(Status.FINISHED, {"best": 1.0}, "a note")
    assert 0.9 < time.monotonic() - started < 6
    told = [": ".join(line.split(": ")[:2]) for line in problems]
    assert told[:2] == ["a: epochs 2 to 9", "a: that it is finished"]
    assert told[2:202] == [f"t{number}: its run" for number in range(200)]
    assert told[202:] == [
        "the experiment: epochs 0 to 0",
        "the experiment: its note",
        "the experiment: that it is finished",
    ]

    server.start()
    second = open_tracker(store)
    assert second.status("a") is Status.RUNNING
    assert second.status("t0") is None
    second.start(trial_info("a"), epochs(1, 9))
    second.end("a", Status.FINISHED)
    assert second.close(Status.FINISHED) == []
    seen = store.trial("a")
    assert (seen.epochs, seen.status) == (epochs(1, 9), "finished")


def test_each_node_writes_to_it_and_reads_back_before_a_run(server, tmp_path, monkeypatch):
    client = open_client(server.uri)
    experiment = client.create_experiment("looked at")
    monkeypatch.setenv("SERVER", server.uri)
    request = Request(str(tmp_path), versions(), tracked=Tracked("${env:SERVER}", "looked at"))
    for number in (0, 1, 0):
        (finding,) = [f for f in examine(replace(request, number=number)) if f.check == "MLflow"]
        assert finding.state is State.OK
        assert re.fullmatch(rf"written and read back in \S+ s: {server.uri}", finding.found)
    # Nothing of it is shown, and each node uses its run again.
    assert client.search_runs([experiment]) == []
    assert len(client.search_runs([experiment], run_view_type=ViewType.ALL)) == 2
