"""The home folder: finding experiments, holding them, and what a crash leaves."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.search.trials import Phase, Record, Status, Trial, created, ended
from orchestrator.spec import ExperimentSpec, load_spec
from orchestrator.spec.loading import to_yaml
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import MIN_FREE_BYTES, Home
from orchestrator.store.lock import looking

BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}


@pytest.fixture
def spec() -> ExperimentSpec:
    return load_spec(BASE, {"training.epochs": 3})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.create()
    return found


def start(home: Home, spec: ExperimentSpec, at: float | None = None) -> ExperimentFolder:
    folder = home.experiment(spec)
    with folder.opened(spec):
        folder.journal.append({"event": "session"})
    if at is not None:
        os.utime(folder.journal.path, (at, at))
    return folder


# Where it is


def test_the_place_is_given_or_from_the_environment_or_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCHESTRATOR_HOME", raising=False)
    assert Home().path == tmp_path / ".orchestrator"
    monkeypatch.setenv("ORCHESTRATOR_HOME", "~/runs")
    monkeypatch.setenv("HOME", "/home/someone")
    assert Home().path == Path("/home/someone/runs")
    assert Home("other").path == tmp_path / "other"
    assert Home("other").tracking_uri == f"sqlite:///{tmp_path}/other/mlflow.db"


def test_nothing_is_made_before_create(tmp_path: Path, spec: ExperimentSpec) -> None:
    home = Home(tmp_path / "home")
    assert home.experiments() == []
    assert not home.experiment(spec).path.exists()
    assert not home.path.exists()
    home.create()
    home.create()
    assert home.teacher("k").parent.is_dir()


@pytest.mark.parametrize("place", ["file", "file/below", "home/experiments"])
def test_a_file_in_the_way_is_told_with_the_way_out(tmp_path: Path, place: str) -> None:
    file = tmp_path / ("file" if place.startswith("file") else place)
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    home = Home(tmp_path / (place if place.startswith("file") else "home"))
    with pytest.raises(OrchestratorError, match=r"cannot write to the home folder .*: ") as caught:
        home.create()
    assert "--home" in (caught.value.hint or "")
    assert caught.value.exit_code == 1


def test_a_folder_that_may_not_be_written_is_told(home: Home, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OrchestratorError, match=r"cannot write to the home folder .*: Permission denied"):
        home.create()


def test_a_full_disk_is_told_with_the_numbers(home: Home, monkeypatch) -> None:
    def usage(path: Path) -> object:
        return shutil._ntuple_diskusage(10**12, 10**12, MIN_FREE_BYTES - 2**20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(OrchestratorError, match=r"only 199 MiB are free .* needs 200"):
        home.create()


# Finding


def test_room_for_logits_counts_what_is_there_while_others_remove_it(home: Home) -> None:
    folder = home.teacher_logits / "some"
    folder.mkdir(parents=True)
    (folder / "gone.bin").symlink_to(folder / "nowhere")
    before = home.room_for_logits()
    (folder / "sparse.bin").touch()
    os.truncate(folder / "sparse.bin", 10**13)
    assert home.room_for_logits() - before == pytest.approx(10**13, rel=0.01)


def test_an_experiment_is_found_by_name_or_id(home: Home, spec: ExperimentSpec) -> None:
    folder = start(home, spec)
    start(home, load_spec(BASE, {"name": "tiny-two"}))
    for name in ("tiny", spec.id):
        found = home.find(name)
        assert found.path == folder.path
        assert found.spec() == spec
    assert home.find("tiny-two").name == "tiny-two"


def test_of_several_with_one_name_the_latest_is_found(home: Home) -> None:
    specs = [load_spec(BASE, {"training.epochs": epochs}) for epochs in (3, 4, 5)]
    for spec, at in zip(specs, (200.0, 300.0, 100.0), strict=True):
        start(home, spec, at)
    assert [folder.id for folder in home.experiments()] == [specs[1].id, specs[0].id, specs[2].id]
    assert home.find("tiny").id == specs[1].id
    assert home.find(specs[2].id).id == specs[2].id
    with home.own(specs[0]).opened(specs[0]):
        assert home.find("tiny").id == specs[0].id
        assert home.find(specs[2].id).id == specs[2].id


def test_an_unknown_name_has_the_nearest_and_all_that_are_there(home: Home, spec: ExperimentSpec) -> None:
    with pytest.raises(UsageError, match=r"no experiment 'x'.*\n.*none yet"):
        home.find("x")
    start(home, spec)
    with pytest.raises(UsageError, match=f"did you mean '{spec.id}'") as caught:
        home.find(spec.id[:-1] + "_")
    assert spec.id in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_an_experiment_whose_spec_no_longer_loads_does_not_hide_the_others(home: Home, spec: ExperimentSpec) -> None:
    start(home, spec, 100.0)
    broken = start(home, load_spec(BASE, {"name": "other"}), 200.0)
    (broken.path / "spec.yaml").write_text("version: 0\n")
    assert home.find("tiny").id == spec.id
    assert home.find("other").id == broken.id


def test_a_folder_that_was_never_run_is_no_experiment(home: Home, spec: ExperimentSpec) -> None:
    home.experiment(spec).path.mkdir()
    assert home.experiments() == []


# One experiment


def test_opening_writes_the_spec_and_repairs_the_journal(home: Home, spec: ExperimentSpec) -> None:
    folder = start(home, spec)
    with folder.journal.path.open("a") as file:
        file.write('{"event": "crea')
    trial = Trial("a-000", Phase.SEARCH, "a", 0, 0, {"x": 1})
    with folder.opened(spec):
        folder.journal.append(created(trial))
        folder.journal.append(ended(Record(trial, Status.FINISHED, {"val/acc1": 1.0})))
    assert folder.spec().hash == spec.hash
    assert folder.records() == {"a-000": Record(trial, Status.FINISHED, {"val/acc1": 1.0})}
    assert {path.name for path in folder.path.iterdir()} <= {"lock", "spec.yaml", "journal.jsonl"}


def test_only_one_driver_holds_an_experiment(home: Home, spec: ExperimentSpec) -> None:
    folder = home.experiment(spec)
    with folder.opened(spec):
        assert home.experiment(spec).is_running()
        with (
            pytest.raises(UsageError, match="already running in another process") as caught,
            folder.opened(spec),
        ):
            pass
        assert spec.id in (caught.value.hint or "")
    assert not folder.is_running()
    with pytest.raises(RuntimeError), folder.opened(spec):
        raise RuntimeError
    assert not folder.is_running()


HOLDER = """
import sys, time
from orchestrator.spec import load_spec
from orchestrator.store.home import Home
spec = load_spec(sys.argv[2])
home = Home(sys.argv[1])
home.create()
folder = home.experiment(spec)
with folder.opened(spec):
    folder.journal.append({"event": "session"})
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_goes_with_a_killed_process(home: Home, spec: ExperimentSpec, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(to_yaml(spec.model_dump(exclude_unset=True)))
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, home.path, path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        folder = home.find("tiny")
        assert folder.is_running()
        with pytest.raises(UsageError, match="already running"), folder.opened(spec):
            pass
        with pytest.raises(UsageError, match="is running in another process"):
            folder.set_aside()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert not folder.is_running()
    with folder.opened(spec):
        assert len(folder.journal.read()) == 1


def test_asking_whether_it_runs_does_not_keep_it_from_starting(home: Home, spec: ExperimentSpec) -> None:
    folder = start(home, spec)
    code = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n  print('held', flush=True); time.sleep(0.2)"
    )
    asker = subprocess.Popen([sys.executable, "-c", code, folder.path / "lock"], stdout=subprocess.PIPE, text=True)
    assert asker.stdout.readline() == "held\n"
    with folder.opened(spec):
        pass
    asker.communicate()


