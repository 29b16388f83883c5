"""run: an experiment from its spec to the comparison of its variants."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from orchestrator.cli.lines import FORMAT, JsonView, PlainView, line_of
from orchestrator.cli.options import HomeOption, RunFormat, SetOption, SpecArgument
from orchestrator.cli.progress import LiveView, View
from orchestrator.cli.tables import print_comparison
from orchestrator.cli.terminal import screen_of_our_own
from orchestrator.cli.ui import where_to_look
from orchestrator.environment import AGAIN_VARIABLE
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.execution.interrupt import Interrupt, catching
from orchestrator.experiment import Experiment
from orchestrator.machine import this_machine
from orchestrator.search.plan import make_plan
from orchestrator.spec import load_spec
from orchestrator.store.home import STUDENTS, Home
from orchestrator.store.placing import Placed, place


def run(
    spec: SpecArgument,
    set: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only continue: an experiment that never ran is an error.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: what ran before is kept under another name.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster to join, such as 10.0.0.1:6379; default: a local Ray."),
    ] = None,
    format: Annotated[
        RunFormat, typer.Option("--format", help="table for people; json-lines for programs, an object an event.")
    ] = RunFormat.TABLE,
    home: HomeOption = None,
) -> int:
    """Run an experiment; the same command again continues it, and repeats nothing that has ended.

    Trains the teacher (or finds it again), searches every variant, runs each variant's best configuration
    on fresh seeds, and prints the comparison. Ctrl-C saves what runs.
    """
    if resume and fresh:
        raise UsageError("--resume and --fresh exclude each other")
    if format is RunFormat.TABLE:
        return _run(spec, set, resume, fresh, address, Home(home))
    try:
        return _run(spec, set, resume, fresh, address, Home(home), as_json=True)
    except Exception as error:
        code = error.exit_code if isinstance(error, OrchestratorError) else 1
        print(line_of("result", _result(code, error=str(error) or type(error).__name__)), end="", flush=True)
        raise


def _run(
    spec: Path,
    set: list[str] | None,
    resume: bool,
    fresh: bool,
    address: str | None,
    home: Home,
    *,
    as_json: bool = False,
) -> int:
    checked = load_spec(spec, set)
    if address is None:
        make_plan(checked).concurrency(this_machine())
    if home.remote:
        # Refused here and not below, where --fresh has set aside what ran before.
        from orchestrator.execution.runner import tracking_uri

        tracking_uri(checked, home)
    home.create()
    if fresh:
        # Its journal is not read: it may be what is damaged.
        home.experiment(checked).set_aside()
        placed = Placed(home.own(checked), checked)
    else:
        placed = place(checked, home)
    if resume and not placed.folder.journal.path.exists():
        raise UsageError(
            f"there is nothing to continue: {checked.id} never ran in {home}", hint="; ".join(placed.notes) or None
        )
    checked, folder = placed.spec, placed.folder
    started = time.monotonic()
    with screen_of_our_own(folder.log) as screen:
        # What people read is left out where a program reads.
        console = Console(quiet=True) if as_json else screen
        view = _view(screen, home, as_json)
        if isinstance(view, JsonView):
            about = {"format": FORMAT, "id": folder.id, "name": checked.name, "hash": checked.hash}
            view.tell("begin", **about, home=str(home), log=str(folder.log))
        console.print(f"[bold]{checked.name}[/] ({folder.id})")
        console.print(f"[dim]Ray's own output: {_short(folder.log)}[/]")
        words = ["orchestrator", "run", str(spec), *(word for text in set or () for word in ("--set", text))]
        words += [] if address is None else ["--address", address]
        words += ["--format", RunFormat.JSON_LINES] if as_json else []
        again = os.environ.get(AGAIN_VARIABLE) or shlex.join([*words, *home.option])
        interrupt = Interrupt(view.on_interrupt, _last_words(view, again), screen.file.fileno())
        try:
            with view, catching(interrupt):
                # Ray and MLflow load here, after everything that can be refused quickly.
                from orchestrator.execution.runner import run_experiment

                results = run_experiment(
                    checked, home, address=address, watcher=view, interrupt=interrupt, placed=placed
                )
        except KeyboardInterrupt:
            text = f"\nInterrupted; running trials were saved. Continue with:\n  {again}"
            console.print(text, soft_wrap=True, markup=False)
            if isinstance(view, JsonView):
                view.tell("result", **_result(130, Experiment.read(folder, home), started, f"continue with: {again}"))
            return 130
        console.print()
        experiment = Experiment.read(folder, home)
        code = 0 if results.answered or experiment.stopped else 1
        advice = experiment.advice(words[2:])
        if isinstance(view, JsonView):
            view.tell("result", **_result(code, experiment, started, advice))
            return code
        print_comparison(experiment, console)
        console.print(f"[dim]Took {time.monotonic() - started:.0f} s.[/]")
        if experiment.stopped:
            ended = f"{experiment.ended} of {experiment.plan.total_trials} trials have ended"
            console.print(f"Stopped by `orchestrator stop`: {ended}.", markup=False)
        if advice:
            console.print(f"To go on, {advice}", soft_wrap=True, markup=False)
        if home.remote or any(folder.students):
            students = home.remote.name(folder.path) if home.remote else _short(folder.path)
            console.print(f"Trained students: {students}/{STUDENTS}", soft_wrap=True, markup=False)
            export = shlex.join(["orchestrator", "export", folder.id, *home.option])
            console.print(f"The best one for others, with its model card: {export}", soft_wrap=True, markup=False)
        where_to_look(checked, folder.id, home, console)
    return code


def _view(screen: Console, home: Home, as_json: bool) -> View:
    if as_json:
        return JsonView(screen, home)
    return LiveView(screen, home) if screen.is_terminal else PlainView(screen, home)


def _last_words(view: View, again: str) -> Callable[[], str]:
    """What a second Ctrl-C leaves on the screen."""
    text = f"Ended at once; what ran goes on from its last checkpoint. Continue with:\n  {again}"
    if isinstance(view, JsonView):
        return lambda: line_of("result", _result(130, error=text))
    return lambda: f"{view.CLEAN}{text}\n"


def _result(
    code: int,
    experiment: Experiment | None = None,
    started: float | None = None,
    advice: str | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """The fields of the last of the JSON lines."""
    found: dict[str, Any] = {}
    if experiment is not None:
        content = experiment.results().to_dict()
        found = {name: content[name] for name in ("id", "metric", "mode", "variants", "comparisons", "verdict")}
        found |= {
            "state": str(experiment.state),
            "stopped": experiment.stopped,
            "ended": experiment.ended,
            "planned": experiment.plan.total_trials,
        }
    if started is not None:
        found["seconds"] = round(time.monotonic() - started, 3)
    return {"exit_code": code, **found, "advice": advice, "error": error}


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
