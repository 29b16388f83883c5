"""status: how far an experiment is, told from its folder alone; its driver is not asked."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from orchestrator.analysis.notes import failures
from orchestrator.cli.options import ClusterOption, Format, FormatOption, HomeOption, NameArgument
from orchestrator.cli.progress import ENOUGH, LOADING, STAGES, Drawing
from orchestrator.cli.remote import status_there
from orchestrator.cli.results import summary_of
from orchestrator.cli.terminal import screen
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment
from orchestrator.search.ranking import leading
from orchestrator.search.standing import State
from orchestrator.search.trials import Phase, Status

REFRESH_S = 1.0
"""Seconds between two looks, or a few times what a look takes."""
LINE_EVERY_S = 10.0
"""Seconds after which a line is written where there is no terminal, even if no trial has ended."""


class Outside(Drawing):
    """The live table of an experiment that another process runs, as its folder shows it."""

    def __init__(self, console: Console, experiment: Experiment) -> None:
        super().__init__(console, experiment.home)
        self._session, self._opened = experiment.folder.session_now(), experiment.folder.mailbox.since()
        self.on_plan(experiment.plan, dict(experiment.records), self._session.at_once if self._session else 1)
        students = [record for record in self.records.values() if record.trial.phase is not Phase.TEACHER]
        self._trained = sum(record.epochs for record in students) - (self._session.epochs if self._session else 0)
        self.stage = "between two trials" if self.records and self._session else "starting"
        self.loading = bool(self.running) and not self.ended and not any(record.metrics for record in self.running)
        for request in self._session.asked if self._session else ():
            self.on_note(f"asked by {request.command}{''.join(f' --trial {id}' for id in request.trials)}")

    def elapsed(self) -> float:
        began = self._session.started if self._session else self._opened
        return time.time() - began if began else 0.0

    def pace(self) -> float | None:
        begun = self._session.begun if self._session else None
        return None if begun is None or self._trained < ENOUGH else (time.time() - begun) / self._trained

    def variants(self) -> RenderableType:
        """The comparison so far, and what has stopped trials."""
        return self._variants()

    def to_dict(self) -> dict[str, Any]:
        """What is under way, as JSON-like data."""
        phases = {record.trial.phase for record in self.running}
        return {
            "stages": [LOADING] if self.loading else [text for phase, text in STAGES.items() if phase in phases],
            "seconds": round(self.elapsed(), 1),
            **self.speed(),
            "running": [
                {
                    "trial": record.trial.id,
                    "phase": str(record.trial.phase),
                    "variant": record.trial.variant,
                    "epoch": record.epochs,
                    "epochs": self.epochs_of(record),
                    "metrics": record.metrics,
                }
                for record in self.running
            ],
        }


def status(
    name: NameArgument = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show it anew until the experiment does not run any more.")
    ] = False,
    format: FormatOption = Format.TABLE,
    address: ClusterOption = None,
    home: HomeOption = None,
) -> int:
    """Tell how far an experiment is: its state, each variant's best, what runs, and how long it will take."""
    if address is not None:
        if follow:
            raise UsageError("--follow is not for a cluster", hint="orchestrator logs NAME --follow --address URL is")
        return status_there(address, name, format, home)
    experiment = Experiment.load(name, home)
    if follow:
        try:
            experiment = _follow(experiment, format)
        except KeyboardInterrupt:
            screen().print(f"No longer followed; {experiment.id} goes on.", markup=False)
            return 0
    if format is Format.JSON:
        print(json.dumps(_content(experiment), indent=None if follow else 2))
        return 0
    _print_standing(experiment)
    return 0


def _print_standing(experiment: Experiment) -> None:
    ended = f"{experiment.ended} of {experiment.plan.total_trials} trials have ended"
    print(f"{experiment.id}: {experiment.state}; {ended}")
    print("  " + ", ".join(f"{count} {name}" for name, count in experiment.counts.items() if count))
    if experiment.state is State.SPENT:
        print(f"  {experiment.spent} was spent before every variant had a result")
    if experiment.state in (State.FAILED, State.SPENT, State.INTERRUPTED):
        print("".join(f"  {line}\n" for line in failures(experiment.results().records)), end="")
    elif experiment.state is State.COMPLETE and experiment.ended < experiment.plan.total_trials:
        print("  the others were not run: the budget was spent, or what they needed had failed")
    if experiment.stopped:
        print("  stopped by `orchestrator stop`")
    if advice := experiment.advice():
        print(f"  {advice}")
    console = screen()
    view = Outside(console, experiment)
    console.print()
    console.print(view.draw() if experiment.state is State.RUNNING else view.variants())


def _content(experiment: Experiment) -> dict[str, Any]:
    """All of it as JSON-like data; what is under way while it runs alone."""
    search, results = experiment.spec.search, experiment.results()
    found = {
        **summary_of(experiment),
        "stopped": experiment.stopped,
        "trials": experiment.counts,
        "variants": [
            {
                "name": variant.name,
                "ended": sum(count for status, count in variant.statuses.items() if status.ended),
                "planned": experiment.plan.by_name[variant.name].count,
                "best": variant.best and variant.best.metrics.get(search.first_metric),
                "best_trial": variant.best and variant.best.trial.id,
                "so_far": None if variant.best else _leading(experiment, variant.name),
                "params": variant.params,
                "test/acc1": variant.test and variant.test.mean,
            }
            for variant in results.variants
        ],
        "stops": _reasons(experiment, Status.STOPPED),
        "failures": _reasons(experiment, Status.FAILED),
    }
    running = Outside(Console(quiet=True), experiment).to_dict() if experiment.state is State.RUNNING else {}
    return {**found, **running}


def _leading(experiment: Experiment, variant: str) -> dict[str, Any] | None:
    """The best of a variant's trials that have not ended."""
    search, mine = experiment.spec.search, experiment.records.values()
    record = leading((record for record in mine if record.trial.variant == variant), search)
    if record is None:
        return None
    return {"value": record.value(search.first_metric), "trial": record.trial.id, "epoch": record.epochs}


def _reasons(experiment: Experiment, status: Status) -> dict[str, str | None]:
    return {id: record.reason for id, record in experiment.records.items() if record.status is status}


def _follow(experiment: Experiment, format: Format) -> Experiment:
    """Show the experiment as long as it runs; gives it as it was then."""
    console = screen()
    drawn = console.draws and format is Format.TABLE
    # Drawn by this thread alone: a look at a large experiment may take longer than a drawing may wait.
    live = Live(console=console, auto_refresh=False, transient=True) if drawn else None
    said, said_at = "", 0.0
    with live or contextlib.nullcontext():
        while experiment.state is State.RUNNING:
            began = time.monotonic()
            view = Outside(console, experiment)
            if live is not None:
                live.update(view.draw(), refresh=True)
            elif view.counts() != said or began - said_at >= LINE_EVERY_S:
                said, said_at = view.counts(), began
                line = json.dumps(_content(experiment)) if format is Format.JSON else _line(view)
                print(line, flush=True)
            time.sleep(REFRESH_S)
            looked = time.monotonic()
            experiment = Experiment.load(experiment.id, str(experiment.home))
            time.sleep(min(3 * (time.monotonic() - looked), 30))
    return experiment


def _line(view: Outside) -> str:
    return f"{view.now()}: {view.counts()}{view.timing()}"
