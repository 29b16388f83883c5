"""Ray heads of a test's own, with token authentication, on loopback."""

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
def ray_head(dashboard: int | None = None, variables: Mapping[str, str] | None = None) -> Iterator[str]:
    """Start Ray's head with two CPUs and a resource of its own, lab; yields Ray's own address.

    Its dashboard is at the port `dashboard`, if there is one.
    """
    port = free_port()
    # Ray's sockets lie below it, and their names may not be long.
    folder = Path(f"/tmp/ray-{os.getpid()}-{port}")
    arguments = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", f"--temp-dir={folder}"]
    arguments.append('--resources={"lab": 1}')
    arguments += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    if dashboard is None:
        arguments.append("--include-dashboard=false")
    else:
        arguments += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    python = Path(sys.executable)
    log = Path(f"{folder}.log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(python.with_name("ray")), "start", *arguments, "--disable-usage-stats", "--block"],
            env={
                **os.environ,
                "PATH": f"{python.parent}:{os.environ['PATH']}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": TOKEN,
                **(variables or {}),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text() or (dashboard and not _listens(dashboard)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, f"Ray's head did not start in time: {log.read_text()}"
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
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
