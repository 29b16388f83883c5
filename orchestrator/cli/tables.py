"""Tables of trials and of the comparison."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator import names
from orchestrator.analysis.results import Results, format_values
from orchestrator.search.trials import Phase, Status

_STYLES = {
    Status.FINISHED: "green",
    Status.STOPPED: "yellow",
    Status.FAILED: "red",
    Status.INTERRUPTED: "magenta",
}


MAX_REASONS = 3
"""Failed trials whose reasons stand below a comparison."""


def print_trials(results: Results, console: Console) -> None:
    """One row a trial."""
    metric = results.spec.search.metric
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", "status", "epochs", metric, names.TEST_ACC1, "seed", "values or reason"):
        number = column in ("epochs", metric, names.TEST_ACC1, "seed")
        table.add_column(column, justify="right" if number else "left", no_wrap=column != "values or reason")
    for record in results.records:
        failed = record.status is Status.FAILED
        table.add_row(
            escape(record.trial.id),
            f"[{_STYLES.get(record.status, 'cyan')}]{record.status}[/]",
            str(record.epochs),
            _number(record.metrics.get(metric)),
            _number(record.metrics.get(names.TEST_ACC1)),
            str(record.trial.seed),
            escape(record.reason or "") if failed else escape(format_values(record.trial.params)),
        )
    console.print(table)
    console.print()


def print_comparison(results: Results, console: Console) -> None:
    """One row a variant: test accuracy over fresh seeds, and the values that won."""
    metric = results.spec.search.metric
    seeds = results.spec.search.final_seeds
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("variant", "test acc1 %", "95% interval", f"best {metric}", "trials", "winning values"):
        text = column in ("variant", "winning values")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "winning values")
    for variant in results.variants:
        interval = variant.test.interval if variant.test else None
        table.add_row(
            escape(variant.name),
            f"[bold]{variant.test}[/]" if variant.test else "-",
            f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "-",
            _number(variant.best.metrics.get(metric) if variant.best else None),
            str(sum(variant.statuses.values())),
            escape(format_values(variant.params)) or "none searched",
        )
    console.print(table)
    if seeds:
        console.print(
            f"[dim]Test accuracy: mean ± standard deviation over {seeds} fresh seed{'s' if seeds > 1 else ''} of the "
            f"configuration that was best by {metric}; the test set was read in those runs alone.[/]"
        )
    for line in notes(results):
        console.print(f"[dim]{escape(line)}[/]")


def notes(results: Results) -> list[str]:
    """What a reader of the comparison has to know: the teacher's mistakes, and failed trials."""
    lines = []
    for record in results.teachers:
        if names.VAL_ACC1 in record.metrics:
            lines.append(f"Teacher: {record.metrics[names.VAL_ACC1]:.2f} % on validation images.")
    students = [
        r for r in results.records if r.trial.phase is not Phase.TEACHER and names.ADJUSTMENT_WRONG in r.metrics
    ]
    if students:
        wrong = students[-1].metrics[names.ADJUSTMENT_WRONG]
        lines.append(
            f"The teacher was wrong on {wrong:.0f} training images of an epoch; logits adjustment acts on those alone."
            if wrong
            else "The teacher was right on every training image: logits adjustment had nothing to act on."
        )
    failed = [record for record in results.records if record.status is Status.FAILED]
    lines += [f"Failed: {record.reason}" for record in failed[:MAX_REASONS]]
    if len(failed) > MAX_REASONS:
        lines.append(f"{len(failed) - MAX_REASONS} more failed; `orchestrator results` gives all reasons.")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
