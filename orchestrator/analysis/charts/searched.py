"""What the search tried, and which of the searched values mattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.analysis.charts.style import INK, Chart, Styles, escaped, figure, rows_axis
from orchestrator.analysis.formats import format_p
from orchestrator.analysis.importance import LEVEL, Importance
from orchestrator.analysis.tried import Tried

SHOWN_TRIALS = 10
"""Rows of the table of values that were tried: the best."""


def importances(found: Sequence[Importance], styles: Styles) -> Chart | None:
    """How much each searched value decides whether a trial is among the best, by variant; None without any."""
    if not found:
        return None
    labels = list(dict.fromkeys(one.label for one in found))
    variants = list(dict.fromkeys(one.variant for one in found))
    traces: list[dict[str, Any]] = []
    for order, variant in enumerate(variants):
        style, mine = styles[variant], [one for one in found if one.variant == variant]
        offset = 0.0 if len(variants) == 1 else -0.3 + 0.6 * order / (len(variants) - 1)
        marker = {"color": style.colour, "symbol": style.symbol, "size": 9, "line": {"color": style.colour, "width": 2}}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escaped(variant),
                "legendgroup": variant,
                "x": [100 * one.share for one in mine],
                "y": [labels.index(one.label) + offset for one in mine],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (one.high - one.share) for one in mine],
                    "arrayminus": [100 * (one.share - one.low) for one in mine],
                    "color": style.with_opacity(0.55),
                    "thickness": 4,
                    "width": 0,
                },
                "marker": marker | {"symbol": [f"{style.symbol}{'' if one.told else '-open'}" for one in mine]},
                "customdata": [[100 * one.low, 100 * one.high, format_p(one.p)] for one in mine],
                "hovertemplate": "%{x:.0f} % (%{customdata[0]:.0f} to %{customdata[1]:.0f}), p %{customdata[2]}",
            }
        )
    made = figure(
        traces,
        "importance in %",
        "",
        70 + max(30, 16 * len(variants)) * len(labels),
        yaxis=rows_axis(labels),
        xaxis={"range": [-3, 103]},
    )
    rows = [
        [
            one.variant,
            one.label,
            f"{100 * one.share:.0f} %",
            f"{100 * one.low:.0f} to {100 * one.high:.0f} %",
            format_p(one.p),
            str(one.trials),
        ]
        for one in found
    ]
    told = [f"{one.label} for {one.variant}" for one in found if one.told]
    return Chart(
        "importance",
        "Importance of the searched values",
        made,
        "Dot chart of how much each searched value decides whether a trial is among the best quarter, by variant. "
        + (f"More than chance: {', '.join(told)}." if told else "None is told from chance."),
        (["variant", "value", "importance by PED-ANOVA", "90% interval", "p", "trials"], rows),
        "For being among the best quarter of trials, by PED-ANOVA; of each variant in shares of all its values. Bars: "
        "90 % intervals, by drawing the trials anew. Filled "
        f"symbols are told from chance (p < {LEVEL} by shuffled results; one in twenty values without effect would "
        "be), hollow ones are not.",
        tuple(variants),
    )


def tried(values: Tried, metric: str, styles: Styles) -> Chart:
    """The metric of every search trial against one searched value."""
    traces: list[dict[str, Any]] = []
    variants = list(dict.fromkeys(point.variant for point in values.points))
    for variant in variants:
        style, mine = styles[variant], [point for point in values.points if point.variant == variant]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escaped(variant),
                "legendgroup": variant,
                "x": [point.value for point in mine],
                "y": [float(f"{point.metric:.5g}") for point in mine],
                "text": [escaped(point.trial) for point in mine],
                "marker": {
                    "symbol": [f"{style.symbol}{'' if point.complete else '-open'}" for point in mine],
                    "size": [12 if point.won else 7 for point in mine],
                    "color": style.colour,
                    "opacity": 0.85 if len(mine) <= 100 else 0.5,
                    "line": {"width": [1.5 if point.won else 0 if point.complete else 1.2 for point in mine]}
                    | {"color": [INK if point.won else style.colour for point in mine]},
                },
                "hovertemplate": "%{text}<br>%{x}: %{y:.4g}<extra></extra>",
            }
        )
    axis: dict[str, Any] = {"type": "log" if values.logarithmic else "category" if values.categories else "linear"}
    if values.categories:
        axis |= {"categoryorder": "array", "categoryarray": values.categories}
    elif values.logarithmic:
        axis |= {"tickvals": _ticks([float(point.value) for point in values.points])}
    made = figure(traces, values.path, metric, 280, xaxis=axis)
    best = sorted(values.points, key=lambda point: point.metric, reverse=values.larger_is_better)[:SHOWN_TRIALS]
    rows = [
        [p.trial, p.value if isinstance(p.value, str) else f"{p.value:.4g}", f"{p.metric:.4g}", p.status] for p in best
    ]
    return Chart(
        f"tried-{values.path}",
        values.path,
        made,
        f"Scatter chart of {metric} against {values.path} in {len(values.points)} search trials. The best, "
        f"{best[0].metric:.4g}, had {rows[0][1]}.",
        (["best trials", values.label, metric, "status"], rows),
        variants=tuple(variants),
    )


def _ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times the powers of ten from one before the smallest value to one after the largest."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    wide = high - low > 3
    steps = (1,) if wide else (1, 2, 5)
    return [float(f"{step}e{power}") for power in range(low, high + 1) for step in steps]
