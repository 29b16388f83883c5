"""Small real experiments, run the way a user does: the command line, a local Ray, a sqlite MLflow store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.search.trials import Phase, Record, replay
from orchestrator.store.journal import Journal

SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits", "train_samples": 60, "validation_fraction": 0.1},
    "teacher": {
        "model": "resnet8",
        "width": 0.25,
        "training": {"epochs": 2, "schedule": {"method": "constant"}},
    },
    "student": {"model": "resnet8", "width": 0.125},
    "distillation": {"temperature": {"method": "flsw", "base": 4, "beta": 10, "min": 1, "max": 12}},
    "training": {"epochs": 3, "batch_size": 30, "schedule": {"method": "cosine"}},
    "search": {
        "sampler": "random",
        "num_samples": 2,
        "final_seeds": 2,
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.1}},
        "variants": {
            "alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}},
            "la+dtd": {
                "set": {"distillation.adjustment": {"rule": "probability_shift"}},
                "space": {"distillation.temperature.max": {"type": "uniform", "low": 6, "high": 16}},
            },
        },
    },
}


def below(name: str, ancestor: int | None = None) -> dict[int, str]:
    """Processes of this name, such as a Ray actor's class, that descend from this process or another one.

    Returns the command of each.
    """
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().decode().rstrip("\0")
            except OSError:
                continue

    def descends(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == (ancestor or os.getpid()):
                return True
        return False

    return {pid: command for pid, command in commands.items() if name in command and descends(pid)}


def descendants(name: str, ancestor: int | None = None) -> list[int]:
    return sorted(below(name, ancestor))


class Shell:
    """One home folder and the commands that are run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.environment = {
            k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "ORCHESTRATOR_HOME")
        }
        self._processes: list[subprocess.Popen[str]] = []

    def spec(self, changes: dict[str, Any] | None = None, name: str = "spec.yaml") -> Path:
        """Write the small spec with top-level sections or dotted paths changed."""
        from orchestrator.spec.experiment import assign

        path = self.folder / name
        path.write_text(yaml.safe_dump(assign(SPEC, changes or {}), sort_keys=False))
        return path

    def run(self, *arguments: str | Path, timeout: float = 270) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, output, "")

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does."""
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "--home", self.home, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def results(self, name: str = "tiny") -> dict[str, Any]:
        done = self.run("results", name, "--format", "json")
        assert done.returncode == 0, done.stdout
        return dict(json.loads(done.stdout))

    def experiment(self, name: str = "tiny") -> Path:
        (found,) = (self.home / "experiments").glob(f"{name}-????????")
        return found

    def records(self, name: str = "tiny") -> dict[str, Record]:
        return replay(Journal(self.experiment(name) / "journal.jsonl").read())

    def wait_until(self, condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < end, "the experiment did not get there in time"
            time.sleep(0.1)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Shell, subprocess.CompletedProcess[str]]]:
    """A small experiment that has run to its end, and what the command printed."""
    made = Shell(tmp_path_factory.mktemp("finished"))
    done = made.run("run", made.spec())
    yield made, done
    made.close()


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a teacher that was trained by its own trial, for `session_trials`."""
    from orchestrator.execution.cache import Cache
    from orchestrator.execution.session import Session
    from tests.execution.session_trials import finish, job

    folder = tmp_path_factory.mktemp("teacher")
    weights = folder / "teacher.safetensors"
    finish(Session(job(folder, Phase.TEACHER, weights), Cache()))
    return weights
