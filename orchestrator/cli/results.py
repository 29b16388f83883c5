"""results and status: what an experiment has found, and how far it is."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.analysis.results import Results
from orchestrator.cli.options import Format, FormatOption, HomeOption, NameArgument, ResultFormat
from orchestrator.cli.tables import print_comparison, print_trials
from orchestrator.cli.terminal import screen
from orchestrator.errors import UsageError
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Status
from orchestrator.store.home import ExperimentFolder, Home


def results(
    name: NameArgument = None,
    format: Annotated[
        ResultFormat, typer.Option("--format", help="table, json, or csv with one row a trial.")
    ] = ResultFormat.TABLE,
    home: HomeOption = None,
) -> int:
    """Show an experiment's trials and compare its variants."""
    folder = find(name, home)
    found = Results(folder.spec(), folder.records())
    if format is ResultFormat.JSON:
        print(found.to_json())
    elif format is ResultFormat.CSV:
        print(found.to_csv(), end="")
    else:
        console = screen()
        print_trials(found, console)
        print_comparison(found, console)
    return 0


def status(name: NameArgument = None, format: FormatOption = Format.TABLE, home: HomeOption = None) -> int:
    """Tell whether an experiment runs, and how many of its trials have ended."""
    folder = find(name, home)
    spec = folder.spec()
    records = folder.records()
    running = folder.is_running()
    counts = {str(status): sum(r.status is status for r in records.values()) for status in Status}
    if not running:
        counts["interrupted"] += counts.pop("running")
        counts["running"] = 0
    total = make_plan(spec).total_trials
    ended = sum(record.status.ended for record in records.values())
    state = (
        "running"
        if running
        else "complete"
        if ended and counts["interrupted"] == 0 and ended >= total
        else "not running"
    )
    if format is Format.JSON:
        print(
            json.dumps(
                {"id": folder.id, "state": state, "trials": counts, "ended": ended, "planned": total},
                indent=2,
            )
        )
        return 0
    print(f"{folder.id}: {state}; {ended} of {total} trials have ended")
    print("  " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    if state == "not running":
        words = ["orchestrator", "run", str(folder.path / "spec.yaml"), *Home(home).option]
        print(f"  continue with: {shlex.join(words)}")
    return 0


def find(name: str | None, home: Path | None) -> ExperimentFolder:
    """The experiment a command is about."""
    place = Home(home)
    if name is not None:
        return place.find(name)
    experiments = place.experiments()
    if not experiments:
        raise UsageError(f"no experiment has run in {place.path} yet", hint="start one with: orchestrator run SPEC")
    return experiments[0]
