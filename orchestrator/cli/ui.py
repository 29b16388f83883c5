"""ui: MLflow's pages on the local store."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.options import Format, FormatOption, HomeOption
from orchestrator.cli.terminal import is_quiet, is_verbose, screen
from orchestrator.errors import OrchestratorError, TrackingError, UsageError
from orchestrator.spec import ExperimentSpec
from orchestrator.store.home import Home

DEFAULT_PORT = 5000
LATEST = 3
"""Experiments whose pages are named."""
GRACE_S = 5.0
"""Seconds that MLflow gets to end by itself."""


def ui(
    port: Annotated[int, typer.Option(metavar="PORT", help="Port to listen on.", min=1, max=65535)] = DEFAULT_PORT,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; anything but loopback is open to the network."),
    ] = "127.0.0.1",
    format: FormatOption = Format.TABLE,
    home: HomeOption = None,
) -> int:
    """Open MLflow's pages on the home folder's store, for this machine alone; Ctrl-C ends it."""
    place = Home(home)
    if not (place.path / "mlflow.db").exists():
        raise UsageError(f"there is no MLflow store in {place} yet", hint="run an experiment first")
    _check_port(host, port)
    _close_orphans(place)
    latest = _latest_pages(place)
    console = screen()
    log = place.path / "mlflow-ui.log"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", place.tracking_uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    signal.signal(signal.SIGTERM, _end)
    people = format is Format.TABLE and not is_quiet()
    with nullcontext(sys.stderr) if is_verbose() else log.open("w") as output:
        # A group of its own, as the server starts processes that have to end with it.
        process = subprocess.Popen(
            command,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with console.status("MLflow starts, which takes a few seconds") if people else nullcontext():
            while process.poll() is None and not _listens(host, port):
                time.sleep(0.2)
        if process.poll() is None:
            server = f"http://{host}:{port}"
            if format is Format.JSON:
                pages = {name: f"{server}{page}" for name, page in latest}
                told = {"url": server, "pages": pages, "log": None if is_verbose() else str(log)}
                console.file.write(json.dumps(told) + "\n")
            else:
                console.print(f"MLflow: [bold]{server}[/]  (Ctrl-C ends it; its log: {log})", soft_wrap=True)
                for name, page in latest:
                    console.print(f"{name}: {server}{page}", soft_wrap=True, markup=False)
            console.file.flush()
        code = process.wait()
    except KeyboardInterrupt:
        if people:
            console.print("\nMLflow has ended.")
        return 0
    finally:
        # A server that is only starting may not listen to the first.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(GRACE_S)
    raise OrchestratorError(f"MLflow ended with exit code {code}", hint=f"its log says why: {log}")


def where_to_look(spec: ExperimentSpec, id: str, home: Home, console: Console) -> None:
    """Tell where the runs of an experiment are shown, which has this id."""
    from orchestrator.execution.runner import tracking_uri
    from orchestrator.passwords import redacted
    from orchestrator.tracking.mlflow_store import find_page

    uri, local = tracking_uri(spec, home)
    server = f"http://127.0.0.1:{DEFAULT_PORT}" if local else uri
    experiment = spec.tracking.experiment or spec.name
    try:
        found = find_page(uri, server, experiment, id) if server.startswith("http") else None
    except TrackingError:
        # The run itself has told what MLflow did not take; only the page's own address is missing here.
        found = None
    page = found or f"{redacted(server)}, experiment {experiment}"
    first = f"{shlex.join(['orchestrator', 'ui', *home.option])}, then " if local else ""
    console.print(f"Compare the runs: {first}{page}", soft_wrap=True, markup=False)


def _end(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OrchestratorError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint=f"choose another port: orchestrator ui --port {port + 1}",
            ) from None


def _latest_pages(home: Home) -> list[tuple[str, str]]:
    """The experiments that ran last, and where on the server they are shown; MLflow's own list leads elsewhere."""
    from orchestrator.tracking.mlflow_store import find_page

    found = []
    for folder in home.experiments()[:LATEST]:
        spec = folder.spec()
        if page := find_page(home.tracking_uri, "", spec.tracking.experiment or spec.name, folder.id):
            found.append((folder.id, page))
    return found


def _close_orphans(home: Home) -> None:
    """Runs of experiments whose driver was killed would be shown as running for ever."""
    from orchestrator.tracking.mlflow_store import close_orphans

    for folder in home.experiments():
        keys = [event["key"] for event in folder.journal.read() if event["event"] == "experiment"]
        if keys and not folder.is_running():
            spec = folder.spec()
            close_orphans(home.tracking_uri, spec.tracking.experiment or spec.name, keys[0])
