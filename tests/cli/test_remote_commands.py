"""Commands for a cluster, as far as they go without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.cli.remote import home_there
from orchestrator.errors import UsageError
from orchestrator.execution import jobs as module
from orchestrator.execution.jobs import Job, Setup

URL = "http://10.0.0.1:8265"


class Cluster:
    """Stands for `Jobs`: has one job, and answers each command in the same way."""

    def __init__(self) -> None:
        self.job = Job("tiny-12345678-1", "tiny-12345678", 1, "running", Setup("/shared/home", "/opt/python"))
        self.answer = (0, "{}")
        self.asked: list[tuple[list[str], str, str]] = []
        """Words, home folder and Python of each command."""
        self.pip: tuple[str, ...] = ()
        """Of the last one."""
        self.found: list[tuple[str | None, str | None]] = []
        """What was looked for, and what for."""

    def __call__(self, address: str) -> Cluster:
        assert address == URL
        return self

    def find(self, name: str | None, to: str | None = None) -> Job:
        self.found.append((name, to))
        return self.job

    def stop(self, job: Job) -> Job:
        return job

    def command(self, words: Sequence[str], package: Any, setup: Setup) -> tuple[int, str]:
        self.asked.append((list(words), setup.home, setup.python))
        self.pip = setup.pip
        return self.answer


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(module, "Jobs", made)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--address", URL])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


def test_a_home_folder_there_begins_at_its_root_or_with_its_user() -> None:
    assert [home_there(path) for path in ("/shared/home", "~/home", "s3://bucket")] == [
        "/shared/home",
        "~/home",
        "s3://bucket",
    ]
    for path in ("home", "./home"):
        with pytest.raises(UsageError, match="must begin with / or ~"):
            home_there(path)


def test_a_command_runs_in_the_home_and_with_the_python_of_its_experiment(run: Any, cluster: Cluster) -> None:
    run("results", "tiny")
    words = ["results", "tiny-12345678", "--format", "table", "--rows", "trials"]
    assert cluster.asked == [(words, "/shared/home", "/opt/python")]


@pytest.mark.parametrize("words", [("--home", "/other", "stop", "tiny"), ("stop", "tiny", "--home", "/other")])
def test_the_home_folder_there_may_be_given_before_or_after_the_command(
    run: Any, cluster: Cluster, words: tuple[str, ...]
) -> None:
    assert run(*words)[0] == 0
    assert cluster.asked == [(["stop", "tiny-12345678"], "/other", "/opt/python")]


def test_a_folder_of_this_machine_is_refused_before_the_command_too(run: Any, cluster: Cluster) -> None:
    code, _, told = run("--home", "./home", "status")
    assert code == 2
    assert "must begin with / or ~" in told


@pytest.mark.parametrize("words", [("list",), ("logs", "tiny"), ("pause", "tiny")])
def test_home_is_refused_where_it_changes_nothing(run: Any, cluster: Cluster, words: tuple[str, ...]) -> None:
    code, _, told = run("--home", "/other", *words)
    assert code == 2
    assert f"{words[0]} takes no --home with --address" in told


@pytest.mark.parametrize(("state", "code"), [("running", 2), ("pending", 0)])
def test_what_status_cannot_tell_is_told_as_json_too(run: Any, cluster: Cluster, state: str, code: int) -> None:
    cluster.job = Job("tiny-12345678-1", "tiny-12345678", 1, state)
    cluster.answer = (2, "error: journal.jsonl: line 3 is damaged\n")
    ended, told, _ = run("status", "--format", "json")
    assert ended == code
    found = json.loads(told)
    assert found["error"] == "error: journal.jsonl: line 3 is damaged"
    assert found["job"]["state"] == state


def test_doctor_takes_the_python_that_it_is_given_and_none_of_an_earlier_job(run: Any, cluster: Cluster) -> None:
    run("doctor")
    run("doctor", "--python", "/opt/env/bin/python")
    assert [python for _, _, python in cluster.asked] == ["python", "/opt/env/bin/python"]
    assert cluster.pip == ()
    run("doctor", "--pip")
    assert any(needed.startswith("torch==") for needed in cluster.pip)


@pytest.mark.parametrize("words", [("doctor",), ("submit", "spec.yaml")])
def test_packages_are_installed_for_the_python_that_ray_runs_in(
    run: Any, cluster: Cluster, words: tuple[str, ...]
) -> None:
    code, _, told = run(*words, "--pip", "--python", "/opt/python")
    assert code == 2
    assert "--pip and --python exclude each other" in told
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("words", "to"),
    [
        (("stop", "tiny"), "stop"),
        (("pause", "tiny"), "pause"),
        (("extend", "tiny", "--num-samples", "4"), "extend"),
        (("results", "tiny"), None),
        (("status", "tiny"), None),
    ],
)
def test_whose_it_is_is_told_beside_what_programs_read(
    run: Any, cluster: Cluster, words: tuple[str, ...], to: str | None
) -> None:
    cluster.job = replace(cluster.job, owner="somebody-else")
    _, told, beside = run(*words, "--format", "json")
    json.loads(told)
    assert beside == "tiny-12345678 is somebody-else's\n"
    assert cluster.found == [("tiny", to)]


def test_experiments_are_compared_where_the_first_one_lies(run: Any, cluster: Cluster) -> None:
    run("compare", "tiny", "other")
    run("compare", "tiny", "/elsewhere/other")
    words = [asked[:3] for asked, _, _ in cluster.asked]
    assert words == [["compare", "tiny-12345678", "tiny-12345678"], ["compare", "tiny", "/elsewhere/other"]]
    assert cluster.asked[0][1:] == ("/shared/home", "/opt/python")


def test_python_is_for_a_cluster_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--python", "python3"])
    assert caught.value.code == 2
    assert "--python is for a cluster" in capsys.readouterr().err
