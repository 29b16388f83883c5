"""stop and pause: what they ask, what they refuse, and what they say."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from experiments_on_disk import final, plan_of, search, teacher, write

from orchestrator.cli import control
from orchestrator.search.trials import Status
from orchestrator.store.home import Home
from orchestrator.store.requests import Request, Wish


class Taking:
    """A driver that holds the experiment, and takes requests as one does."""

    def __init__(self, home: Home) -> None:
        plan = plan_of()
        records = [
            teacher(plan, val_acc1=9.0),
            search(plan, "kd", 0, val_acc1=50.0),
            search(plan, "kd", 1, Status.RUNNING),
            final(plan, "alone", 0, Status.RUNNING),
        ]
        self.folder = write(home, plan, records)
        self.plan = plan
        self.taken: list[Request] = []
        self._over = threading.Event()

    def __enter__(self) -> Taking:
        self._held = self.folder.opened(self.plan.spec)
        self._held.__enter__()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._held.__exit__(None, None, None)

    def _take(self) -> None:
        while not self._over.wait(0.02):
            self.taken += self.folder.mailbox.take()


@pytest.mark.parametrize(
    ("words", "request_", "told"),
    [
        (("stop", "tiny"), Request(Wish.STOP), "it ends"),
        (("stop", "tiny", "--now"), Request(Wish.STOP, now=True), "it ends"),
        (("stop", "tiny", "--trial", "kd-001"), Request(Wish.STOP, ("kd-001",)), "kd-001 ends with the result so far"),
        (("pause", "tiny"), Request(Wish.PAUSE), "what runs is saved"),
    ],
)
def test_the_driver_gets_what_was_asked(
    run: Any, home: Home, words: tuple[str, ...], request_: Request, told: str
) -> None:
    with Taking(home) as driver:
        code, out = run(*words)
    assert (code, driver.taken) == (0, [request_])
    assert f"{driver.folder.id}: {told}; see how far it is with: orchestrator status {driver.folder.id} --follow" in out


@pytest.mark.parametrize(
    ("trial", "why"),
    [
        ("kd-000", "has ended already: it is finished"),
        ("kd-009", "has not begun, or does not exist"),
        ("teacher", "trains what students learn from"),
        ("alone-final-1", "is a final run"),
    ],
)
def test_a_trial_that_cannot_end_is_refused_with_the_reason(run: Any, home: Home, trial: str, why: str) -> None:
    with Taking(home) as driver:
        (key,) = driver.plan.teachers
        name = driver.plan.teacher_trial(key).id if trial == "teacher" else trial
        # A teacher of an earlier session has ended; this one is under way.
        if trial == "teacher":
            driver.folder.journal.append({"event": "resumed", "id": name})
        code, out = run("stop", "tiny", "--trial", "kd-001", "--trial", name)
    assert (code, driver.taken) == (2, [])
    assert f"{name} {why}" in out


@pytest.mark.parametrize("command", ["stop", "pause"])
def test_of_several_that_run_one_has_to_be_named(run: Any, home: Home, command: str) -> None:
    other = plan_of(training__epochs=7)
    later = write(home, other, [])
    with Taking(home) as driver, later.opened(other.spec):
        code, out = run(command, "tiny")
        assert (code, driver.taken) == (2, [])
        assert "2 experiments named tiny are running" in out
        assert driver.folder.id in out
        assert later.id in out
        assert run(command, driver.folder.id)[0] == 0
        assert len(driver.taken) == 1


def test_now_goes_with_the_whole_experiment_alone(run: Any, home: Home) -> None:
    with Taking(home) as driver:
        code, out = run("stop", "tiny", "--trial", "kd-001", "--now")
    assert (code, driver.taken) == (2, [])
    assert "--now ends the whole experiment" in out


def test_where_nothing_runs_there_is_nothing_to_stop(run: Any, home: Home) -> None:
    folder = Taking(home).folder
    for command in ("stop", "pause"):
        code, out = run(command, "tiny")
        assert code == 0
        assert f"{folder.id} is not running: there is nothing to {command}\n" in out
        assert "continue with: orchestrator run" in out
    code, out = run("stop", "tiny", "--trial", "kd-001")
    assert code == 2
    assert "is not running" in out


def test_programs_are_told_what_was_asked_and_taken(run: Any, home: Home) -> None:
    with Taking(home) as driver:
        asked = json.loads(run("stop", "tiny", "--trial", "kd-001", "--format", "json")[1])
    assert asked == {
        "id": driver.folder.id,
        "asked": True,
        "taken": True,
        "request": {"wish": "stop", "trials": ["kd-001"], "now": False},
        "advice": None,
    }
    idle = json.loads(run("pause", "tiny", "--format", "json")[1])
    assert (idle["asked"], idle["taken"]) == (False, False)
    assert idle["advice"].startswith("continue with: orchestrator run")


def test_a_driver_that_does_not_answer_is_told(run: Any, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 0.1)
    driver = Taking(home)
    with driver.folder.opened(driver.plan.spec):
        began = time.monotonic()
        code, out = run("pause", "tiny")
        assert time.monotonic() - began < 3
        assert driver.folder.mailbox.take() == [Request(Wish.PAUSE)]
    assert code == 0
    assert "has not answered yet" in out


def test_an_unknown_experiment_is_named(run: Any, home: Home) -> None:
    folder = Taking(home).folder
    code, out = run("stop", "tyni")
    assert code == 2
    assert folder.id in out
