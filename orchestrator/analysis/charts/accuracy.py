"""Test accuracy of the variants, and how much each differs from its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.analysis.charts.style import LINE, ROW, Chart, Styles, escaped, figure, padded, rows_axis
from orchestrator.analysis.comparisons import Comparison
from orchestrator.analysis.formats import format_interval
from orchestrator.analysis.rows import comparison_table
from orchestrator.analysis.statistics import MIN_FOR_INTERVAL, summarise

BySeed = Mapping[str, Mapping[int, float]]
"""Test accuracies in percent by variant, then by seed."""


def accuracies(tests: BySeed, styles: Styles) -> Chart | None:
    """Every final run, and of each variant the mean with its 95% interval; None where nothing was tested."""
    tested = {name: seeds for name, seeds in tests.items() if seeds}
    if not tested:
        return None
    traces: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    told, ends = [], []
    for place, (name, seeds) in enumerate(tested.items()):
        style, values = styles[name], [*seeds.values()]
        summary = summarise(values)
        if summary is None:
            continue
        common = {"legendgroup": name, "name": escaped(name)}
        ends += [*values, *(summary.interval or ())]
        if summary.interval:
            traces.append(_interval(place, summary.interval, style.with_opacity(0.55)) | common)
        if len(values) > 1:
            runs = {"color": style.with_opacity(0.45), "size": 7, "symbol": "line-ns-open", "line": {"width": 1.5}}
            traces.append(
                {
                    **common,
                    "type": "scatter",
                    "mode": "markers",
                    "x": values,
                    "y": [place] * len(values),
                    "marker": runs,
                    "customdata": [*seeds],
                    "hovertemplate": "seed %{customdata}: %{x:.2f} %<extra>%{fullData.name}</extra>",
                    "showlegend": False,
                }
            )
        interval = format_interval(summary.interval)
        traces.append(
            {
                **common,
                "type": "scatter",
                "mode": "markers",
                "x": [summary.mean],
                "y": [place],
                "marker": {"color": style.colour, "symbol": style.symbol, "size": 12},
                "hovertemplate": f"{summary} %<br>95% interval {interval}<br>{summary.count} seeds"
                "<extra>%{fullData.name}</extra>",
            }
        )
        rows.append([name, str(summary.count), str(summary), interval, ", ".join(f"{v:.2f}" for v in values)])
        told.append(f"{name} {summary}")
    drawn = figure(
        traces,
        "test accuracy in %",
        "",
        70 + ROW * len(tested),
        xaxis={"range": padded(ends)},
        yaxis=rows_axis([*tested]),
        showlegend=False,
    )
    few = any(len(seeds) < MIN_FOR_INTERVAL for seeds in tested.values())
    return Chart(
        "accuracy",
        "Test accuracy",
        drawn,
        f"Test accuracy in percent of each variant, mean and standard deviation: {'; '.join(told)}.",
        (["variant", "n", "mean ± sd in %", "95% interval", "by seed"], rows),
        "Symbols are means over fresh seeds, bars their 95% intervals, ticks single runs."
        + (f" An interval takes {MIN_FOR_INTERVAL} seeds." if few else ""),
        tuple(tested),
    )


def differences(comparisons: Sequence[Comparison], styles: Styles) -> Chart | None:
    """Each variant's difference to its reference with its 95% interval; None where nothing can be compared."""
    seen = [(c, c.difference) for c in comparisons if c.difference]
    if not seen:
        return None
    references = list(dict.fromkeys(c.reference for c, _ in seen))
    labels = [c.variant if len(references) == 1 else f"{c.variant} - {c.reference}" for c, _ in seen]
    traces: list[dict[str, Any]] = []
    told, ends = [], [0.0]
    for place, (comparison, difference) in enumerate(seen):
        style, name = styles[comparison.variant], comparison.variant
        common = {"legendgroup": name, "name": escaped(name)}
        interval = format_interval(difference.interval, "+")
        ends += [difference.mean, *(difference.interval or ())]
        if difference.interval:
            traces.append(_interval(place, difference.interval, style.with_opacity(0.55)) | common)
        traces.append(
            {
                **common,
                "type": "scatter",
                "mode": "markers",
                "x": [difference.mean],
                "y": [place],
                "marker": {
                    "color": style.colour,
                    "symbol": style.symbol if comparison.shown else f"{style.symbol}-open",
                    "size": 12,
                    "line": {"color": style.colour, "width": 2},
                },
                "hovertemplate": f"{difference.mean:+.2f} points<br>95% interval {interval}<br>"
                f"{'shown' if comparison.shown else 'no difference shown'}<extra>%{{fullData.name}}</extra>",
            }
        )
        told.append(f"{labels[place]} {difference.mean:+.2f} ({interval})")
    to = f"to {references[0]}" if len(references) == 1 else "to its reference"
    drawn = figure(
        traces,
        "points of test accuracy",
        "",
        70 + ROW * len(seen),
        yaxis=rows_axis(labels),
        xaxis={"range": padded(ends), "zeroline": True, "zerolinecolor": LINE, "zerolinewidth": 2},
        showlegend=False,
    )
    return Chart(
        "differences",
        f"Difference {to}",
        drawn,
        f"Difference {to} in points of test accuracy, with 95% intervals: {'; '.join(told)}.",
        comparison_table([c for c, _ in seen]),
        "Bars are 95% intervals, each of its difference alone. A filled symbol is a difference that is shown, "
        "corrected for the number of comparisons; a hollow one is not told from chance.",
        tuple(dict.fromkeys(c.variant for c, _ in seen)),
    )


def _interval(place: int, interval: tuple[float, float], colour: str) -> dict[str, Any]:
    """A thick bar from end to end."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*interval],
        "y": [place, place],
        "line": {"color": colour, "width": 5},
        "hoverinfo": "skip",
        "showlegend": False,
    }
