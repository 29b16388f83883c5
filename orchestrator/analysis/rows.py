"""Results as data and text: nested and flat mappings, frames, Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.comparisons import Comparison, verdict
from orchestrator.analysis.difference import POWER
from orchestrator.analysis.formats import format_interval, format_number, format_p
from orchestrator.analysis.statistics import Summary
from orchestrator.search.population import schedule
from orchestrator.search.trials import Record

if TYPE_CHECKING:
    from pandas import DataFrame

    from orchestrator.analysis.results import Results, VariantResult

Table = tuple[list[str], list[list[str]]]
"""A header, and rows of text."""


def variant_dict(variant: VariantResult) -> dict[str, Any]:
    return {
        "name": variant.name,
        "trials": {str(status): count for status, count in variant.statuses.items()},
        "best": None if variant.best is None else trial_dict(variant.best),
        "test/acc1": _summary_dict(variant.test),
        "val/acc1": _summary_dict(variant.val),
        "final_seeds": [record.trial.seed for record in variant.finals],
        **({"schedule": schedule(variant.first, variant.changes)} if variant.changes else {}),
    }


def trial_dict(record: Record) -> dict[str, Any]:
    trial = record.trial
    return {
        "id": trial.id,
        "phase": str(trial.phase),
        "variant": trial.variant,
        "seed": trial.seed,
        "status": str(record.status),
        "reason": record.reason,
        "epochs": record.epochs,
        "seconds": round(record.seconds, 3),
        **({"repeats": trial.repeats} if trial.repeats else {}),
        "params": dict(record.params),
        **({"schedule": schedule(trial.params, record.made)} if record.made else {}),
        "metrics": record.metrics,
        "described": record.described,
    }


def variant_row(variant: VariantResult, comparison: Comparison | None, metric: str) -> dict[str, Any]:
    """One variant, flat; its comparison with its reference, where it has one."""
    row: dict[str, Any] = {"variant": variant.name}
    for name, summary in (("test/acc1", variant.test), ("val/acc1", variant.val)):
        low, high = (summary and summary.interval) or (None, None)
        row |= {
            f"{name} n": summary.count if summary else 0,
            f"{name} mean": summary and summary.mean,
            f"{name} sd": summary and summary.sd,
            f"{name} low": low,
            f"{name} high": high,
        }
    row["trials"] = sum(variant.statuses.values())
    row[f"best {metric}"] = variant.best.metrics.get(metric) if variant.best else None
    row |= {} if comparison is None else {k: v for k, v in comparison.to_row().items() if k not in ("variant", "n")}
    return row | {f"params.{path}": value for path, value in variant.params.items()}


def trial_row(record: Record) -> dict[str, Any]:
    """One trial, flat."""
    row = trial_dict(record)
    params, metrics, described = row.pop("params"), row.pop("metrics"), row.pop("described")
    row.pop("schedule", None)
    return {**row, **{f"params.{path}": value for path, value in params.items()}, **metrics, **described}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Flat mappings as lines, with a column for every key."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def frame(rows: Sequence[Mapping[str, Any]], index: str | None = None) -> DataFrame:
    """Flat mappings as a pandas frame, by their key `index`."""
    import pandas

    found = pandas.DataFrame([*rows])
    return found if index is None or not rows else found.set_index(index)


def variants_table(named: Sequence[tuple[str, VariantResult, str]]) -> Table:
    """Variants by their names, each with the metric that its configuration was chosen by."""
    metrics = {metric for *_, metric in named}
    best = f"best {metrics.pop()}" if len(metrics) == 1 else "best value"
    header = ["variant", "n", "test acc1 (mean ± sd)", "95% interval", best, "trials", "winning values"]
    return header, [
        [
            name,
            str(len(variant.finals)),
            str(variant.test or "-"),
            format_interval(variant.test.interval if variant.test else None),
            format_number(variant.best.metrics.get(metric) if variant.best else None),
            str(sum(variant.statuses.values())),
            variant.chosen,
        ]
        for name, variant, metric in named
    ]


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Differences to the reference, with a column of references where there are several."""
    one = {c.reference for c in comparisons}
    several = len(one) > 1
    difference = "difference" if several else f"difference to {next(iter(one), '')}"
    header = ["variant", *(["reference"] if several else []), "n", difference, "95% interval"]
    rows = []
    for c in comparisons:
        seen = c.difference
        rows.append(
            [
                c.variant,
                *([c.reference] if several else []),
                str(seen.count if seen else 0),
                f"{seen.mean:+.2f}" if seen else "-",
                format_interval(seen.interval if seen else None, "+"),
                format_p(c.p_holm),
                "-" if seen is None or seen.effect is None else f"{seen.effect:+.1f}",
                "-" if c.detectable is None else f"{c.detectable:.1f}",
            ]
        )
    return [*header, "p (Holm)", "Hedges' g", "detectable"], rows


def about(comparisons: Sequence[Comparison]) -> str:
    """How to read the table of differences."""
    tested = max((c.together for c in comparisons if c.p_holm is not None), default=0)
    if not tested:
        return ""
    how = {True: "of the same seeds", False: "of independent runs (Welch's test)"}
    ways = " or ".join(dict.fromkeys(how[c.is_paired] for c in comparisons if c.difference))
    holm = f", p after Holm's correction for {tested} comparisons" if tested > 1 else ""
    return (
        f"Differences {ways}, in points, each with its own interval{holm}; g in standard deviations. "
        f"Detectable: the true difference that {100 * POWER:.0f} % of such experiments would show."
    )


def markdown(results: Results, objectives: str | None = None) -> str:
    """The comparison as Markdown, and what it shows."""
    seeds, metric = results.spec.search.final_seeds, results.spec.search.first_metric
    runs = f"{seeds} fresh seed{'s' if seeds > 1 else ''}"
    told = (
        f"test accuracy (%) over {runs} of each variant's best configuration by {metric}."
        if seeds
        else f"best {metric} of each variant's search; search.final_seeds is 0, so nothing was tested."
    )
    named = [(variant.name, variant, metric) for variant in results.variants]
    parts = [f"**{results.spec.name}**: {told}", markdown_table(variants_table(named))]
    comparisons = [c for c in results.comparisons if c.difference]
    if comparisons:
        parts += [markdown_table(comparison_table(comparisons)), about(comparisons), *verdict(comparisons)]
    if front := results.front(objectives):
        parts.append(front._repr_markdown_())
    return "\n\n".join(filter(None, parts))


def markdown_table(table: Table) -> str:
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _summary_dict(summary: Summary | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    return {
        "n": summary.count,
        "mean": summary.mean,
        "sd": summary.sd,
        "interval_95": summary.interval and list(summary.interval),
    }
