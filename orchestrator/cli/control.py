"""stop and pause: what can be asked of an experiment that runs in another terminal."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.options import ClusterOption, Format, FormatOption, HomeOption, NamedArgument
from orchestrator.cli.remote import ask_there, no_home, pause_there
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment
from orchestrator.search.standing import State, unstoppable
from orchestrator.store.home import Home
from orchestrator.store.requests import Request, Wish

PATIENCE_S = 5.0
"""Seconds that an answer is waited for: a driver whose trials run looks twice a second."""


def stop(
    name: NamedArgument,
    trial: Annotated[
        list[str] | None,
        typer.Option(
            "--trial",
            metavar="ID",
            help="End this search trial alone; may be repeated.",
            show_default=False,
            autocompletion=complete.trials,
        ),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for the epochs that are being trained.", show_default=False)
    ] = False,
    format: FormatOption = Format.TABLE,
    address: ClusterOption = None,
    home: HomeOption = None,
) -> int:
    """End a running experiment, or some of its trials, and keep their results.

    Search trials end with the epoch that they are in, and count as stopped; nothing else is begun, final runs
    neither. The command that runs the experiment then shows the comparison so far, and the same command continues it.
    """
    if address is not None:
        words = [word for id in trial or () for word in ("--trial", id)] + (["--now"] if now else [])
        words += ["--format", format] if format is Format.JSON else []
        return ask_there(address, "stop", [name], words, home)
    experiment = _one(name, home)
    ids = tuple(dict.fromkeys(trial or ()))
    if ids and now:
        raise UsageError("--now ends the whole experiment; a single trial ends with its epoch", hint="leave out one")
    if ids and experiment.state is not State.RUNNING:
        raise UsageError(f"{experiment.id} is not running, and its trials end only while it is")
    refused = {id: why for id in ids if (why := unstoppable(id, experiment.records))}
    if refused:
        raise UsageError("; ".join(f"{id} {why}" for id, why in refused.items()))
    told = f"{', '.join(ids)} end{'s' if len(ids) == 1 else ''} with the result so far" if ids else "it ends"
    return _ask(experiment, Request(Wish.STOP, ids, now), told, format)


def pause(
    name: NamedArgument, format: FormatOption = Format.TABLE, address: ClusterOption = None, home: HomeOption = None
) -> int:
    """Interrupt a running experiment as Ctrl-C does: what runs is saved, and the same command continues it."""
    if address is not None:
        no_home("pause", home)
        return pause_there(address, name, format)
    return _ask(_one(name, home), Request(Wish.PAUSE), "what runs is saved", format)


def _one(name: str, home: str | None) -> Experiment:
    """The experiment that is meant; raises `UsageError` where several of the name run."""
    running = [folder.id for folder in Home(home).of_name(name) if folder.is_running()]
    if len(running) > 1:
        raise UsageError(
            f"{len(running)} experiments named {name} are running", hint=f"name one of them: {', '.join(running)}"
        )
    return Experiment.load(name, home)


def _ask(experiment: Experiment, request: Request, told: str, format: Format) -> int:
    """Leave the request for the driver, and say what comes of it."""
    is_taken = experiment.folder.ask(request) if experiment.state is State.RUNNING else None
    taken = is_taken is not None and _comes(is_taken)
    advice = experiment.advice() if is_taken is None else None
    if format is Format.JSON:
        asked = {"asked": is_taken is not None, "taken": taken, "request": request.to_dict(), "advice": advice}
        print(json.dumps({"id": experiment.id, **asked}, indent=2))
    elif is_taken is None:
        print(f"{experiment.id} is not running: there is nothing to {request.wish}")
        if advice:
            print(f"  {advice}")
    elif taken:
        follow = shlex.join(["orchestrator", "status", experiment.id, "--follow", *experiment.home.option])
        print(f"{experiment.id}: {told}; see how far it is with: {follow}")
    else:
        print(f"{experiment.id} was asked, but has not answered yet: it does as soon as its trials run")
    return 0


def _comes(answer: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not answer():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
