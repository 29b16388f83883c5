"""The description of what a run's results depend on."""

import getpass
import json
import platform
import socket
import subprocess
import sys
from importlib import metadata

import pytest

from orchestrator import environment


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_versions_and_machine_are_described_as_json():
    described = json.loads(json.dumps(environment.describe()))
    assert described["python"] == platform.python_version()
    assert described["cpus"] >= 1
    assert described["gpus"] >= 0
    for name in ("torch", "ray", "mlflow", "optuna", "pydantic"):
        assert described[name] == metadata.version(name)


def test_a_package_that_is_not_installed_is_said_to_be_so(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package",))
    assert environment.describe()["no-such-package"] == "not installed"


def test_nothing_identifies_a_person_a_host_or_a_password(monkeypatch):
    command = ["run", "/home/somebody/spec.yaml", "--set", "tracking.uri=http://me:secret@host.example:5000"]
    monkeypatch.setattr(sys, "argv", ["/home/somebody/bin/orchestrator", *command])
    text = json.dumps(environment.describe())
    assert '"orchestrator run"' in text
    for private in ("somebody", "secret", "host.example", socket.gethostname()):
        assert private not in text
    if getpass.getuser() != "root":
        assert getpass.getuser() not in text


def test_the_commit_is_that_of_the_folder(repository):
    assert environment.git_commit(repository) == git(repository, "rev-parse", "HEAD")


def test_changed_files_are_marked_and_new_ones_are_not(repository):
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "new.txt").write_text("new")
    assert environment.git_commit(repository) == commit
    (repository / "a.txt").write_text("two")
    assert environment.git_commit(repository) == f"{commit} (changed)"


def test_outside_a_repository_or_without_git_there_is_no_commit(tmp_path, repository, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert environment.git_commit(outside) == ""
    monkeypatch.setenv("PATH", "")
    assert environment.git_commit(repository) == ""


def test_the_owner_is_the_user_or_who_is_named(monkeypatch):
    assert environment.owner() == getpass.getuser()
    monkeypatch.setenv("ORCHESTRATOR_OWNER", "ada")
    assert environment.owner() == "ada"


def test_a_user_without_a_name_is_unknown(monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert environment.owner() == "unknown"
