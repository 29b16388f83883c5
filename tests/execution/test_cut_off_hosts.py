"""Hosts with addresses of their own, in network namespaces, one of which loses its network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.search.trials import Phase, Status
from orchestrator.store.journal import Journal
from tests.execution.conftest import Shell

TOKEN = "a-token-of-this-test-alone-0123456789"
NOTICED = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "1000"}
"""How soon the head takes a silent host for dead; by default that is after a minute."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)


def namespaces_work() -> bool:
    """Whether hosts can be made here: namespaces, and what joins them."""
    if shutil.which("ip") is None:
        return False
    name = f"p{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("link", "add", f"b{name}", "type", "bridge")
        ip("link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"v{name}", "master", f"b{name}", "up")
    except (subprocess.SubprocessError, OSError):
        return False
    finally:
        for words in (("link", "del", f"v{name}"), ("link", "del", f"b{name}"), ("netns", "del", name)):
            subprocess.run(["ip", *words], capture_output=True)
    return True


class Hosts:
    """Namespaces on a bridge, each with an address of its own and processes that are started in it."""

    def __init__(self, count: int, folder: Path) -> None:
        self._tag = f"{os.getpid() % 100_000}"
        self._net = f"10.{77 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.names = [f"h{self._tag}-{number}" for number in range(count)]
        self.environment = {**os.environ, **NOTICED, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}

    def make(self) -> None:
        ip("link", "add", self._bridge, "type", "bridge")
        ip("link", "set", self._bridge, "up")
        for number, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("link", "add", self._link(number), "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", self._link(number), "master", self._bridge, "up")
            ip("-n", name, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")

    @property
    def _bridge(self) -> str:
        return f"br{self._tag}"

    def _link(self, number: int) -> str:
        return f"v{self._tag}-{number}"

    def address(self, number: int) -> str:
        return f"{self._net}.{number + 1}"

    def command(self, number: int, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[number], *words]

    def start_ray(self, number: int, *words: str) -> None:
        ray, place = str(Path(sys.executable).with_name("ray")), self._folder / f"ray{number}"
        arguments = [f"--node-ip-address={self.address(number)}", f"--temp-dir={place}", "--disable-usage-stats"]
        said = self._folder / f"ray{number}.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                self.command(number, ray, "start", *words, *arguments, "--block"),
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        end = time.monotonic() + 60
        while "Ray runtime started" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.2)

    def cut_off(self, number: int) -> None:
        ip("link", "set", self._link(number), "down")

    def close(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for number, name in enumerate(self.names):
            # What Ray has started in a namespace ends with it.
            for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "link", "del", self._link(number)], capture_output=True)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    # Ray's sockets lie below it, and their names may not be long.
    folder = Path(f"/tmp/hosts-{os.getpid()}")
    folder.mkdir()
    made = Hosts(3, folder)
    try:
        made.make()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(not namespaces_work(), reason="network namespaces cannot be made here")
def test_a_search_finishes_on_the_hosts_that_are_left(shell: Shell, hosts: Hosts) -> None:
    head = f"{hosts.address(0)}:6379"
    hosts.start_ray(0, "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false")
    for number in (1, 2):
        hosts.start_ray(number, f"--address={head}", "--num-cpus=1")
    changes = {"search.num_samples": 1, "search.final_seeds": 0, "training.epochs": 200}
    spec = shell.spec({**changes, "training.checkpoint_interval_s": 0})
    words = ["--home", str(shell.home), "run", str(spec), "--address", head]
    with (shell.folder / "out.txt").open("w") as out:
        running = subprocess.Popen(
            hosts.command(0, sys.executable, "-m", "orchestrator", *words),
            env=hosts.environment,
            cwd=shell.folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for_two_trials(shell, running)
        hosts.cut_off(2)
        assert running.wait(150) == 0, (shell.folder / "out.txt").read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    records = shell.records()
    assert {record.status for record in records.values()} == {Status.FINISHED}
    events = Journal(shell.experiment() / "journal.jsonl").read()
    assert [event for event in events if event.get("status") == "interrupted"], "no trial was on that host"
    # The host that was cut off still has the shared folder; what it trained on with is not there twice.
    for record in records.values():
        if record.trial.phase is Phase.SEARCH:
            lines = (shell.experiment() / "trials" / record.trial.id / "metrics.jsonl").read_text().splitlines()
            assert len(lines) == record.epochs == 200


def wait_for_two_trials(shell: Shell, running: subprocess.Popen[bytes]) -> None:
    """Until one trial trains on each host."""
    end = time.monotonic() + 120
    while len(list(shell.home.glob("experiments/tiny-*/trials/*-[0-9]*/checkpoints/*"))) < 4:
        assert running.poll() is None, (shell.folder / "out.txt").read_text()
        assert time.monotonic() < end, "the search did not begin in time"
        time.sleep(0.05)
