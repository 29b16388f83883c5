"""Signals: noted at first, the end at the second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator import load_spec
from orchestrator.execution.interrupt import Interrupt, catching
from orchestrator.execution.runner import run_experiment
from orchestrator.search.trials import Status
from orchestrator.store.home import Home
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.memory import MemoryTracker
from orchestrator.tracking.views import Contents
from tests.execution.conftest import SPEC, Shell


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_told_and_the_second_raises(number: signal.Signals) -> None:
    told = threading.Event()
    interrupt = Interrupt(told.set)
    before = signal.getsignal(number)
    with catching(interrupt):
        interrupt.check()
        signal.raise_signal(number)
        assert interrupt
        assert told.wait(5)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with catching(Interrupt()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_second_signal_ends_the_process_with_its_last_words(tmp_path: Path) -> None:
    program = """
import time
from orchestrator.execution.interrupt import Interrupt, catching
with catching(Interrupt(lambda: print("saving", flush=True), lambda: "last words", 2)):
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "last words"


def test_a_signal_while_the_tracker_opens_leaves_nothing_marked_as_running(tmp_path: Path) -> None:
    interrupt = Interrupt()

    class Interrupted(MemoryTracker):
        def open(self, experiment: RunInfo, seen: Contents | None = None) -> None:
            super().open(experiment, seen)
            interrupt.handle(signal.SIGINT, None)

    tracker = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_experiment(load_spec(SPEC), Home(tmp_path / "home"), tracker=tracker, interrupt=interrupt)
    assert tracker.experiment is not None
    assert tracker.experiment.status is Status.INTERRUPTED


@pytest.mark.parametrize("stage", ["opening MLflow", "starting Ray"])
def test_ctrl_c_while_the_run_starts(shell: Shell, stage: str) -> None:
    process = shell.start("run", shell.spec())
    assert process.stdout is not None
    lines = _read_until(process, stage)
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(lines) + rest
    assert "Continue with" in rest
    assert "Traceback" not in rest


def test_a_second_ctrl_c_ends_at_once_and_the_experiment_goes_on_later(shell: Shell) -> None:
    spec = shell.spec({"training.epochs": 400, "search.final_seeds": 0, "search.num_samples": 1})
    process = shell.start("run", spec)
    _read_until(process, "starting Ray")
    os.killpg(process.pid, signal.SIGINT)
    _read_until(process, "again")
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 130, rest
    assert time.monotonic() - began < 5
    assert f"orchestrator run {spec}" in rest
    assert "continue with" in shell.run("status").stdout


def _read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


def test_a_polite_kill_leaves_time_to_save_once_ray_runs(tmp_path: Path) -> None:
    """Ray's own handler would abort the process after 3 seconds."""
    program = """
import signal, sys, time
from pathlib import Path
from orchestrator.execution.cluster import ray_session
from orchestrator.execution.interrupt import Interrupt, catching
from orchestrator.machine import Machine
interrupt = Interrupt()
with catching(interrupt), ray_session(None, Machine(cpus=1, gpus=0), Path("ray.log")):
    signal.raise_signal(signal.SIGTERM)
    time.sleep(4)
    print("saved" if interrupt else "never told")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "saved\n"), done.stderr
