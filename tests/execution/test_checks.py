"""What is found on a machine, and what of it keeps experiments from running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DataError
from orchestrator.execution import checks, preflight
from orchestrator.execution.checks import DataPlace, Finding, Request, State, Tracked, examine, versions
from orchestrator.execution.preflight import PreflightError
from orchestrator.store.home import Home
from orchestrator.store.remote import Remote


def found(home: Path | str, check: str, **more: Any) -> list[Finding]:
    request = Request(str(home), **{"versions": versions(), **more})
    return [finding for finding in examine(request) if finding.check == check]


def test_a_machine_that_is_as_it_should_be(tmp_path: Path) -> None:
    findings = examine(Request(str(tmp_path), versions(), [DataPlace("digits", None)]))
    assert {finding.check for finding in findings} == {"versions", "home folder", "memory", "disk", "data digits"}
    assert not [finding for finding in findings if finding.state is State.BROKEN]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("package", "state"),
    [
        ("torch", State.BROKEN),
        ("the orchestrator's code", State.BROKEN),
        ("Python", State.BROKEN),
        ("numpy", State.WARNING),
    ],
)
def test_other_versions_are_told(tmp_path: Path, package: str, state: State) -> None:
    (finding,) = found(tmp_path, "versions", versions={**versions(), package: "0.0"})
    assert finding.state is state
    assert f"{package} {versions()[package]} instead of 0.0" in finding.found


def test_a_home_folder_that_is_another_one(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "home folder", mark=".nodes-1")
    assert finding.state is State.BROKEN
    assert "is not the folder that the driver writes to" in finding.found
    (tmp_path / ".nodes-1").write_text("")
    (finding,) = found(tmp_path, "home folder", mark=".nodes-1")
    assert finding.state is State.OK


def test_a_home_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (finding,) = found(Path("/proc/orchestrator"), "home folder")
    assert finding.state is State.BROKEN
    assert "cannot write to /proc" in finding.found


def test_a_home_in_an_object_store(s3: str, tmp_path: Path) -> None:
    home = f"{s3}/home"
    place = Home(home)
    assert place.remote is not None
    (finding,) = found(home, "home folder")
    assert (finding.state, finding.found) == (State.OK, f"{home}: written and read back")
    (finding,) = found(home, "home folder", mark=".nodes-1")
    assert finding.state is State.BROKEN
    assert "what the driver has written is not there" in finding.found
    place.remote.write(place.path / ".nodes-1", b"")
    (finding,) = found(home, "home folder", mark=".nodes-1")
    assert finding.state is State.OK
    assert list(place.remote.entries(place.path)) == [place.path / ".nodes-1"]
    (finding,) = found("s3://no-such-bucket/home", "home folder")
    assert finding.state is State.BROKEN
    assert "create the bucket" in finding.advice


def test_data_in_an_object_store(s3: str, tmp_path: Path) -> None:
    place = [DataPlace("arrays", f"{s3}/images.npz")]
    (finding,) = found(tmp_path, "data arrays", data=place)
    assert finding.state is State.BROKEN
    assert f"nothing in {s3}/images.npz" in finding.found
    Remote(s3, tmp_path).write(tmp_path / "images.npz", b"")
    (finding,) = found(tmp_path, "data arrays", data=place)
    assert (finding.state, finding.found) == (State.OK, f"1 files in {s3}/images.npz")


def test_nothing_is_left_behind_where_there_is_no_home_yet(tmp_path: Path) -> None:
    (finding,) = found(tmp_path / "a" / "home", "home folder")
    assert (finding.state, list(tmp_path.iterdir())) == (State.OK, [])


@pytest.mark.parametrize(("free", "state"), [(8 * 10**9, State.OK), (10**9, State.WARNING), (10**8, State.BROKEN)])
def test_little_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State) -> None:
    monkeypatch.setattr(checks, "_free_memory", lambda: free)
    assert [finding.state for finding in found(tmp_path, "memory")] == [state]


def test_little_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        total, free = 10**12, 10**8

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    assert {finding.state for finding in found(tmp_path, "disk")} == {State.BROKEN}
    Usage.free = 2 * 10**10
    assert {finding.state for finding in found(tmp_path, "disk")} == {State.WARNING}


def test_data_that_is_not_there_says_what_to_put_where(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "data cifar10", data=[DataPlace("cifar10", str(tmp_path))])
    assert finding.state is State.BROKEN
    assert str(tmp_path / "cifar-10-python.tar.gz") in finding.found
    assert "put cifar-10-python.tar.gz" in finding.advice
    (finding,) = found(tmp_path, "data cifar10", data=[DataPlace("cifar10", str(tmp_path), download=True)])
    assert finding.state is State.OK
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    (finding,) = found(tmp_path, "data cifar10", data=[DataPlace("cifar10", str(tmp_path))])
    assert (finding.state, finding.found) == (State.OK, str(tmp_path / "cifar-10-python.tar.gz"))


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "data cifar10", data=[DataPlace("cifar10", "${env:NOT_SET}/data")])
    assert finding.state is State.BROKEN
    assert "NOT_SET" in finding.found


@pytest.mark.parametrize(
    ("uri", "told"),
    [("http://me:secret@127.0.0.1:9", "http://127.0.0.1:9 cannot be used"), ("${env:NOT_SET}", "NOT_SET")],
)
def test_a_node_that_cannot_write_to_mlflow_is_warned_of(tmp_path: Path, uri: str, told: str) -> None:
    (finding,) = found(tmp_path, "MLflow", tracked=Tracked(uri, "checked"))
    assert finding.state is State.WARNING
    assert told in finding.found
    assert "secret" not in finding.found
    assert "the driver alone records" in finding.advice


def test_mlflow_in_a_file_is_the_drivers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE", f"sqlite:///{tmp_path}/mlflow.db")
    assert found(tmp_path, "MLflow", tracked=Tracked("${env:STORE}", "checked")) == []
    assert list(tmp_path.iterdir()) == []


def test_everything_lists_the_data_sets_and_the_precision(tmp_path: Path) -> None:
    findings = {f.check: f for f in examine(Request(str(tmp_path), versions(), everything=True))}
    assert findings["data"].state is State.ABSENT
    assert "cifar100" in findings["data"].found
    assert findings["devices"].state is State.OK
    assert findings["precision"].found.startswith("auto is ")


def test_a_gpu_that_is_not_there_is_missed_where_one_is_needed(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (finding,) = found(tmp_path, "devices", gpus=1)
    assert finding.state is State.BROKEN


def test_one_check_that_stumbles_hides_no_other() -> None:
    def stumble() -> list[Finding]:
        raise ZeroDivisionError("by chance")

    def refuse() -> list[Finding]:
        raise DataError("not there", hint="put it there")

    assert checks.guarded("a", stumble) == [Finding("a", State.BROKEN, "ZeroDivisionError: by chance")]
    assert checks.guarded("b", refuse) == [Finding("b", State.BROKEN, "not there", "put it there")]


def test_a_node_that_has_gone_is_not_said_to_lack_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import NodeDiedError

    def gone(answer: Any) -> None:
        raise NodeDiedError("the node has gone")

    monkeypatch.setattr("ray.get", gone)
    (finding,) = preflight._answer(None)
    assert (finding.check, finding.state, finding.found) == ("node", State.BROKEN, "the node has gone")


def test_a_cluster_that_cannot_run_it_is_told_as_a_table() -> None:
    findings = [
        Finding("data cifar10", State.BROKEN, "is not there", "put it there", "10.0.0.2"),
        Finding("MLflow", State.WARNING, "does not answer", "", "10.0.0.3"),
        Finding("disk", State.BROKEN, "is full", "", "10.0.0.17"),
    ]
    assert str(PreflightError(findings)).splitlines() == [
        "2 nodes of the cluster cannot run this experiment",
        "  node       what          is wrong; what to do",
        "  10.0.0.2   data cifar10  is not there; put it there",
        "  10.0.0.17  disk          is full",
        "  10.0.0.3   MLflow        warning: does not answer",
    ]
