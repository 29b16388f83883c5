"""compare: several experiments beside each other."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from orchestrator.analysis.across import Across, Entry
from orchestrator.analysis.comparisons import verdict
from orchestrator.analysis.rows import about, comparison_table, to_csv
from orchestrator.cli.options import HomeOption, ResultFormat
from orchestrator.cli.tables import print_text, print_variants
from orchestrator.cli.terminal import screen
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment


def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME NAME...", help="Names or ids of experiments.")],
    format: Annotated[
        ResultFormat, typer.Option("--format", help="table for people, json, or csv with one row a variant.")
    ] = ResultFormat.TABLE,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="EXPERIMENT/VARIANT",
            help="What all others are compared with; default: the variant of the same name in the first experiment.",
        ),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(metavar="OBJECTIVES", help="Show the Pareto front over these, such as test/acc1,epochs."),
    ] = None,
    home: HomeOption = None,
) -> int:
    """Compare experiments: what their specs differ in, what their variants show, and whether that is fair."""
    if format is ResultFormat.MARKDOWN:
        raise UsageError("--format markdown is for results; compare has table, json and csv")
    experiments = [Experiment.load(name, home) for name in names]
    if len({experiment.id for experiment in experiments}) < max(2, len(names)):
        raise UsageError(
            f"compare takes two experiments or more, each once, not {', '.join(e.id for e in experiments)}",
            hint="orchestrator results compares the variants of one; orchestrator list names all",
        )
    found = Across([Entry(e.id, e.plan, e.results(), e.folder.environments()) for e in experiments], reference)
    if format is ResultFormat.JSON:
        print(json.dumps(found.to_dict(pareto), indent=2))
    elif format is ResultFormat.CSV:
        print(to_csv(found.variant_rows()), end="")
    else:
        _print(found, pareto, screen())
    return 0


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
        console.print("\nTheir specs differ in nothing but the name.")
    console.print()
    for line in verdict(comparisons):
        console.print(escape(line))
    for warning in found.warnings:
        console.print(f"[yellow]{escape(str(warning))}[/]")
    for line in filter(None, [about(comparisons), front.note if front else ""]):
        console.print(f"[dim]{escape(line)}[/]")
