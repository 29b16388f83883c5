"""run: an experiment from its spec to the comparison of its variants."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from orchestrator.cli.failure import about
from orchestrator.cli.lines import FORMAT, JsonView, PlainView, line_of
from orchestrator.cli.options import HomeOption, RunFormat, SetOption, SpecArgument, choices
from orchestrator.cli.progress import LiveView, View
from orchestrator.cli.tables import print_comparison
from orchestrator.cli.terminal import Screen, is_quiet, is_verbose, screen_of_our_own
from orchestrator.cli.ui import where_to_look
from orchestrator.environment import AGAIN_VARIABLE
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.execution.interrupt import Interrupt, catching
from orchestrator.experiment import Experiment
from orchestrator.machine import this_machine
from orchestrator.search.plan import make_plan
from orchestrator.spec import load_spec
from orchestrator.store.folder import STUDENTS, ExperimentFolder
from orchestrator.store.home import Home
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
        typer.Option(
            metavar="ADDRESS", help="Address of a Ray cluster to join, such as 10.0.0.1:6379; default: a local Ray."
        ),
    ] = None,
    format: Annotated[
        RunFormat,
        typer.Option(
            "--format",
            metavar=choices(RunFormat),
            help="table for people; for programs json, its results, or json-lines, an object an event.",
        ),
    ] = RunFormat.TABLE,
    home: HomeOption = None,
) -> int:
    """Run an experiment; the same command again continues it, and repeats nothing that has ended.

    Trains the teacher (or finds it again), searches every variant, runs each variant's best configuration
    on fresh seeds, and prints the comparison. Ctrl-C saves what runs.
    """
    if resume and fresh:
        raise UsageError("--resume and --fresh exclude each other")
    reached = Reached(format, Home(home))
    try:
        return _run(spec, set, resume, fresh, address, reached)
    except Exception as error:
        if format is RunFormat.JSON_LINES:
            code = error.exit_code if isinstance(error, OrchestratorError) else 1
            text = str(error) or type(error).__name__
            print(reached.told(code, error=text), end="", flush=True)
        elif format is RunFormat.JSON:
            about.set(reached.found())
        raise


@dataclass
class Reached:
    """How far a command has come, and what programs are told of it at last."""

    format: RunFormat
    home: Home
    folder: ExperimentFolder | None = None
    words: Sequence[str] = ()
    """Those that name the spec and how it is run."""
    started: float = field(default_factory=time.monotonic)

    @property
    def for_people(self) -> bool:
        return self.format is RunFormat.TABLE

    def told(self, code: int, experiment: Experiment | None = None, advice: str | None = None, **more: Any) -> str:
        """The result as JSON."""
        content = {"exit_code": code, **self.found(experiment), **({"advice": advice} if advice else {}), **more}
        if self.format is RunFormat.JSON_LINES:
            return line_of("result", content)
        return json.dumps(content, indent=2) + "\n"

    def found(self, experiment: Experiment | None = None) -> dict[str, Any]:
        """What its folder tells of the experiment, once there is one: after an error, too."""
        told: dict[str, Any] = {"advice": None, "error": None}
        if self.folder is None:
            return told
        if experiment is None:
            try:
                experiment = Experiment.read(self.folder, self.home)
            except (OrchestratorError, OSError):
                return {"id": self.folder.id, **told}
        content = experiment.results().to_dict()
        return {
            **{name: content[name] for name in ("id", "metric", "mode", "variants", "comparisons", "verdict")},
            "state": str(experiment.state),
            "spent": experiment.spent,
            "stopped": experiment.stopped,
            "ended": experiment.ended,
            "planned": experiment.plan.total_trials,
            "seconds": round(time.monotonic() - self.started, 3),
            **told,
            "advice": experiment.advice(self.words),
        }


def _run(spec: Path, set: list[str] | None, resume: bool, fresh: bool, address: str | None, reached: Reached) -> int:
    home, checked = reached.home, load_spec(spec, set)
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
    words = [str(spec), *(word for text in set or () for word in ("--set", text))]
    words += [] if address is None else ["--address", address]
    words += [] if reached.for_people else ["--format", reached.format]
    reached.folder, reached.words = folder, words
    with screen_of_our_own(folder.log) as screen:
        # What people read is left out where a program reads.
        console = screen if reached.for_people else Console(quiet=True)
        around = Console(quiet=True) if is_quiet() else console
        view = _view(screen, reached)
        if isinstance(view, JsonView):
            named = {"format": FORMAT, "id": folder.id, "name": checked.name, "hash": checked.hash}
            view.tell("begin", **named, home=str(home), log=str(folder.log))
        around.print(f"[bold]{checked.name}[/] ({folder.id})")
        around.print(f"[dim]Ray's own output: {_short(folder.log)}[/]")
        again = os.environ.get(AGAIN_VARIABLE) or shlex.join(["orchestrator", "run", *words, *home.option])
        interrupt = Interrupt(view.on_interrupt, _last_words(view, again, reached), screen.file.fileno())
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
            if not reached.for_people:
                screen.file.write(reached.told(130, advice=f"continue with: {again}"))
            return 130
        around.print()
        experiment = Experiment.read(folder, home)
        code = 0 if results.answered or experiment.stopped else 1
        advice = experiment.advice(words)
        if not reached.for_people:
            screen.file.write(reached.told(code, experiment))
            return code
        print_comparison(experiment, console)
        around.print(f"[dim]Took {time.monotonic() - reached.started:.0f} s.[/]")
        if experiment.stopped:
            ended = f"{experiment.ended} of {experiment.plan.total_trials} trials have ended"
            console.print(f"Stopped by `orchestrator stop`: {ended}.", markup=False)
        if advice:
            console.print(f"To go on, {advice}", soft_wrap=True, markup=False)
        if home.remote or any(folder.students):
            students = home.remote.name(folder.path) if home.remote else _short(folder.path)
            around.print(f"Trained students: {students}/{STUDENTS}", soft_wrap=True, markup=False)
            export = shlex.join(["orchestrator", "export", folder.id, *home.option])
            around.print(f"The best one for others, with its model card: {export}", soft_wrap=True, markup=False)
        if not is_quiet():
            where_to_look(checked, folder.id, home, console)
    return code


def _view(screen: Screen, reached: Reached) -> View:
    if reached.format is RunFormat.JSON_LINES:
        return JsonView(screen, reached.home)
    if reached.format is RunFormat.JSON or is_quiet():
        return View(screen, reached.home)
    # What libraries print cannot be drawn over.
    drawn = screen.draws and not is_verbose()
    return LiveView(screen, reached.home) if drawn else PlainView(screen, reached.home)


def _last_words(view: View, again: str, reached: Reached) -> Callable[[], str]:
    """What a second Ctrl-C leaves on the screen."""
    text = f"Ended at once; what ran goes on from its last checkpoint. Continue with:\n  {again}"
    if reached.for_people:
        return lambda: f"{view.CLEAN}{text}\n"
    return lambda: Reached(reached.format, reached.home).told(130, error=text)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
