"""An experiment of a home in an object store, as several machines see it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StorageError, UsageError
from orchestrator.experiment import Experiment
from orchestrator.spec import ExperimentSpec, load_spec
from orchestrator.store import lease, shared
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.store.remote import Remote
from orchestrator.store.requests import Request, Wish

SPEC = {"name": "x", "data": {"dataset": "digits"}, "teacher": {"model": "resnet8"}, "student": {"model": "resnet8"}}
On = Callable[[str], Home]


@pytest.fixture
def spec() -> ExperimentSpec:
    return load_spec(SPEC)


@pytest.fixture
def on(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> On:
    """The home as one of several machines has it."""

    def home(machine: str) -> Home:
        monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / machine))
        return Home(f"{s3}/home")

    return home


def journal_in(home: Home, folder: ExperimentFolder) -> list[dict[str, Any]]:
    """The events that the store knows of."""
    assert home.remote is not None
    return [json.loads(line) for line in (home.remote.read(folder.journal.path) or b"").splitlines()]


def test_each_event_is_in_the_store_before_the_next_thing_is_done(on: On, spec: ExperimentSpec) -> None:
    home = on("one")
    folder = home.experiment(spec)
    with folder.opened(spec):
        for number in range(3):
            folder.journal.append({"event": "x", "number": number})
            assert [event["number"] for event in journal_in(home, folder)] == list(range(number + 1))
    other = on("other").find("x")
    assert [event["number"] for event in other.journal.read()] == [0, 1, 2]
    assert other.spec() == spec


def test_an_event_that_the_store_does_not_take_is_no_event(
    on: On, spec: ExperimentSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PATIENCE_S", 0.0)
    home = on("one")
    folder = home.experiment(spec)
    with folder.opened(spec):
        folder.journal.append({"event": "x"})
        before = folder.journal.path.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(Remote, "write", lambda *a: (_ for _ in ()).throw(StorageError("down", passing=True)))
            with pytest.raises(StorageError, match="down"):
                folder.journal.append({"event": "lost"})
        assert folder.journal.path.read_bytes() == before
        folder.journal.append({"event": "y"})
    assert [event["event"] for event in journal_in(home, folder)] == ["x", "y"]


def test_what_a_killed_driver_had_not_told_the_store_does_not_count(on: On, spec: ExperimentSpec) -> None:
    home = on("one")
    folder = home.experiment(spec)
    with folder.opened(spec):
        folder.journal.append({"event": "x"})
    with folder.journal.path.open("a") as file:
        file.write('{"event": "of nobody", "at": 1}\n')
    again = on("one").experiment(spec)
    with again.opened(spec):
        assert [event["event"] for event in again.journal.read()] == ["x"]


def test_whoever_looks_does_not_disturb_the_driver(on: On, spec: ExperimentSpec) -> None:
    home = on("one")
    folder = home.experiment(spec)
    with folder.opened(spec):
        folder.journal.append({"event": "x"})
        # Here, where the driver is, and where its file is newer than what the store had just now.
        with folder.journal.path.open("a") as file:
            file.write('{"event": "just now", "at": 1}\n')
        seen = on("one").find("x")
        assert len(seen.journal.read()) == 2
        assert seen.is_running()
        there = on("other").find("x")
        assert len(there.journal.read()) == 1
        assert there.is_running()
        with pytest.raises(UsageError, match="already running on"), there.opened(spec):
            pass
    assert not there.is_running()


def test_metrics_of_trials_are_seen_where_somebody_looks(on: On, spec: ExperimentSpec) -> None:
    home = on("one")
    folder = home.experiment(spec)
    assert home.remote is not None
    trial = folder.trial("a-001")
    trial.artifacts.mkdir(parents=True)
    trial.add_metrics(1, {"val/acc1": 1.0})
    (trial.artifacts / "classes.csv").write_text("class\n")
    trial.checkpoints.mkdir()
    (trial.checkpoints / "checkpoint-00000001.pt").write_bytes(b"large")
    for path in trial.path.rglob("*"):
        if path.is_file():
            home.remote.push(path)
    with folder.opened(spec):
        folder.journal.append({"event": "experiment", "key": "k", "id": folder.id})
    on("other")
    found = Experiment.load("x", f"{home}").folder.trial("a-001")
    assert len(found.metrics()) == 1
    assert found.described() == {"classes.csv": "class\n"}
    assert not found.checkpoints.exists()
    folder.drop_checkpoints(["a-001", "a-002"])
    assert home.remote.entries(trial.checkpoints) == {}
    folder.drop_checkpoints(["a-001"])


def test_an_experiment_that_is_set_aside_leaves_nothing_to_go_on_from(on: On, spec: ExperimentSpec) -> None:
    home = on("one")
    folder = home.experiment(spec)
    with folder.opened(spec):
        folder.journal.append({"event": "x"})
    folder.trial("a-001").path.mkdir(parents=True)
    folder.trial("a-001").add_metrics(1, {})
    other = on("other").experiment(spec)
    other.set_aside()
    assert len(on("other").experiments()) == 1
    assert ".before-" in on("third").experiments()[0].id
    anew = on("one").experiment(spec)
    assert not anew.journal.path.exists()
    with anew.opened(spec):
        assert anew.journal.read() == []
        assert anew.trial("a-001").metrics() == []
    # Where nothing has run, nothing is set aside.
    on("fourth").experiment(spec).set_aside()
    assert len(on("fifth").experiments()) == 1


def test_a_trial_takes_over_anothers_checkpoint_wherever_that_ran(on: On, spec: ExperimentSpec) -> None:
    home = on("worker")
    folder = home.experiment(spec)
    assert home.remote is not None
    for trial_id, names in {"winner": ("3", "4"), "loser": ("1", "4")}.items():
        for name in names:
            path = folder.trial(trial_id).checkpoints / f"checkpoint-0000000{name}.pt"
            home.remote.write(path, f"{trial_id} {name}".encode())
    driver = on("driver").experiment(spec)
    assert driver.shared is not None
    driver.shared.bring_checkpoints("winner")
    driver.trial("loser").take_checkpoints(driver.trial("winner"))
    driver.shared.give_checkpoints("loser")
    left = {p.name[-4:]: home.remote.read(p) for p in home.remote.entries(folder.trial("loser").checkpoints)}
    assert left == {"3.pt": b"winner 3", "4.pt": b"winner 4"}


def test_a_teacher_counts_once_it_is_in_the_store(on: On) -> None:
    home = on("one")
    assert home.remote is not None
    assert not home.has_teacher("k")
    home.remote.write(home.teacher("k"), b"weights")
    assert on("other").has_teacher("k")


def test_a_home_of_a_folder_needs_no_pyarrow(tmp_path: Path) -> None:
    probe = """
