"""What accuracy costs: students' size and time, and the time of the whole experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.analysis.charts.style import INK, LINE, ROW, Chart, Styles, escaped, figure, rows_axis
from orchestrator.analysis.pareto import Candidate, Front, Objective
from orchestrator.analysis.statistics import summarise

WORDS = {
    "student.parameters": "parameters of the student",
    "student.flops": "multiply-adds for one image",
    "time/epoch_s": "seconds an epoch",
}
TEACHERS, COMPLETE, STOPPED, UNFINISHED, FINAL = (
    "teachers",
    "complete search trials",
    "stopped early",
    "failed or unfinished",
    "final runs",
)
STRENGTHS = {TEACHERS: 1.0, COMPLETE: 1.0, STOPPED: 0.65, UNFINISHED: 0.05, FINAL: 0.3}
"""What trials' time went into, and how strong its colour is."""
LARGE_RATIO = 8.0
"""Between the ends of an axis that is logarithmic from there on."""


def trade_off(front: Front, styles: Styles) -> Chart | None:
    """A front of variants by two objectives, the gain upwards and the cost to the right; None without a candidate."""
    if not front.placed:
        return None
    gain, cost = front.objectives
    traces: list[dict[str, Any]] = []
    on_front = sorted(
        ((p.candidate.mean(cost), p.candidate.mean(gain)) for p in front.placed if not p.above),
        key=lambda pair: pair[0] * -cost.sign,
    )
    if len(on_front) > 1:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "front",
                "x": [x for x, _ in on_front],
                "y": [y for _, y in on_front],
                "line": {"color": LINE, "width": 1.5, "dash": "dot", "shape": "hv"},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    for placed in front.placed:
        mine = placed.candidate
        style = styles[mine.name]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escaped(mine.name),
                "legendgroup": mine.name,
                "x": [mine.mean(cost)],
                "y": [mine.mean(gain)],
                "error_y": _error(mine, gain, style.with_opacity(0.55)),
                "marker": {
                    "color": style.colour,
                    "symbol": f"{style.symbol}-open" if placed.above else style.symbol,
                    "size": 12,
                    "line": {"color": style.colour, "width": 2},
                },
                "hovertemplate": f"{mine.text(gain)} %; {mine.text(cost)}<br>on the front: {placed.standing}"
                "<extra>%{fullData.name}</extra>",
            }
        )
    costs = [p.candidate.mean(cost) for p in front.placed]
    wide = min(costs) > 0 and max(costs) / min(costs) > LARGE_RATIO
    words = WORDS.get(cost.name, cost.name)
    made = figure(traces, words, f"{gain.name} in %", 320, xaxis={"type": "log" if wide else "linear"})
    best = ", ".join(p.candidate.name for p in front.placed if not p.above)
    return Chart(
        f"trade-off-{cost.name.replace('/', '-')}",
        f"Accuracy against {words}",
        made,
        f"Scatter chart of {gain.name} against {words}, one symbol for each variant. On the Pareto front: {best}.",
        front.table(),
        f"Filled symbols are on the front. {front.note}",
        tuple(p.candidate.name for p in front.placed),
    )


def time_spent(spent: Mapping[str, Mapping[str, float]], styles: Styles) -> Chart | None:
    """Seconds of trials by variant, or "teachers", then by one of `STRENGTHS`; None without any."""
    if not any(value for kinds in spent.values() for value in kinds.values()):
        return None
    kinds = sorted({kind for found in spent.values() for kind in found}, key=[*STRENGTHS].index)
    largest = max(sum(found.values()) for found in spent.values())
    unit, seconds = ("hours", 3600.0) if largest > 7200 else ("minutes", 60.0) if largest > 120 else ("seconds", 1.0)
    traces: list[dict[str, Any]] = []
    for kind in kinds:
        strength = STRENGTHS[kind]
        colours = [
            styles[name].with_opacity(strength) if name in styles else f"rgba(128, 136, 148, {strength:g})"
            for name in spent
        ]
        edges = [styles[name].colour if name in styles else INK for name in spent]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": kind,
                "y": [*range(len(spent))],
                "x": [found.get(kind, 0.0) / seconds for found in spent.values()],
                "marker": {"color": colours, "line": {"color": edges, "width": 1}},
                "hovertemplate": f"{kind}: %{{x:.3g}} {unit}<extra></extra>",
            }
        )
    made = figure(
        traces,
        f"{unit} of trials, added up",
        "",
        70 + ROW * len(spent),
        yaxis=rows_axis([*spent]),
        barmode="stack",
        bargap=0.45,
        showlegend=False,
    )
    totals = {name: sum(found.values()) / seconds for name, found in spent.items()}
    rows = [
        [name, *(f"{found.get(kind, 0.0) / seconds:.2f}" for kind in kinds), f"{totals[name]:.2f}"]
        for name, found in spent.items()
    ]
    return Chart(
        "time",
        "Time of trials",
        made,
        f"Bar chart of the time that trials took, in {unit}: "
        + "; ".join(f"{name} {total:.2g}" for name, total in totals.items())
        + ".",
        (["variant", *(f"{kind}, {unit}" for kind in kinds), "together"], rows),
        f"In a row, from left to right: {', '.join(kinds)}. Trials that ran at the same time count each.",
    )


def _error(candidate: Candidate, gain: Objective, colour: str) -> dict[str, Any]:
    """The 95% interval of a percentage, where it has one."""
    summary = summarise([*candidate.values[gain.name].values()])
    if summary is None or summary.interval is None:
        return {"visible": False}
    low, high = summary.interval
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - summary.mean],
        "arrayminus": [summary.mean - low],
        "color": colour,
        "thickness": 4,
        "width": 0,
    }
