"""Joining a Ray that runs already."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.search.trials import Status
from tests.execution.conftest import Shell

TOKEN = "a-token-of-this-test-alone-0123456789"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray head of its own, with token authentication, on loopback."""
    port = free_port()
    # Ray's sockets lie below it, and their names may not be long.
    folder = Path(f"/tmp/ray-{os.getpid()}-{port}")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    arguments = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", f"--temp-dir={folder}"]
    arguments.append('--resources={"lab": 1}')
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", *arguments, "--include-dashboard=false", "--block"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < end, "Ray's head did not start in time"
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def test_an_experiment_runs_on_a_cluster_that_asks_for_a_token(shell: Shell, head: str) -> None:
    spec = shell.spec({"search.num_samples": 1, "search.final_seeds": 1, "resources.custom_resources": {"lab": 0.5}})
    shell.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    done = shell.run("run", spec, "--address", head)
    assert done.returncode == 0, done.stdout
    assert f"joining Ray at {head}" in done.stdout
    assert {record.status for record in shell.records().values()} == {Status.FINISHED}
    for path in shell.home.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_where_nothing_listens_is_said_at_once(shell: Shell) -> None:
    began = time.monotonic()
    done = shell.run("run", shell.spec(), "--address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "cannot be joined" in done.stdout
    assert "Connection refused" in done.stdout
    assert "Traceback" not in done.stdout
    assert time.monotonic() - began < 60
