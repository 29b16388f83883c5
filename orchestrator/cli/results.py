"""results and list: what experiments have found, and which there are."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orchestrator.analysis.results import Results, VariantResult
from orchestrator.analysis.rows import to_csv
from orchestrator.cli import complete
from orchestrator.cli.options import (
    ClusterOption,
    Format,
    FormatOption,
    HomeOption,
    NameArgument,
    ResultFormat,
    choices,
)
from orchestrator.cli.remote import ask_there, list_there, no_home
from orchestrator.cli.tables import NARROW, print_comparison, print_trials, table_of
from orchestrator.cli.terminal import screen
from orchestrator.errors import OrchestratorError
from orchestrator.experiment import HOW_TO_START, Experiment
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home


class Rows(StrEnum):
    """What a line of CSV is."""

    TRIALS = "trials"
    VARIANTS = "variants"


def results(
    name: NameArgument = None,
    format: Annotated[
        ResultFormat,
        typer.Option(
            "--format",
            metavar=choices(ResultFormat),
            help="table for people, json, csv, or markdown for documents.",
        ),
    ] = ResultFormat.TABLE,
    rows: Annotated[
        Rows,
        typer.Option(
            "--rows", metavar=choices(Rows), help="Of csv: one a trial, or one a variant with its comparison."
        ),
    ] = Rows.TRIALS,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="VARIANT",
            help="Variant that the others are compared with; default: the spec's search.reference, else kd.",
            autocompletion=complete.variants,
        ),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            metavar="OBJECTIVES",
            help="Show the Pareto front over these, such as test/acc1,student.parameters,time/epoch_s.",
        ),
    ] = None,
    address: ClusterOption = None,
    home: HomeOption = None,
) -> int:
    """Show an experiment's trials and compare its variants."""
    if address is not None:
        given = {"--format": format, "--rows": rows, "--reference": reference, "--pareto": pareto}
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        return ask_there(address, "results", [name], words, home)
    experiment = Experiment.load(name, home)
    found = experiment.results(reference)
    if format is ResultFormat.JSON:
        print(found.to_json(pareto))
    elif format is ResultFormat.CSV:
        print(to_csv(found.trial_rows() if rows is Rows.TRIALS else found.variant_rows()), end="")
    elif format is ResultFormat.MARKDOWN:
        print(found.to_markdown(pareto))
    else:
        console = screen()
        print_trials(found, console)
        print_comparison(experiment, console, reference, pareto)
    return 0


def list_experiments(
    format: FormatOption = Format.TABLE, address: ClusterOption = None, home: HomeOption = None
) -> int:
    """List the experiments of the home folder, or those submitted to a cluster, the latest first."""
    if address is not None:
        no_home("list", home)
        return list_there(address, format)
    place = Home(home)
    rows = [_row(folder, place) for folder in place.experiments()]
    if format is Format.JSON:
        print(json.dumps(rows, indent=2))
        return 0
    console = screen()
    if not rows:
        console.print(f"No experiment has run in {place} yet; {HOW_TO_START}", soft_wrap=True, markup=False)
        return 0
    console.print(_list_table(rows, console.width < NARROW))
    if any(row["planned"] is None for row in rows):
        console.print("[dim]orchestrator status ID tells why an experiment is unreadable.[/]")
    return 0


def summary_of(experiment: Experiment) -> dict[str, Any]:
    """What every listing tells of an experiment."""
    return {
        "id": experiment.folder.id,
        "state": str(experiment.state),
        "spent": experiment.spent,
        "ended": experiment.ended,
        "planned": experiment.plan.total_trials,
    }


def _list_table(rows: list[dict[str, Any]], narrow: bool) -> Table:
    """One row an experiment; on a narrow screen its state stands below it."""
    several = len({row["owner"] for row in rows}) > 1
    state = () if narrow else ("state", "last run", *(["owner"] if several else []))
    last = "best variant"
    table = table_of("experiment", *state, "trials", last, text=state, folded=("experiment", last))
    for row in rows:
        best, at = row["best"], row["last_run"].replace("T", " ")[:16]
        name, about = escape(row["id"]), [row["state"], at, *([escape(row["owner"] or "-")] if several else [])]
        table.add_row(
            *([f"{name}\n[dim]{', '.join(about)}[/]"] if narrow else [name, *about]),
            "-" if row["planned"] is None else f"{row['ended']}/{row['planned']}",
            escape(f"{best['name']}: {best['test/acc1']:.2f} %") if best else "-",
        )
    return table


def _row(folder: ExperimentFolder, place: Home) -> dict[str, Any]:
    """One experiment as data; one that cannot be read says so and hides none of the others."""
    last_run = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(folder.journal.path.stat().st_mtime))
    try:
        experiment = Experiment.read(folder, place)
        best = _best(experiment.results())
        shown = {**summary_of(experiment), "owner": folder.owner}
    except (OrchestratorError, OSError):
        best = None
        shown = {"id": folder.id, "state": "unreadable", "spent": None, "ended": None, "planned": None, "owner": None}
    return {
        **shown,
        "name": folder.name,
        "best": best and best.test and {"name": best.name, "test/acc1": best.test.mean, "n": best.test.count},
        "last_run": last_run,
    }


def _best(results: Results) -> VariantResult | None:
    """The variant with the highest mean test accuracy."""
    tested = [variant for variant in results.variants if variant.test]
    return max(tested, key=lambda variant: variant.test.mean if variant.test else 0.0, default=None)
