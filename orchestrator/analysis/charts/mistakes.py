"""What the teacher gets wrong: how much of it logits adjustment repaired, and how students do on those classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.analysis.charts.style import INK, LINE, ROW, Chart, Styles, escaped, figure, rows_axis
from orchestrator.analysis.epochs import Repairs
from orchestrator.analysis.rows import Table

MAX_CLASSES = 20
"""Rows of the chart by class: those that the teacher is worst at."""


def repaired(counts: Mapping[str, tuple[float, float]], styles: Styles) -> Chart | None:
    """Training images in an epoch, by variant: on how many the teacher is wrong, and of how many targets were adjusted.

    None where no teacher was wrong.
    """
    if not any(wrong for wrong, _ in counts.values()):
        return None
    rows: list[list[str]] = []
    traces: list[dict[str, Any]] = []
    for place, (name, (wrong, adjusted)) in enumerate(counts.items()):
        style = styles[name]
        common = {"type": "bar", "orientation": "h", "y": [place], "legendgroup": name, "name": escaped(name)}
        of = f"{adjusted:,.0f} of {wrong:,.0f}"
        outline = {"color": "rgba(0, 0, 0, 0)", "line": {"color": style.colour, "width": 1.5}}
        hover = f"{of} repaired<extra>%{{fullData.name}}</extra>"
        traces.append({**common, "x": [wrong], "marker": outline, "hovertemplate": hover})
        traces.append({**common, "x": [adjusted], "marker": {"color": style.colour}, "hovertemplate": hover})
        share = f"{100 * adjusted / wrong:.0f} %" if wrong else "-"
        rows.append([name, f"{wrong:,.0f}", f"{adjusted:,.0f}", share])
    made = figure(
        traces,
        "training images in an epoch",
        "",
        70 + ROW * len(counts),
        yaxis=rows_axis([*counts]),
        barmode="overlay",
        bargap=0.45,
        showlegend=False,
    )
    told = "; ".join(f"{name} {adjusted} of {wrong}" for name, wrong, adjusted, _ in rows)
    return Chart(
        "repaired",
        "Repaired targets",
        made,
        f"Bar chart of the training images in an epoch whose targets were repaired, of those that the teacher is wrong "
        f"on: {told}.",
        (["variant", "teacher wrong", "repaired", "share"], rows),
        "Outlined: images in the last epoch whose label is not the teacher's top class; filled: those whose target was "
        "repaired. Means over runs.",
        tuple(counts),
    )


def repaired_by_class(repairs: Mapping[str, Mapping[str, Repairs]], styles: Styles) -> Chart | None:
    """Training images in an epoch whose targets were repaired, by variant and class, the most often repaired first.

    None where nothing was.
    """
    if not repairs:
        return None
    totals: dict[str, float] = {}
    for classes in repairs.values():
        for label, found in classes.items():
            totals[label] = totals.get(label, 0) + found.images
    ranked = sorted(totals, key=lambda label: -totals[label])
    shown = ranked[:MAX_CLASSES]
    counts = {name: {label: each.images for label, each in found.items()} for name, found in repairs.items()}
    made = figure(
        _symbols(counts, shown, styles, "%{x:,.1f}"),
        "training images in an epoch",
        "",
        70 + max(22, 8 * len(counts)) * len(shown),
        yaxis=_classes_axis(shown),
    )
    rows: list[list[str]] = []
    taken: dict[str, str] = {}
    for label in ranked:
        mine = {name: found[label] for name, found in repairs.items() if label in found}
        most = max(mine.values(), key=lambda each: each.times)
        taken[label] = f"{most.taken_for} ({100 * most.times / most.images:.0f} %)"
        rows.append([label, *(_count(mine[name].images) if name in mine else "0" for name in repairs), taken[label]])
    told = "; ".join(f"{label}, which the teacher takes most often for {taken[label]}" for label in shown[:3])
    some = f" Shown are {MAX_CLASSES} of {len(ranked)} classes." if len(ranked) > len(shown) else ""
    return Chart(
        "repaired-classes",
        "Repaired targets by class",
        made,
        f"Dot chart of the training images in an epoch whose targets were repaired, by class and variant. Most often "
        f"repaired: {told}.",
        (["class", *(f"{name}, repaired" for name in repairs), "taken most often for"], rows),
        f"Repaired most often: {told}. Last epoch, means over runs.{some}",
        tuple(repairs),
    )


def by_class(
    teacher: Mapping[str, float] | None, students: Mapping[str, Mapping[str, float]], images: str, styles: Styles
) -> Chart | None:
    """Accuracy in percent by class, of the teacher on validation images and of each variant on what `images` names.

    None where no variant has any.
    """
    known = {name: classes for name, classes in students.items() if classes}
    if not known:
        return None
    against = teacher or next(iter(known.values()))
    classes = sorted(against, key=lambda name: against[name])
    shown = classes[:MAX_CLASSES]
    traces = _symbols(known, shown, styles, "%{x:.1f} %")
    if teacher:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "teacher, validation images",
                "x": [teacher[label] for label in shown],
                "y": [*range(len(shown))],
                "marker": {"symbol": "line-ns-open", "size": 22, "color": INK, "line": {"color": LINE, "width": 2.5}},
                "hovertemplate": "%{x:.1f} %",
            }
        )
    made = figure(
        traces,
        "accuracy in %",
        "",
        70 + max(22, 8 * len(known)) * len(shown),
        yaxis=_classes_axis(shown),
    )
    weakest = f"{'The teacher' if teacher else next(iter(known))} is worst at {', '.join(shown[:3])}"
    some = f" Shown are the {MAX_CLASSES} of {len(classes)} classes that it is worst at." if shown != classes else ""
    return Chart(
        "classes",
        "Accuracy by class",
        made,
        f"Dot chart of the accuracy in each class, by variant. {weakest}.",
        _table(teacher, known, classes),
        f"Symbols: {images}, means over runs."
        + (" Grey ticks: the teacher, on validation images." if teacher else "")
        + f"{some} Few images make a class: small differences here are chance.",
        tuple(known),
    )


def _count(mean: float) -> str:
    return f"{mean:,.1f}".removesuffix(".0")


def _symbols(
    values: Mapping[str, Mapping[str, float]], shown: Sequence[str], styles: Styles, hover: str
) -> list[dict[str, Any]]:
    """A trace of symbols for each variant, whose values are by class."""
    traces = []
    for offset, (name, mine) in zip(_offsets(len(values)), values.items(), strict=True):
        style = styles[name]
        there = [(place, mine[label]) for place, label in enumerate(shown) if label in mine]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escaped(name),
                "legendgroup": name,
                "x": [value for _, value in there],
                "y": [place + offset for place, _ in there],
                "marker": {"color": style.colour, "symbol": style.symbol, "size": 8},
                "hovertemplate": hover,
            }
        )
    return traces


def _classes_axis(shown: Sequence[str]) -> dict[str, Any]:
    return rows_axis(shown) | {"showgrid": True, "gridcolor": "rgba(128, 136, 148, 0.12)"}


def _offsets(count: int) -> list[float]:
    """Places beside each other within a row, for so many symbols."""
    return [0.0] if count == 1 else [-0.32 + 0.64 * place / (count - 1) for place in range(count)]


def _table(
    teacher: Mapping[str, float] | None, students: Mapping[str, Mapping[str, float]], classes: list[str]
) -> Table:
    columns = {**({"teacher (validation)": teacher} if teacher else {}), **students}
    rows = [
        [label, *(f"{column[label]:.1f}" if label in column else "-" for column in columns.values())]
        for label in classes
    ]
    return ["class, accuracy in %", *columns], rows