import sys
from orchestrator.spec import load_spec
from orchestrator.store.home import Home

home, spec = Home(sys.argv[1]), load_spec(sys.argv[2])
home.create()
with home.experiment(spec).opened(spec):
    home.experiment(spec).journal.append({"event": "x"})
assert home.experiments() and not home.has_teacher("k") and not home.find("x").is_running()
print("pyarrow" in sys.modules)
"""
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(SPEC))
    words = [sys.executable, "-c", probe, str(tmp_path / "home"), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_a_request_gets_to_the_driver_on_another_machine(
    on: On, spec: ExperimentSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    folder = on("one").experiment(spec)
    other = on("other").experiment(spec)
    asked = Request(Wish.STOP, ("a-001",))
    assert other.ask(asked) is None
    for _ in range(2):
        with folder.opened(spec):
            folder.journal.append({"event": "x"})
            assert folder.mailbox.take() == []
            is_taken = other.ask(asked)
            assert is_taken is not None
            while not is_taken():
                time.sleep(0.05)
            assert folder.mailbox.take() == [asked]
    # What nobody took reaches no later session.
    assert other.shared is not None
    other.shared.ask("{}")
    with folder.opened(spec):
        time.sleep(0.5)
        assert folder.mailbox.take() == []


def test_two_drivers_of_one_machine(on: On, spec: ExperimentSpec) -> None:
    with ExitStack() as stack:
        stack.enter_context(on("one").experiment(spec).opened(spec))
        with pytest.raises(UsageError, match="already running in another process"):
            stack.enter_context(on("one").experiment(spec).opened(spec))
