"""What other terminals ask for, carried out by a driver without Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_spec import ALONE, small_spec

from orchestrator import load_spec
from orchestrator.execution.driver import Driver
from orchestrator.execution.interrupt import Interrupt
from orchestrator.execution.stopper import SessionStopper
from orchestrator.execution.watcher import Watcher
from orchestrator.search.agenda import Agenda, PlannedSampler
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import Home
from orchestrator.store.requests import Request, Wish
from orchestrator.tracking.memory import MemoryTracker

SPEC = small_spec(
    {
        "training.epochs": 9,
        "search.num_samples": 3,
        "search.final_seeds": 1,
        "search.variants": {"alone": ALONE},
    }
)


class Heard(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


class Bench:
    """A driver, what ends its trials, and a terminal that asks."""

    def __init__(self, home: Home, changes: dict[str, Any] | None = None) -> None:
        self.spec = load_spec(SPEC, changes or {})
        self.folder = home.experiment(self.spec)
        self._outside = home.experiment(self.spec)
        self._held = self.folder.opened(self.spec)
        self._held.__enter__()
        agenda = Agenda(make_plan(self.spec), lambda arm, drawn: PlannedSampler([]), self.folder.records(), [])
        self.heard = Heard()
        self.driver = Driver(agenda, home, self.folder, MemoryTracker(), self.heard, "{}")
        self.interrupt = Interrupt()
        self.told = 0
        self.control = SessionStopper(self.driver, self.interrupt, self._tell)

    def _tell(self) -> None:
        self.told += 1

    def close(self) -> None:
        self._held.__exit__(None, None, None)

    def start(self, tune_id: str) -> str | None:
        config = self.driver.next(tune_id)
        return None if config is None else str(json.loads(config["job"])["trial"])

    def train(self, tune_id: str, epoch: int) -> bool:
        """One epoch; whether the trial ends with it."""
        result = {"epoch": epoch, "val/acc1": 50.0 + epoch, "time/epoch_s": 1.0}
        ends = self.control(tune_id, result)
        self.driver.on_result(tune_id, result)
        if ends:
            self.driver.on_end(tune_id)
        return ends

    def ask(self, wish: Wish, *trials: str, now: bool = False) -> bool:
        """Ask, and have Tune look; whether everything ends."""
        assert self._outside.mailbox.put(Request(wish, trials, now)) is not None
        return self.look()

    def look(self) -> bool:
        self.control._look_at = 0.0
        return self.control.stop_all()

    def record(self, name: str) -> Record:
        return self.folder.records()[name]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(Home(tmp_path))
    yield made
    made.close()


def test_a_trial_ends_with_its_epoch_and_the_search_goes_on(bench: Bench) -> None:
    assert [bench.start("a"), bench.start("b")] == ["alone-000", "alone-001"]
    assert not bench.train("a", 1)
    assert not bench.ask(Wish.STOP, "alone-000")
    assert bench.train("a", 2)
    record = bench.record("alone-000")
    assert (record.status, record.epochs, record.metrics["val/acc1"]) == (Status.STOPPED, 2, 52.0)
    assert record.reason == "stopped by `orchestrator stop` after epoch 2"
    assert not bench.train("b", 1)
    assert bench.start("c") == "alone-002"
    assert bench.heard.notes == ["`orchestrator stop`: alone-000 is to end"]


def test_a_trial_that_is_complete_with_its_epoch_is_finished(bench: Bench) -> None:
    bench.start("a")
    bench.ask(Wish.STOP, "alone-000")
    bench.train("a", 9)
    assert (bench.record("alone-000").status, bench.record("alone-000").reason) == (Status.FINISHED, None)


def test_what_cannot_end_is_told_with_the_reason(bench: Bench) -> None:
    bench.start("a")
    bench.ask(Wish.STOP, "alone-000")
    bench.train("a", 1)
    bench.ask(Wish.STOP, "alone-000", "alone-007")
    assert bench.heard.notes[1:] == [
        "`orchestrator stop`: alone-000 has ended already: it is stopped",
        "`orchestrator stop`: alone-007 has not begun, or does not exist",
    ]


def test_a_stop_waits_for_the_epochs_of_the_search_and_begins_nothing(bench: Bench) -> None:
    bench.start("a")
    bench.start("b")
    bench.train("a", 1)
    assert not bench.ask(Wish.STOP)
    assert bench.start("c") is None
    assert bench.train("a", 2)
    assert not bench.look()
    assert bench.train("b", 1)
    assert bench.look()
    assert bench.told == 1
    bench.driver.interrupt()
    assert {r.status for r in bench.folder.records().values()} == {Status.STOPPED}
    assert len(bench.folder.records()) == 2


def test_a_stop_now_keeps_results_and_saves_what_has_none(bench: Bench) -> None:
    bench.start("a")
    bench.start("b")
    bench.train("a", 1)
    assert bench.ask(Wish.STOP, now=True)
    bench.driver.interrupt()
    assert (bench.record("alone-000").status, bench.record("alone-000").epochs) == (Status.STOPPED, 1)
    assert bench.record("alone-001").status is Status.INTERRUPTED


def test_a_second_stop_may_be_more_urgent(bench: Bench) -> None:
    bench.start("a")
    bench.train("a", 1)
    assert not bench.ask(Wish.STOP)
    assert bench.ask(Wish.STOP, now=True)


def test_final_runs_are_saved_by_a_stop(bench: Bench) -> None:
    for tune_id in "abc":
        bench.start(tune_id)
        bench.driver.on_result(tune_id, {"epoch": 9, "val/acc1": 50.0})
        bench.driver.on_end(tune_id)
    assert bench.start("d") == "alone-final-1"
    bench.train("d", 1)
    assert bench.ask(Wish.STOP)
    bench.driver.interrupt()
    assert bench.record("alone-final-1").status is Status.INTERRUPTED


def test_a_pause_is_an_interruption(bench: Bench) -> None:
    bench.start("a")
    bench.train("a", 1)
    assert bench.ask(Wish.PAUSE)
    assert bench.interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.interrupt.check()
    bench.driver.interrupt()
    assert bench.record("alone-000").status is Status.INTERRUPTED


def test_what_was_asked_is_in_the_journal_until_the_next_session(bench: Bench) -> None:
    bench.start("a")
    assert not bench.folder.was_stopped()
    bench.folder.journal.append({"event": "session", "started": 1.0, "epochs": 0, "at_once": 2})
    bench.ask(Wish.STOP, "alone-000")
    assert not bench.folder.was_stopped()
    bench.ask(Wish.STOP, now=True)
    assert bench.folder.was_stopped()
    bench.folder.journal.append({"event": "session", "started": 2.0, "epochs": 0, "at_once": 2})
    assert not bench.folder.was_stopped()


BRACKETS = {"search.scheduler": {"method": "hyperband"}, "search.num_samples": 9}


def test_a_trial_that_waits_ends_at_once_and_one_that_waits_no_more_is_told_from_it(tmp_path: Path) -> None:
    bench = Bench(Home(tmp_path), BRACKETS)
    for tune_id in "ab":
        bench.start(tune_id)
        bench.driver.on_result(tune_id, {"epoch": 1, "val/acc1": 50.0})
        bench.driver.on_end(tune_id)
    assert bench.record("alone-000").status is Status.PAUSED
    bench.ask(Wish.STOP, "alone-000")
    assert (bench.record("alone-000").status, bench.record("alone-000").rungs) == (Status.STOPPED, [50.0])
    assert bench.record("alone-001").status is Status.PAUSED
    bench.close()


def after_an_interruption(home: Home) -> Bench:
    """The next session; the one before was interrupted when its first trial had trained three epochs."""
    first = Bench(home)
    first.start("a")
    first.train("a", 3)
    first.driver.interrupt()
    first.close()
    return Bench(home)


def test_a_trial_that_was_interrupted_before_is_not_begun_again(tmp_path: Path) -> None:
    again = after_an_interruption(Home(tmp_path))
    again.ask(Wish.STOP, "alone-000")
    assert again.record("alone-000").reason == "stopped by `orchestrator stop` after epoch 3"
    assert again.start("b") == "alone-001"
    again.close()


def test_a_trial_that_goes_on_is_running_again_to_whoever_reads_the_journal(tmp_path: Path) -> None:
    again = after_an_interruption(Home(tmp_path))
    assert again.start("b") == "alone-000"
    assert (again.record("alone-000").status, again.record("alone-000").epochs) == (Status.RUNNING, 3)
    again.close()
