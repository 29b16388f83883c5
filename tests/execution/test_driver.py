"""The driver without Ray: what it does with the news that Tune brings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator import load_spec, names
from orchestrator.errors import OrchestratorError
from orchestrator.execution.driver import Driver
from orchestrator.execution.job import DESCRIBED, FAILURE, FATAL
from orchestrator.execution.runner import other_workers
from orchestrator.execution.watcher import Watcher
from orchestrator.search.agenda import Agenda, PlannedSampler
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import Home
from orchestrator.tracking.memory import MemoryTracker
from tests.execution.conftest import SPEC as WHOLE

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "student": {"model": "resnet8"},
    "distillation": {"kd_weight": 0.0, "ce_weight": 1.0},
    "training": {"epochs": 2},
    "search": {"variants": {"alone": {}}, "final_seeds": 1},
}


RESTARTS = 2


class Ends(Watcher):
    def __init__(self) -> None:
        self.ended: list[tuple[str, Status]] = []

    def on_end(self, record: Record) -> None:
        self.ended.append((record.trial.id, record.status))


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    spec = load_spec(SPEC)
    home = Home(tmp_path)
    home.create()
    folder = home.experiment(spec)
    folder.path.mkdir(parents=True)
    agenda = Agenda(make_plan(spec), lambda arm, drawn: PlannedSampler([]), {}, [])
    return Driver(agenda, home, folder, MemoryTracker(), Ends(), "{}")


def start(driver: Driver, tune_id: str) -> str:
    config = driver.next(tune_id)
    assert config is not None
    return str(json.loads(config["job"])["trial"])


def epoch(number: int, **more: Any) -> dict[str, Any]:
    return {"epoch": number, "val/acc1": 50.0 + number, "time/epoch_s": 1.0, **more}


def records(driver: Driver) -> dict[str, Record]:
    return driver.folder.records()


def test_a_trial_whose_process_died_is_started_again_and_fails_in_the_end(driver: Driver) -> None:
    for attempt in range(RESTARTS + 1):
        assert start(driver, f"tune-{attempt}") == "alone-000"
        driver.on_result(f"tune-{attempt}", epoch(1))
        driver.on_death(f"tune-{attempt}", "killed")
        ended = attempt == RESTARTS
        assert records(driver)["alone-000"].status is (Status.FAILED if ended else Status.INTERRUPTED)
    assert "3 times" in (records(driver)["alone-000"].reason or "")
    assert records(driver)["alone-000"].died
    assert driver.next("tune-last") is None


def test_a_trial_that_was_started_again_ends_as_any_other(driver: Driver) -> None:
    start(driver, "a")
    driver.on_death("a", "killed")
    start(driver, "b")
    driver.on_result("b", epoch(2))
    driver.on_end("b")
    record = records(driver)["alone-000"]
    assert (record.status, record.reason, record.died, record.epochs) == (Status.FINISHED, None, False, 2)
    assert start(driver, "c") == "alone-final-1"


def test_the_first_trial_on_a_data_set_tries_every_variant_on_it(tmp_path: Path) -> None:
    variants = WHOLE["search"]["variants"] | {
        "faster": {"set": {"training.epochs": 1}},
        "few": {"set": {"data.classes": [0, 1]}},
        "chain": {"set": {"scheme": {"method": "teacher_assistants", "assistants": [{"model": "resnet8"}]}}},
    }
    spec = load_spec(WHOLE, {"search.variants": variants})
    home = Home(tmp_path)
    folder = home.experiment(spec)
    folder.path.mkdir(parents=True)
    agenda = Agenda(make_plan(spec), lambda arm, drawn: PlannedSampler([]), {}, [])
    driver = Driver(agenda, home, folder, MemoryTracker(), Ends(), "{}")
    jobs = [json.loads(config["job"]) for number in range(4) if (config := driver.next(str(number)))]
    tried = {job["trial"]: [student["name"].split("-")[0] for student in job["students"]] for job in jobs}
    # faster is built as la+dtd's runs are not, but as nothing else that is new: its training alone differs from kd.
    first, second, *others = tried.values()
    assert first == ["variant 'alone'", "variant 'la+dtd'", "variant 'faster'", "variant 'chain'", "assistant"]
    assert second == ["variant 'few'"]
    assert not any(others)
    chain = next(student for student in jobs[0]["students"] if "chain" in student["name"])
    assert [teacher["model"] for teacher in chain["teachers"]] == ["resnet8"]


def test_sizes_become_parameters_of_the_run(driver: Driver) -> None:
    start(driver, "a")
    told = []
    driver.watcher.on_describe = lambda record, described: told.append((record.trial.id, described))
    driver.on_result("a", epoch(1, **{DESCRIBED: {"student.parameters": 7}}))
    assert told == [("alone-000", {"student.parameters": 7})]
    tracker = driver._tracker
    assert isinstance(tracker, MemoryTracker)
    assert tracker.runs["alone-000"].info.params["student.parameters"] == 7


def test_a_precision_that_earlier_trials_did_not_have_is_told_once(driver: Driver) -> None:
    told: list[str] = []
    driver.watcher.on_note = told.append
    for tune_id, precision in (("a", "bf16"), ("b", "float32")):
        start(driver, tune_id)
        for number in (1, 2):
            driver.on_result(tune_id, epoch(number, **{DESCRIBED: {names.PRECISION: precision}}))
        driver.on_end(tune_id)
    (line,) = told
    assert line.startswith("training.precision auto means bf16 (alone-000) and float32 (alone-final-1)")


def test_another_number_of_workers_is_told_where_results_depend_on_it(driver: Driver) -> None:
    plan, folder = driver.plan, driver.folder
    folder.journal.append({"event": "session", "started": 1.0, "workers": 2})
    assert other_workers(plan, folder) is None
    start(driver, "a")
    driver.on_result("a", epoch(2))
    driver.on_end("a")
    told = other_workers(plan, folder) or ""
    assert "trials have ended with 2, and the others are run with 1: batch norms of resnet8 see" in told
    same = load_spec(SPEC, {"resources.num_workers": 2})
    assert other_workers(make_plan(same), folder) is None
    assert other_workers(make_plan(load_spec(SPEC, {"student.norm": "group"})), folder) is None


def test_tables_of_a_trial_go_to_the_tracker_and_its_checkpoints_go(driver: Driver) -> None:
    start(driver, "a")
    folder = driver.folder.trial("alone-000")
    folder.checkpoints.mkdir(parents=True)
    folder.artifacts.mkdir()
    (folder.artifacts / "classes.csv").write_text("class,images\n")
    driver.on_result("a", epoch(2))
    driver.on_end("a")
    tracker = driver._tracker
    assert isinstance(tracker, MemoryTracker)
    assert tracker.runs["alone-000"].artifacts == {"classes.csv": "class,images\n"}
    assert not folder.checkpoints.exists()


def test_what_hits_all_trials_ends_the_session_and_leaves_none_failed(driver: Driver) -> None:
    start(driver, "a")
    driver.on_result("a", {FAILURE: "no files", FATAL: True})
    driver.on_end("a")
    assert driver.fatal == "no files"
    assert records(driver)["alone-000"].status is Status.INTERRUPTED
    assert driver.next("b") is None


def test_a_journal_that_cannot_be_written_is_kept_as_the_sessions_error(driver: Driver) -> None:
    start(driver, "a")
    driver.on_result("a", epoch(2))
    driver.folder.journal.path.unlink()
    driver.folder.journal.path.mkdir()
    with pytest.raises(OrchestratorError, match="cannot write the journal"):
        driver.on_end("a")
    assert isinstance(driver.error, OrchestratorError)


def test_checkpoints_of_ended_trials_go_also_where_the_driver_was_killed_before_it_removed_them(tmp_path: Path) -> None:
    spec = load_spec(WHOLE)
    plan, home = make_plan(spec), Home(tmp_path)
    folder = home.experiment(spec)
    arm = plan.by_name["alone"]
    trials = [plan.search_trial(arm, n, arm.points[n]) for n in range(2)]
    for trial in trials:
        folder.trial(trial.id).checkpoints.mkdir(parents=True)
    ended, interrupted = trials
    records = {ended.id: Record(ended, Status.FINISHED), interrupted.id: Record(interrupted, Status.INTERRUPTED)}
    agenda = Agenda(plan, lambda arm, drawn: PlannedSampler([]), records, plan.teachers)
    tracker = MemoryTracker()
    Driver(agenda, home, folder, tracker, Watcher(), "{}").reconcile()
    assert not folder.trial(ended.id).checkpoints.exists()
    assert folder.trial(interrupted.id).checkpoints.exists()
    assert {key: run.status for key, run in tracker.runs.items()} == {ended.id: Status.FINISHED}


BRACKETS = {
    "training.epochs": 9,
    "search.sampler": "random",
    "search.scheduler": {"method": "hyperband"},
    "search.num_samples": 9,
    "search.space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.1}},
    "search.final_seeds": 0,
}


def bracket_driver(folder: Path) -> Driver:
    spec = load_spec(SPEC, BRACKETS)
    home = Home(folder)
    home.create()
    found = home.experiment(spec)
    found.path.mkdir(parents=True, exist_ok=True)
    agenda = Agenda(make_plan(spec), lambda arm, drawn: PlannedSampler([]), found.records(), [])
    return Driver(agenda, home, found, MemoryTracker(), Ends(), "{}")


def test_a_trial_at_its_rung_waits_with_its_checkpoint(tmp_path: Path) -> None:
    driver = bracket_driver(tmp_path)
    config = driver.next("a")
    assert config is not None
    assert json.loads(config["job"])["until"] == 1
    folder = driver.folder.trial("alone-000")
    folder.checkpoints.mkdir(parents=True)
    driver.on_result("a", epoch(1))
    driver.on_end("a")
    record = records(driver)["alone-000"]
    assert (record.status, record.epochs, record.rungs) == (Status.PAUSED, 1, [51.0])
    assert folder.checkpoints.exists()
    assert start(driver, "b") == "alone-001"


def test_a_bracket_that_is_through_ends_those_who_are_out_and_lets_the_others_go_on(tmp_path: Path) -> None:
    driver = bracket_driver(tmp_path)
    for number in range(9):
        start(driver, f"t{number}")
        driver.on_result(f"t{number}", epoch(1, **{"val/acc1": float(number)}))
        driver.on_end(f"t{number}")
    config = driver.next("again")
    assert config is not None
    job = json.loads(config["job"])
    assert (job["trial"], job["until"]) == ("alone-008", 3)
    assert [r.status for r in records(driver).values()] == [Status.STOPPED] * 6 + [Status.PAUSED] * 2 + [Status.RUNNING]
    assert records(driver)["alone-000"].reason == "stopped by the scheduler after epoch 1"


def test_a_trial_that_was_at_its_rung_when_the_driver_was_killed_waits_there(tmp_path: Path) -> None:
    driver = bracket_driver(tmp_path)
    assert start(driver, "a") == "alone-000"
    driver.folder.trial("alone-000").path.mkdir(parents=True)
    driver.folder.trial("alone-000").add_metrics(1, {"val/acc1": 33.0, "time/epoch_s": 1.0})
    driver.folder.trial("alone-000").checkpoints.mkdir()
    (driver.folder.trial("alone-000").checkpoints / "checkpoint-00000001.pt").touch()
    again = bracket_driver(tmp_path)
    assert start(again, "b") == "alone-001"
    record = records(again)["alone-000"]
    assert (record.status, record.epochs, record.rungs) == (Status.PAUSED, 1, [33.0])


def test_a_trial_that_was_killed_before_the_checkpoint_of_its_rung_trains_that_epoch_again(tmp_path: Path) -> None:
    driver = bracket_driver(tmp_path)
    assert start(driver, "a") == "alone-000"
    folder = driver.folder.trial("alone-000")
    folder.checkpoints.mkdir(parents=True)
    earlier = folder.checkpoints / "checkpoint-00000001.pt"
    earlier.touch()
    os.utime(earlier, (1000, 1000))
    folder.add_metrics(1, {"val/acc1": 33.0, "time/epoch_s": 1.0})
    again = bracket_driver(tmp_path)
    assert start(again, "b") == "alone-000"
    assert records(again)["alone-000"].rungs == []


def test_what_is_decided_of_logits_is_written_once_and_kept_to(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()

    def session(teacher_logits_gb: float) -> tuple[Driver, dict[str, Any]]:
        spec = load_spec(WHOLE, {"resources.teacher_logits_gb": teacher_logits_gb})
        folder = home.experiment(spec)
        folder.path.mkdir(parents=True, exist_ok=True)
        plan = make_plan(spec)
        agenda = Agenda(plan, lambda arm, drawn: PlannedSampler([]), {}, plan.teachers)
        driver = Driver(agenda, home, folder, MemoryTracker(), Ends(), "{}")
        driver.briefing.keep_decisions()
        jobs = [json.loads(config["job"]) for number in range(4) if (config := driver.next(str(number)))]
        return driver, next(job["logits"] for job in jobs if job["logits"])

    first, began = session(teacher_logits_gb=1e-6)
    second, went_on = session(teacher_logits_gb=20)
    assert first.folder.path == second.folder.path
    assert not began["stored"]
    assert "teacher_logits_gb" in began["why"]
    assert {**went_on, "room": None} == {**began, "room": None}
    assert [event["event"] for event in first.folder.journal.read()].count("logits") == 1
