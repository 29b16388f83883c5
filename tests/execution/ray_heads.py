"""Ray clusters of a test's own, with token authentication, on loopback; each node is a process with its own ports."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TOKEN = "a-token-of-this-test-alone-0123456789"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_head(
    dashboard: int | None = None, variables: Mapping[str, str] | None = None, *, cpus: int = 2
) -> Iterator[str]:
    """Start Ray's head with a resource of its own, lab; yields Ray's own address.

    Its dashboard is at the port `dashboard`, if there is one.
    """
    port = free_port()
    arguments = ["--head", f"--port={port}", f"--num-cpus={cpus}", f"--ray-client-server-port={free_port()}"]
    arguments.append('--resources={"lab": 1}')
    if dashboard is None:
        arguments.append("--include-dashboard=false")
    else:
        arguments += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    with _node(f"head-{port}", arguments, variables) as process:
        end = time.monotonic() + 60
        while dashboard and not _listens(dashboard):
            assert process.poll() is None
            assert time.monotonic() < end, "the dashboard did not start in time"
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"


@contextmanager
def ray_worker(head: str, variables: Mapping[str, str] | None = None) -> Iterator[int]:
    """Start a node of two CPUs that joins the head at this address; yields its process's number."""
    arguments = [f"--address={head}", "--num-cpus=2", "--min-worker-port=0", "--max-worker-port=0"]
    with _node(f"worker-{free_port()}", arguments, variables) as process:
        yield process.pid


def ray_files() -> list[Path]:
    """Logs, and what else this process's nodes have written."""
    folders = Path("/tmp").glob(f"ray-{os.getpid()}-*")
    return [path for folder in folders for path in (folder, *folder.rglob("*")) if path.is_file()]


@contextmanager
def _node(name: str, arguments: list[str], variables: Mapping[str, str] | None) -> Iterator[subprocess.Popen[bytes]]:
    # Ray's sockets lie below it, and their names may not be long.
    folder = Path(f"/tmp/ray-{os.getpid()}-{name}")
    python = Path(sys.executable)
    log = Path(f"{folder}.log")
    own = [f"--temp-dir={folder}", "--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={free_port()}"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(python.with_name("ray")), "start", *arguments, *own, "--disable-usage-stats", "--block"],
            env={
                **os.environ,
                "PATH": f"{python.parent}:{os.environ['PATH']}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": TOKEN,
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
                **(variables or {}),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, f"Ray did not start in time: {log.read_text()}"
            time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
