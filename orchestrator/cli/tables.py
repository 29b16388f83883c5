"""Tables of trials and of the comparison, for terminals from 60 columns up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator import names
from orchestrator.analysis.formats import format_changes, format_interval, format_number
from orchestrator.analysis.notes import notes, reason, verdicts
from orchestrator.analysis.results import Results, VariantResult
from orchestrator.analysis.rows import Table as TextTable
from orchestrator.analysis.rows import about, comparison_table
from orchestrator.cli.terminal import is_quiet
from orchestrator.experiment import Experiment
from orchestrator.search.trials import Record, Status
from orchestrator.spec.search import SearchSpec

_STYLES = {
    Status.FINISHED: "green",
    Status.STOPPED: "yellow",
    Status.FAILED: "red",
    Status.PAUSED: "cyan",
    Status.INTERRUPTED: "magenta",
}
NARROW = 100
"""Columns below which values stand under what they belong to, instead of in a column of their own."""
BROKEN_TO = 16
"""Characters of a name below which it is not broken into lines for the sake of other columns."""


def table_of(*columns: str, text: Collection[str] = (), folded: Collection[str] = ()) -> Table:
    """A plain table: numbers on the right, `text` on the left, and the `folded` columns, text too, break into lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        left = column in text or column in folded
        table.add_column(column, justify="left" if left else "right", no_wrap=column not in folded, overflow="fold")
    return table


def print_trials(results: Results, console: Console) -> None:
    """One row a trial."""
    metrics = (results.spec.search.first_metric, names.TEST_ACC1)
    narrow = console.width < NARROW
    if narrow:
        table = table_of("trial, values", "status", "epochs", *metrics, text=("status",), folded=("trial, values",))
    else:
        last = "values or reason"
        table = table_of("trial", "status", "epochs", *metrics, "seed", last, text=("trial", "status"), folded=(last,))
    for record in results.records:
        name, about = escape(record.trial.id), escape(_about(record))
        cells = [
            f"[{_STYLES.get(record.status, 'cyan')}]{record.status}[/]",
            str(record.epochs),
            *(format_number(record.metrics.get(metric)) for metric in metrics),
        ]
        if narrow:
            table.add_row(f"{name}\n[dim]{about}[/]" if about else name, *cells)
        else:
            table.add_row(name, *cells, str(record.trial.seed), about)
    console.print(table)
    console.print()


def print_comparison(
    experiment: Experiment, console: Console, reference: str | None = None, objectives: str | None = None
) -> None:
    """One row a variant: test accuracy over fresh seeds, and the values that won; then what it shows.

    `reference` names the variant that the others are compared with; `objectives` as in `Results.front`.
    """
    results = experiment.results(reference)
    front = results.front(objectives)
    print_variants([(arm.name, arm, results.spec.search) for arm in results.variants], console)
    comparisons = [c for c in results.comparisons if c.difference]
    if comparisons:
        print_text(comparison_table(comparisons), console)
    if front:
        print_text(front.table(), console)
    found = experiment.found_teachers
    for line in verdicts(results, found):
        console.print(escape(line))
    remarks = notes(results, found, experiment.state, experiment.spent)
    print_remarks([about(comparisons), front.note if front else "", *remarks], console)


def print_remarks(lines: Iterable[str], console: Console) -> None:
    """How to read what stands above; nothing where results alone are wanted."""
    for line in filter(None, () if is_quiet() else lines):
        console.print(f"[dim]{escape(line)}[/]")


def print_variants(arms: Sequence[tuple[str, VariantResult, SearchSpec]], console: Console) -> None:
    """One row a variant, by its name: accuracy over fresh seeds, and the values that won."""
    narrow, planned = console.width < NARROW, any(search.final_seeds for _, _, search in arms)
    metrics = {search.first_metric for _, _, search in arms}
    metric = metrics.pop() if len(metrics) == 1 else "value"
    tested = ("n", "test acc1 %", "95% interval") if planned else ()
    best = f"best\n{metric}" if narrow else f"best {metric}"
    last = ("trials", "winning values")
    table = table_of("variant", *tested, best, *(() if narrow else last), folded=("variant", last[1]))
    winners = table_of("variant", *last, folded=("variant", last[1]))
    for name, arm, search in arms:
        ran, seeds = len(arm.finals), search.final_seeds
        cells = [
            str(ran) if ran == seeds else f"{ran}/{seeds}",
            f"[bold]{arm.test}[/]" if arm.test else "-",
            format_interval(arm.test.interval if arm.test else None),
        ]
        value = format_number(arm.best.metrics.get(search.first_metric) if arm.best else None)
        won = (str(sum(arm.statuses.values())), escape(arm.chosen))
        table.add_row(escape(name), *cells[: len(tested)], value, *(() if narrow else won))
        winners.add_row(escape(name), *won)
    console.print(table)
    if narrow:
        console.print()
        console.print(winners)


def print_text(table: TextTable, console: Console, folded: Collection[str] = ()) -> None:
    """A table of text below another one; on a narrow screen an interval stands below what it is of."""
    header, rows = table
    if console.width < NARROW and "95% interval" in header:
        at = header.index("95% interval")
        header, *rows = [[*line[: at - 1], f"{line[at - 1]}\n{line[at]}", *line[at + 1 :]] for line in (header, *rows)]
    broken = {header[0], "reference", "on the front", *folded}
    for columns in _that_fit(header, rows, broken, console.width):
        drawn = table_of(*(header[column] for column in columns), folded=broken)
        for row in rows:
            drawn.add_row(*(escape(row[column]) for column in columns))
        console.print()
        console.print(drawn)


def _that_fit(
    header: Sequence[str], rows: Sequence[Sequence[str]], broken: Collection[str], width: int
) -> list[list[int]]:
    """The columns of tables that are not wider, each with the first column; one table where that is enough.

    Columns that break into lines need no more than so many characters.
    """
    needed = []
    for column, name in enumerate(header):
        widest = max(len(line) for row in (header, *rows) for line in row[column].split("\n"))
        needed.append(min(widest, BROKEN_TO) if name in broken else widest)
    found, used = [[0]], needed[0]
    for column in range(1, len(header)):
        if used + 2 + needed[column] > width and len(found[-1]) > 1:
            found.append([0])
            used = needed[0]
        found[-1].append(column)
        used += 2 + needed[column]
    return found


def _about(record: Record) -> str:
    """Why it failed, or is to be tried again; else its values."""
    told = record.status in (Status.FAILED, Status.INTERRUPTED) and record.reason
    return reason(record) if told else format_changes(record.trial.params, record.made)
