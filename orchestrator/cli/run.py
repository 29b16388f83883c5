"""run: an experiment from its spec to the comparison of its variants."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import HomeOption, SetOption, SpecArgument
from orchestrator.cli.progress import LiveView, PlainView, View
from orchestrator.cli.tables import print_comparison
from orchestrator.cli.terminal import screen_of_our_own
from orchestrator.cli.ui import where_to_look
from orchestrator.errors import UsageError
from orchestrator.execution.interrupt import Interrupt, catching
from orchestrator.experiment import Experiment
from orchestrator.machine import this_machine
from orchestrator.search.plan import make_plan
from orchestrator.spec import load_spec
from orchestrator.store.home import STUDENTS, Home


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
    home: HomeOption = None,
) -> int:
    """Run an experiment; the same command again continues it, and repeats nothing that has ended.

    Trains the teacher (or finds it again), searches every variant, runs each variant's best configuration
    on fresh seeds, and prints the comparison. Ctrl-C saves what runs.
    """
    if resume and fresh:
        raise UsageError("--resume and --fresh exclude each other")
    checked = load_spec(spec, set)
    if address is None:
        make_plan(checked).concurrency(this_machine())
    place = Home(home)
    place.create()
    folder = place.experiment(checked)
    if resume and not folder.journal.path.exists():
        raise UsageError(f"there is nothing to continue: {checked.id} never ran in {place.path}")
    if fresh:
        folder.set_aside()
    started = time.monotonic()
    with screen_of_our_own(folder.log) as console:
        view: View = (LiveView if console.is_terminal else PlainView)(console, place)
        console.print(f"[bold]{checked.name}[/] ({checked.id})")
        console.print(f"[dim]Ray's own output: {_short(folder.log)}[/]")
        words = ["orchestrator", "run", str(spec), *(word for text in set or () for word in ("--set", text))]
        words += [] if address is None else ["--address", address]
        go_on = f"Continue with:\n  {shlex.join([*words, *place.option])}"
        interrupt = Interrupt(
            view.on_interrupt,
            lambda: f"{view.CLEAN}Ended at once; what ran goes on from its last checkpoint. {go_on}\n",
            console.file.fileno(),
        )
        try:
            with view, catching(interrupt):
                # Ray and MLflow load here, after everything that can be refused quickly.
                from orchestrator.execution.runner import run_experiment

                results = run_experiment(checked, place, address=address, watcher=view, interrupt=interrupt)
        except KeyboardInterrupt:
            console.print(f"\nInterrupted; running trials were saved. {go_on}", soft_wrap=True, markup=False)
            return 130
        console.print()
        experiment = Experiment.read(folder, place)
        print_comparison(experiment, console)
        console.print(f"[dim]Took {time.monotonic() - started:.0f} s.[/]")
        if advice := experiment.advice(words[2:]):
            console.print(f"To go on, {advice}", soft_wrap=True, markup=False)
        if any(folder.students):
            console.print(f"Trained students: {_short(folder.path)}/{STUDENTS}", soft_wrap=True, markup=False)
        where_to_look(checked, place, console)
    return 0 if results.answered else 1


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
