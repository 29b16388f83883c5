"""The sections of a report, each from the evidence; one that has nothing to say is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator import names
from orchestrator.analysis.charts import every
from orchestrator.analysis.charts.style import Chart, Styles
from orchestrator.analysis.comparisons import verdict
from orchestrator.analysis.evidence import Evidence
from orchestrator.analysis.formats import format_interval, format_number
from orchestrator.analysis.importance import importances
from orchestrator.analysis.notes import failures, notes, verdicts
from orchestrator.analysis.report.content import Block, Charts, Circumstances, Section, Tabled, Text
from orchestrator.analysis.results import Results
from orchestrator.analysis.rows import Table, about, comparison_table
from orchestrator.spec.variants import flatten, variants

MAX_ON_FRONT = 30
"""Rows of the table of a Pareto front."""
MAX_TRIED = 12
"""Searched values that have a chart each."""


def comparison(evidence: Evidence, circumstances: Circumstances, style: Styles) -> Section:
    """The variants beside each other, what they differ in, and what has to be known of it."""
    results, found = evidence.results, circumstances.found_teachers
    pairs = [c for c in results.comparisons if c.difference]
    blocks: list[Block] = [
        Text(line, warning=True) for line in verdicts(results, found) if line not in verdict(results.comparisons)
    ]
    blocks.append(Tabled(variants_table(results), by_variant=True))
    blocks.append(Charts(tuple(every.outcome(evidence, style)), tables=False))
    if pairs:
        blocks += [Tabled(comparison_table(pairs), by_variant=True), Text(about(pairs))]
    failed = failures(results.records)
    remarks = notes(results, found, circumstances.state, circumstances.spent)
    blocks += [Text(line.strip()) for line in remarks if line not in failed]
    blocks.append(Tabled(settings_table(results), "What each variant sets and searches", by_variant=True, folded=True))
    return Section("variants", "Variants", tuple(blocks))


def learning(evidence: Evidence, style: Styles) -> Section:
    """How the students learnt."""
    return Section("learning", "Learning curves", _charts(every.learning(evidence, style)))


def temperatures(evidence: Evidence, style: Styles) -> Section:
    """The temperatures that samples had."""
    drawn = every.temperature(evidence, style)
    varied = any(
        epoch.get(names.TEMPERATURE_P10) != epoch.get(names.TEMPERATURE_P90)
        for run in evidence.runs
        for epoch in run.epochs
    )
    if drawn and not varied:
        return Section("temperatures", "Temperatures", (Text("Every variant distils at one constant temperature."),))
    spread = [chart for chart in drawn if chart.name == "temperatures"]
    maps = [chart for chart in drawn if chart.name != "temperatures"]
    blocks = _charts(spread, wide=True)
    if maps:
        text = "Each variant's samples by temperature: the stronger the colour, the more samples of an epoch."
        blocks += (Text(text), *_charts(maps))
    if held := _held(evidence):
        blocks += (Tabled(held, "Held at the bounds in the last epoch", by_variant=True),)
    return Section("temperatures", "Temperatures", blocks)


def mistakes(evidence: Evidence, style: Styles) -> Section:
    """What the teacher gets wrong, and what was done about it."""
    if not evidence.repaired:
        return Section("mistakes", "The teacher's mistakes", ())
    drawn = every.mistakes(evidence, style)
    blocks: tuple[Block, ...] = ()
    if not any(chart.name == "repaired" for chart in drawn):
        blocks = (Text("The teacher was right on every training image: there was nothing to repair."),)
    return Section("mistakes", "The teacher's mistakes", (*blocks, *_charts(drawn)))


def search(evidence: Evidence, style: Styles) -> Section:
    """What was searched, and which of it mattered."""
    found = importances(evidence.results)
    drawn = every.searched(evidence, found, style)
    important = [chart for chart in drawn if chart.name == "importance"]
    tried = [chart for chart in drawn if chart.name != "importance"]
    metric = evidence.results.spec.search.first_metric
    blocks: list[Block] = [*_charts(important, wide=True), *(Text(doubt, warning=True) for doubt in found.doubts)]
    blocks += [Text(note) for note in found.notes]
    if tried:
        more = f" The first {MAX_TRIED} of {len(tried)} values." if len(tried) > MAX_TRIED else ""
        blocks.append(
            Text(
                f"Every search trial by each value and the {metric} that it reached. Large: the trial whose values "
                f"were chosen; hollow: stopped before its end.{more}"
            )
        )
        blocks += _charts(tried[:MAX_TRIED])
    return Section("search", "What the search tried", tuple(blocks))


def trade_offs(evidence: Evidence, circumstances: Circumstances, style: Styles) -> Section:
    """Accuracy against size and time."""
    drawn = every.trade_offs(evidence, style)
    blocks = _charts(drawn)
    sizes = {size for size in circumstances.sizes.values() if size}
    if drawn and len(sizes) == 1:
        blocks = (Text(f"All students have {sizes.pop():,} parameters, so that time alone tells them apart."), *blocks)
    if front := _front(evidence.results):
        blocks += front
    if drawn:
        blocks += (Text("Times are of the last epoch, and were measured while other trials ran on the same machine."),)
    return Section("trade-offs", "Accuracy against cost", blocks)


def _front(results: Results) -> tuple[Block, ...]:
    """What is on the Pareto front of a search by several metrics."""
    search = results.spec.search
    front = results.front() if len(search.objectives) > 1 else None
    if front is None or not front.placed:
        return ()
    header, rows = replace(front, placed=tuple(p for p in front.placed if not p.above)).table()
    more = f" The first {MAX_ON_FRONT} of {len(rows)}." if len(rows) > MAX_ON_FRONT else ""
    caption = f"On the front of {', '.join(objective.name for objective in front.objectives)}"
    table = [line[:-1] for line in (header, *rows[:MAX_ON_FRONT])]
    return Tabled((table[0], table[1:]), caption, by_variant=True), Text(f"{front.note}{more}")


def variants_table(results: Results) -> Table:
    """One row a variant: accuracies and winning values."""
    search = results.spec.search
    tested = ["n", "test acc1 %", "95% interval"] if search.final_seeds else []
    rows = []
    for variant in results.variants:
        ran, seeds = len(variant.finals), search.final_seeds
        cells = [str(ran) if ran == seeds else f"{ran}/{seeds}", str(variant.test or "-")]
        cells.append(format_interval(variant.test.interval if variant.test else None))
        best = format_number(variant.best.metrics.get(search.first_metric) if variant.best else None)
        rows.append([variant.name, *cells[: len(tested)], best, str(sum(variant.statuses.values())), variant.chosen])
    return ["variant", *tested, f"best {search.first_metric}", "trials", "winning values"], rows


def settings_table(results: Results) -> Table:
    """What each variant sets, and what it searches."""
    own = results.spec.search.variants
    rows = []
    for variant in variants(results.spec):
        given = flatten(dict(own[variant.name].set)) if variant.name in own else {}
        sets = "; ".join(f"{path}: {value}" for path, value in given.items())
        space = "; ".join(f"{path}: {domain}" for path, domain in variant.space.items())
        rows.append([variant.name, sets or "nothing: the spec's own values", space or "nothing"])
    return ["variant", "sets", "searches"], rows


def _held(evidence: Evidence) -> Table | None:
    """Shares of samples at the bounds, where any variant has some."""
    rows = []
    for name in evidence.variants:
        last = [run.epochs[-1] for run in evidence.runs if run.variant == name and run.epochs]
        low, high = (
            [epoch[metric] for epoch in last if metric in epoch]
            for metric in (names.TEMPERATURE_CLAMPED_LOW, names.TEMPERATURE_CLAMPED_HIGH)
        )
        if any(low + high):
            rows.append([name, f"{100 * sum(low) / len(low):.1f} %", f"{100 * sum(high) / len(high):.1f} %"])
    return (["variant", "at the lower bound", "at the upper bound"], rows) if rows else None


def _charts(drawn: Iterable[Chart], *, wide: bool = False) -> tuple[Block, ...]:
    found = tuple(drawn)
    return (Charts(found, wide),) if found else ()
