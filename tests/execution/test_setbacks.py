"""The driver without Ray where trials fail: who is tried again, what is told, and when the session gives up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import load_spec
from orchestrator.errors import DivergenceError
from orchestrator.execution import memory
from orchestrator.execution.driver import Driver
from orchestrator.execution.failing import failed
from orchestrator.execution.interrupt import Interrupt
from orchestrator.execution.job import DIED, FAILURE, FATAL
from orchestrator.execution.memory import RAY_KILLED
from orchestrator.execution.stopper import SessionStopper
from orchestrator.execution.watcher import Watcher
from orchestrator.search.agenda import Agenda, PlannedSampler
from orchestrator.search.plan import make_plan
from orchestrator.search.standing import anything_left
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import Home
from orchestrator.tracking.memory import MemoryTracker

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "student": {"model": "resnet8"},
    "distillation": {"kd_weight": 0.0, "ce_weight": 1.0},
    "training": {"epochs": 4},
    "search": {
        "sampler": "random",
        "num_samples": 8,
        "final_seeds": 1,
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.2}},
        "variants": {"a": {}, "b": {}},
    },
}


class Notes(Watcher):
    def __init__(self) -> None:
        self.told: list[str] = []

    def on_note(self, text: str) -> None:
        self.told.append(text)


def driver_in(folder: Path, changes: dict[str, Any] | None = None) -> Driver:
    """The next session of the experiment in this folder."""
    spec, home = load_spec(SPEC, changes or {}), Home(folder)
    home.create()
    found = home.experiment(spec)
    found.path.mkdir(parents=True, exist_ok=True)
    agenda = Agenda(make_plan(spec), lambda arm, drawn: PlannedSampler([]), found.records(), [])
    return Driver(agenda, home, found, MemoryTracker(), Notes(), "{}")


def start(driver: Driver, tune_id: str) -> str:
    config = driver.next(tune_id)
    assert config is not None
    return str(json.loads(config["job"])["trial"])


def epoch(number: int) -> dict[str, Any]:
    return {"epoch": number, "val/acc1": 50.0 + number, "time/epoch_s": 1.0}


def fail(driver: Driver, tune_id: str, error: Exception) -> str:
    """A trial starts and fails; returns its id."""
    trial = start(driver, tune_id)
    driver.on_result(tune_id, failed(error, str(driver.folder.trial(trial).path)))
    driver.on_end(tune_id)
    return trial


def do_well(driver: Driver, tune_id: str) -> str:
    trial = start(driver, tune_id)
    driver.on_result(tune_id, epoch(4))
    driver.on_end(tune_id)
    return trial


def record_of(driver: Driver, trial: str) -> Record:
    return driver.folder.records()[trial]


# Trying again


def test_a_trial_that_raised_is_tried_again_as_often_as_the_spec_says(tmp_path: Path) -> None:
    driver = driver_in(tmp_path, {"budget.failures.max_retries": 2})
    for attempt in range(3):
        assert fail(driver, f"t{attempt}", ValueError("now and then")) == "a-000"
        record = record_of(driver, "a-000")
        assert record.status is (Status.FAILED if attempt == 2 else Status.INTERRUPTED)
        assert record.reason == "ValueError: now and then"
    assert start(driver, "other") == "b-000"


def test_a_trial_that_is_tried_again_keeps_its_checkpoint_and_may_end_well(tmp_path: Path) -> None:
    driver = driver_in(tmp_path, {"budget.failures.max_retries": 1})
    checkpoints = driver.folder.trial("a-000").checkpoints
    checkpoints.mkdir(parents=True)
    fail(driver, "t", ValueError("now and then"))
    assert checkpoints.exists()
    assert start(driver, "again") == "a-000"
    driver.on_result("again", epoch(4))
    driver.on_end("again")
    record = record_of(driver, "a-000")
    assert (record.status, record.reason) == (Status.FINISHED, None)


def test_by_default_an_error_is_final_and_so_is_a_divergence_always(tmp_path: Path) -> None:
    driver = driver_in(tmp_path / "default")
    fail(driver, "t", ValueError("no"))
    assert record_of(driver, "a-000").status is Status.FAILED
    patient = driver_in(tmp_path / "patient", {"budget.failures.max_retries": 5})
    fail(patient, "t", DivergenceError("a-000: loss", epoch=1, step=2))
    assert record_of(patient, "a-000").status is Status.FAILED


def test_a_spec_may_have_dead_trials_fail_at_once(tmp_path: Path) -> None:
    driver = driver_in(tmp_path, {"budget.failures.max_restarts": 0})
    start(driver, "t")
    driver.on_death("t", "killed")
    record = record_of(driver, "a-000")
    assert (record.status, record.reason) == (Status.FAILED, "its process died (killed)")


# Memory


def test_where_memory_ran_out_the_reason_says_what_to_do(tmp_path: Path) -> None:
    driver = driver_in(tmp_path)
    driver.setbacks.concurrency = 2
    fail(driver, "t", MemoryError())
    record = record_of(driver, "a-000")
    assert record.reason is not None
    assert record.reason.startswith("out of memory; try fewer trials at once (resources.max_concurrent_trials, now 2)")
    assert "\n" not in record.reason
    assert record.died


def test_a_process_that_ray_or_the_kernel_killed_for_memory_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tmp_path / "vmstat"
    counts.write_text("oom_kill 0\n")
    monkeypatch.setattr(memory, "VMSTAT", counts)
    driver = driver_in(tmp_path, {"budget.failures.max_restarts": 1})
    start(driver, "t0")
    driver.on_death("t0", RAY_KILLED)
    assert "its process died (out of memory); try" in (record_of(driver, "a-000").reason or "")
    start(driver, "t1")
    counts.write_text("oom_kill 1\n")
    driver.on_death("t1", "The actor died unexpectedly")
    assert "its process died (out of memory), 2 times; try" in (record_of(driver, "a-000").reason or "")
    start(driver, "t2")
    counts.write_text("oom_kill 2\n")
    driver.on_result("t2", {FAILURE: "its workers died 3 times", FATAL: False, DIED: True})
    driver.on_end("t2")
    assert "its workers died 3 times, out of memory; try" in (record_of(driver, "b-000").reason or "")
    start(driver, "t3")
    driver.on_death("t3", "killed")
    assert record_of(driver, "a-001").reason == "its process died (killed)"


# Failures alike


def test_so_many_failures_alike_end_the_session_and_are_tried_again_in_the_next(tmp_path: Path) -> None:
    driver = driver_in(tmp_path)
    failed_ones = [fail(driver, f"t{n}", ValueError(f"no file {n}")) for n in range(4)]
    running = start(driver, "runs")
    assert driver.fatal is None
    failed_ones.append(fail(driver, "t4", ValueError("no file 4")))
    assert driver.fatal is not None
    for word in ("5 trials failed alike", "ValueError: no file 4", *failed_ones, "error.txt", "stop_after_alike"):
        assert word in driver.fatal
    assert (driver.folder.trial(failed_ones[-1]).error).read_text().count("ValueError: no file 4") == 1
    assert driver.next("none") is None
    assert SessionStopper(driver, Interrupt()).stop_all()
    driver.interrupt()
    records = driver.folder.records()
    assert {records[trial].status for trial in [*failed_ones, running]} == {Status.INTERRUPTED}
    assert records[failed_ones[0]].reason == "ValueError: no file 0"
    assert anything_left(driver.plan, records, lambda key: True)
    # What was mended meanwhile works.
    again = driver_in(tmp_path)
    assert {start(again, f"t{n}") for n in range(6)} == {*failed_ones, running}
    assert start(again, "new") not in {*failed_ones, running}


def test_a_driver_that_is_killed_while_it_gives_up_leaves_all_to_be_tried_again(tmp_path: Path) -> None:
    """At whichever event of the fifth failure its journal breaks off, none of the five has failed for good."""
    driver = driver_in(tmp_path)
    five = [fail(driver, f"t{n}", ValueError("no file")) for n in range(4)]
    path = driver.folder.journal.path
    before = path.read_bytes()
    five.append(fail(driver, "t4", ValueError("no file")))
    added = path.read_bytes().removeprefix(before).splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in added] == ["created", "taken back", "ended"]
    for count in (2, 3):
        path.write_bytes(before + b"".join(added[:count]))
        again = driver_in(tmp_path)
        assert {start(again, f"t{n}") for n in range(5)} == set(five)


def test_a_broken_variant_is_found_however_well_the_others_do(tmp_path: Path) -> None:
    driver = driver_in(tmp_path, {"budget.failures.stop_after_alike": 3})
    for number in range(2):
        assert fail(driver, f"a{number}", ValueError("no")) == f"a-{number:03d}"
        assert do_well(driver, f"b{number}") == f"b-{number:03d}"
        assert driver.fatal is None
    fail(driver, "a2", ValueError("no"))
    assert driver.fatal is not None


def test_failures_with_good_trials_of_their_variant_between_them_go_on(tmp_path: Path) -> None:
    driver = driver_in(tmp_path, {"budget.failures.stop_after_alike": 3})
    for number in range(12):
        if number % 4 < 2:
            fail(driver, f"t{number}", ValueError("no"))
        else:
            do_well(driver, f"t{number}")
    assert driver.fatal is None


# A spent budget


def test_a_trial_stops_with_the_epoch_that_spends_the_budget(tmp_path: Path) -> None:
    changes = {"budget.student_epochs": 6, "budget.when_spent": "stop"}
    driver = driver_in(tmp_path, changes)
    stopper = SessionStopper(driver, Interrupt())
    for tune_id, epochs in (("t0", 4), ("t1", 2)):
        start(driver, tune_id)
        for number in range(1, epochs + 1):
            stops = stopper(tune_id, epoch(number))
            driver.on_result(tune_id, epoch(number))
            assert stops == (tune_id == "t1" and number == 2)
        driver.on_end(tune_id)
    first, second = record_of(driver, "a-000"), record_of(driver, "b-000")
    assert (first.status, first.epochs) == (Status.FINISHED, 4)
    assert (second.status, second.epochs, second.metrics["val/acc1"]) == (Status.STOPPED, 2, 52.0)
    assert second.reason == "stopped: the budget is spent (budget.student_epochs), after epoch 2"
    assert start(driver, "f") == "a-final-1"
    (note,) = driver.watcher.told
    assert "budget.student_epochs is spent" in note
    assert "final runs follow" in note


def test_what_was_interrupted_before_its_epochs_were_journaled_counts(tmp_path: Path) -> None:
    changes = {"budget.student_epochs": 6, "budget.when_spent": "stop"}
    driver = driver_in(tmp_path, changes)
    start(driver, "t0")
    folder = driver.folder.trial("a-000")
    folder.path.mkdir(parents=True)
    for number in range(1, 4):
        folder.add_metrics(number, {"val/acc1": 50.0 + number, "time/epoch_s": 1.0})
    # The driver is killed; the journal knows of no epoch.
    again = driver_in(tmp_path, changes)
    assert start(again, "t0") == "a-000"
    assert start(again, "t1") == "b-000"
    stopper = SessionStopper(again, Interrupt())
    assert [stopper("t1", epoch(number)) for number in (1, 2, 3)] == [False, False, True]
