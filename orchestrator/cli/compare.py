"""compare: several experiments beside each other."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from orchestrator.analysis.across import SAME, Across, Entry
from orchestrator.analysis.comparisons import verdict
from orchestrator.analysis.rows import about, comparison_table, to_csv
from orchestrator.cli import complete
from orchestrator.cli.options import ClusterOption, HomeOption, ResultFormat, choices
from orchestrator.cli.remote import ask_there, run_there
from orchestrator.cli.tables import print_remarks, print_text, print_variants
from orchestrator.cli.terminal import screen
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment
from orchestrator.search.standing import State


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Names or ids of two experiments or more; HOME/NAME for one of another home folder.",
            autocompletion=complete.experiments,
        ),
    ],
    format: Annotated[
        ResultFormat,
        typer.Option(
            "--format",
            metavar=choices(ResultFormat),
            help="table for people, json, csv with one row a variant, or markdown for documents.",
        ),
    ] = ResultFormat.TABLE,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="EXPERIMENT/VARIANT",
            help="What all others are compared with; default: the variant of the same name in the first experiment.",
            autocompletion=complete.references,
        ),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(metavar="OBJECTIVES", help="Show the Pareto front over these, such as test/acc1,epochs."),
    ] = None,
    address: ClusterOption = None,
    home: HomeOption = None,
) -> int:
    """Compare experiments: what their specs differ in, what their variants show, and whether that is fair."""
    if address is not None:
        given = {"--format": format, "--reference": reference, "--pareto": pareto}
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        if home is not None or any("/" in name for name in names):
            return run_there(address, ["compare", *names, *words], home=home)
        return ask_there(address, "compare", names, words)
    experiments = [_load(name, home) for name in names]
    if len({experiment.folder.path for experiment in experiments}) < max(2, len(names)):
        raise UsageError(
            f"compare takes two experiments or more, each once, not {', '.join(e.id for e in experiments)}",
            hint="orchestrator results compares the variants of one; orchestrator list names all",
        )
    found = Across([_entry(experiment) for experiment in experiments], reference)
    if format is ResultFormat.JSON:
        print(json.dumps(found.to_dict(pareto), indent=2))
    elif format is ResultFormat.CSV:
        print(to_csv(found.variant_rows()), end="")
    elif format is ResultFormat.MARKDOWN:
        print(found.to_markdown(pareto))
    else:
        _print(found, pareto, screen())
    return 0


def _load(name: str, home: str | None) -> Experiment:
    """The experiment of a name or id, or of one below the home folder that stands before it."""
    before, slash, last = name.rstrip("/").rpartition("/")
    return Experiment.load(last, before.removesuffix("/experiments") or "/") if slash else Experiment.load(name, home)


def _entry(experiment: Experiment) -> Entry:
    ended = f"{experiment.state}, {experiment.ended} of {experiment.plan.total_trials} trials have ended"
    standing = None if experiment.state is State.COMPLETE else ended
    environments = experiment.folder.environments()
    home = str(experiment.home)
    return Entry(experiment.id, experiment.plan, experiment.results(), environments, home, standing)


def _print(found: Across, objectives: str | None, console: Console) -> None:
    print_variants([(name, side.variant, side.entry.spec.search) for name, side in found.sides.items()], console)
    comparisons = [c for c in found.comparisons if c.difference]
    if comparisons:
        print_text(comparison_table(comparisons), console)
    front = found.front(objectives) if objectives else None
    if front:
        print_text(front.table(), console)
    differences = found.differences_table()
    if differences[1]:
        print_text(differences, console, folded=differences[0])
    else:
        console.print(f"\n{SAME}")
    console.print()
    for line in verdict(comparisons):
        console.print(escape(line))
    for warning in (*found.unfinished, *found.warnings):
        console.print(f"[yellow]{escape(str(warning))}[/]")
    print_remarks([about(comparisons), front.note if front else ""], console)
