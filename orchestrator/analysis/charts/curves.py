"""Learning curves: a metric over the epochs, one line and band for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.analysis.charts.style import Chart, Styles, escaped, figure, rounded
from orchestrator.analysis.epochs import Band
from orchestrator.analysis.rows import Table

HEIGHT = 340
SHOWN_EPOCHS = 10
"""Rows of a curve's table."""
SYMBOLS_OF_A_LINE = 7


def curves(name: str, title: str, drawn: Sequence[Band], unit: str, styles: Styles) -> Chart | None:
    """A metric's means over the epochs with their standard deviations; None where nothing has been trained."""
    if not drawn:
        return None
    traces: list[dict[str, Any]] = []
    for band in drawn:
        if (area := band_area(band)) is not None:
            traces.append(
                {
                    **area,
                    "legendgroup": band.variant,
                    "fillcolor": styles[band.variant].with_opacity(0.16),
                }
            )
    for band in drawn:
        style = styles[band.variant]
        spread = [value or 0.0 for value in band.spreads]
        known = any(value is not None for value in band.spreads)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escaped(band.variant),
                "legendgroup": band.variant,
                "x": [*band.epochs],
                "y": rounded(band.means),
                "customdata": rounded(spread),
                "line": {"color": style.colour, "dash": style.dash, "width": 2},
                "marker": {"symbol": style.symbol, "size": 7, "maxdisplayed": SYMBOLS_OF_A_LINE},
                "hovertemplate": f"%{{y:.4g}}{' ± %{customdata:.2g}' if known else ''}",
            }
        )
    heading = f"{title} in {unit}" if unit else title
    made = figure(traces, "epoch", heading, HEIGHT, hovermode="x unified")
    last = "; ".join(f"{band.variant} {band.means[-1]:.4g}" for band in drawn)
    count = max(band.runs for band in drawn)
    return Chart(
        name,
        heading,
        made,
        f"Line chart of {heading[0].lower()}{heading[1:]} over {max(band.epochs[-1] for band in drawn)} epochs, one "
        f"line for each variant. After the last epoch: {last}.",
        _table(drawn),
        f"Lines are means over up to {count} runs, bands one standard deviation to each side."
        if count > 1
        else "Each line is a single run: how much it would vary is not known.",
        tuple(band.variant for band in drawn),
    )


def band_area(band: Band) -> dict[str, Any] | None:
    """The area of one standard deviation around the means, where there is one."""
    known = [
        (epoch, mean, spread)
        for epoch, mean, spread in zip(band.epochs, band.means, band.spreads, strict=True)
        if spread is not None
    ]
    if not known:
        return None
    upper = [(epoch, mean + spread) for epoch, mean, spread in known]
    lower = [(epoch, mean - spread) for epoch, mean, spread in reversed(known)]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [epoch for epoch, _ in upper + lower],
        "y": rounded([value for _, value in upper + lower]),
        "fill": "toself",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def some(epochs: Sequence[int], count: int) -> list[int]:
    """So many of the epochs at most, evenly spaced, the first and the last among them."""
    if len(epochs) <= count:
        return [*epochs]
    return [epochs[round(place * (len(epochs) - 1) / (count - 1))] for place in range(count)]


def _table(drawn: Sequence[Band]) -> Table:
    every = sorted({epoch for band in drawn for epoch in band.epochs})
    found = [dict(zip(band.epochs, zip(band.means, band.spreads, strict=True), strict=True)) for band in drawn]
    rows = [
        [str(epoch), *(_cell(*by_epoch[epoch]) if epoch in by_epoch else "-" for by_epoch in found)]
        for epoch in some(every, SHOWN_EPOCHS)
    ]
    return ["epoch", *(band.variant for band in drawn)], rows


def _cell(mean: float, spread: float | None) -> str:
    return f"{mean:.4g}" if spread is None else f"{mean:.4g} ± {spread:.2g}"
