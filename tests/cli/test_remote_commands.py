"""Commands for a cluster, as far as they go without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.cli.remote import home_there
from orchestrator.errors import UsageError
from orchestrator.execution import jobs as module
from orchestrator.execution.jobs import Job

URL = "http://10.0.0.1:8265"


class Cluster:
    """Stands for `Jobs`: has one job, and answers each command in the same way."""

    def __init__(self) -> None:
        self.job = Job("tiny-12345678-1", "tiny-12345678", 1, "running", "/shared/home", "/opt/python")
        self.answer = (0, "{}")
        self.asked: list[tuple[list[str], str | None, str]] = []
        """Words, home folder and Python of each command."""

    def __call__(self, address: str) -> Cluster:
        assert address == URL
        return self

    def find(self, name: str | None) -> Job:
        return self.job

    def command(self, words: Sequence[str], package: Any, home: str | None, python: str) -> tuple[int, str]:
        self.asked.append((list(words), home, python))
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
    cluster.job = Job("tiny-12345678-1", "tiny-12345678", 1, state, "/shared/home")
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


def test_python_is_for_a_cluster_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--python", "python3"])
    assert caught.value.code == 2
    assert "--python is for a cluster" in capsys.readouterr().err