def test_setting_aside_keeps_the_old_folder(home: Home, spec: ExperimentSpec) -> None:
    folder = home.experiment(spec)
    folder.set_aside()
    kept = []
    for round_ in range(3):
        start(home, spec, 100.0 + round_)
        folder.journal.append({"event": f"round {round_}"})
        kept.append(folder.journal.path.read_bytes())
        folder.set_aside()
        assert not folder.path.exists()
    aside = [path for path in home.experiments() if path.id.startswith(f"{spec.id}.before-")]
    assert sorted(path.journal.path.read_bytes() for path in aside) == sorted(kept)
    new = start(home, spec, time.time() + 10)
    assert home.find("tiny").path == new.path == home.find(spec.id).path
    assert {path.name for path in aside} == {"tiny"}


def test_those_who_look_do_not_see_each_other(home: Home, spec: ExperimentSpec) -> None:
    folder = start(home, spec)
    with looking(folder.path) as one, looking(folder.path) as other:
        assert (one, other) == (True, True)
        assert not folder.is_running()
    with folder.opened(spec), looking(folder.path) as free:
        assert not free


def test_looking_writes_nothing(home: Home, spec: ExperimentSpec, monkeypatch) -> None:
    """So that a copy on a read-only file system can be looked at, and whoever may not read the lock is told no lie."""
    folder = start(home, spec)
    (folder.path / "lock").unlink()
    assert not folder.is_running()
    assert not (folder.path / "lock").exists()
    opened = os.open

    def refuse(path: str, flags: int, *more: object) -> int:
        if Path(path).name == "lock":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    assert not folder.is_running()


def test_a_folder_is_not_set_aside_from_under_a_driver(home: Home, spec: ExperimentSpec, monkeypatch) -> None:
    folder, rename = start(home, spec), Path.rename
    refused = []

    def rename_late(path: Path, to: Path) -> Path:
        # A driver that begins in the meantime.
        with pytest.raises(UsageError, match="already running"), home.experiment(spec).opened(spec):
            pass
        refused.append(path)
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_late)
    folder.set_aside()
    assert refused == [folder.path]


def test_what_was_set_aside_meanwhile_is_not_driven(home: Home, spec: ExperimentSpec, monkeypatch) -> None:
    folder, acquire = start(home, spec), FileLock.acquire

    def acquire_late(lock: FileLock, *given: object, **named: object) -> object:
        held = acquire(lock, *given, **named)
        folder.path.rename(folder.path.with_name("elsewhere"))
        return held

    monkeypatch.setattr(FileLock, "acquire", acquire_late)
    with pytest.raises(UsageError, match="set aside by another process just now"), folder.opened(spec):
        pass


# One trial


def test_the_time_of_all_sessions_is_summed_up(home: Home, spec: ExperimentSpec, monkeypatch) -> None:
    folder = home.experiment(spec)
    assert folder.seconds() == 0
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    folder.path.mkdir()
    # Each session lasts until the last event that it wrote; between two of them nothing is counted.
    for started, ends in [(1000.0, [1001.0, 1010.0]), (2000.0, [2005.0]), (3000.0, [])]:
        clock[0] = started
        folder.journal.append({"event": "session", "started": started})
        for clock[0] in ends:
            folder.journal.append({"event": "ended"})
    assert folder.seconds() == 15
    # Nor is a session that ended, or only caught up with the tracker, before it ran any trial.
    clock[0] = 90_000.0
    folder.journal.append({"event": "tracked"})
    assert folder.seconds() == 15
    # Nor the time until somebody extends it.
    clock[0] = 95_000.0
    folder.journal.append({"event": "extended"})
    assert folder.seconds() == 15
