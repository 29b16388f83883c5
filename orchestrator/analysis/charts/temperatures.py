"""The temperatures of samples over training: their spread, and their whole distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.analysis.charts.curves import SHOWN_EPOCHS, SYMBOLS_OF_A_LINE, some
from orchestrator.analysis.charts.style import Chart, Styles, escaped, figure, rounded
from orchestrator.analysis.epochs import Band, TemperatureMap

HEIGHT = 300


def temperature_spread(
    middle: Sequence[Band], low: Mapping[str, Band], high: Mapping[str, Band], styles: Styles
) -> Chart | None:
    """Medians over the epochs, and how far the 10th and 90th percentiles are; means over runs, all by variant.

    None where nothing was distilled.
    """
    if not middle:
        return None
    traces: list[dict[str, Any]] = []
    told = []
    for band in middle:
        style, lower, upper = styles[band.variant], low[band.variant], high[band.variant]
        common = {"legendgroup": band.variant, "name": escaped(band.variant)}
        if lower.means != upper.means:
            traces.append(
                {
                    **common,
                    "type": "scatter",
                    "mode": "lines",
                    "x": [*upper.epochs, *reversed(lower.epochs)],
                    "y": rounded([*upper.means, *reversed(lower.means)]),
                    "fill": "toself",
                    "fillcolor": style.with_opacity(0.16),
                    "line": {"width": 0},
                    "hoverinfo": "skip",
                    "showlegend": False,
                }
            )
        traces.append(
            {
                **common,
                "type": "scatter",
                "mode": "lines+markers",
                "x": [*band.epochs],
                "y": rounded(band.means),
                "customdata": [rounded(pair) for pair in zip(lower.means, upper.means, strict=True)],
                "line": {"color": style.colour, "dash": style.dash, "width": 2},
                "marker": {"symbol": style.symbol, "size": 7, "maxdisplayed": SYMBOLS_OF_A_LINE},
                "hovertemplate": "%{y:.3g} (%{customdata[0]:.3g} to %{customdata[1]:.3g})",
            }
        )
        told.append(f"{band.variant} {band.means[-1]:.3g} ({lower.means[-1]:.3g} to {upper.means[-1]:.3g})")
    made = figure(traces, "epoch", "temperature of a sample", HEIGHT, hovermode="x unified")
    every = sorted({epoch for band in middle for epoch in band.epochs})
    found = [
        {
            epoch: f"{mean:.3g} ({lower:.3g} to {upper:.3g})"
            for epoch, mean, lower, upper in zip(
                band.epochs, band.means, low[band.variant].means, high[band.variant].means, strict=True
            )
        }
        for band in middle
    ]
    rows = [[str(epoch), *(cells.get(epoch, "-") for cells in found)] for epoch in some(every, SHOWN_EPOCHS)]
    return Chart(
        "temperatures",
        "Median, 10th and 90th percentile",
        made,
        "Line chart of the samples' temperatures over the epochs, one line for each variant. Median and 10th to 90th "
        f"percentile in the last epoch: {'; '.join(told)}.",
        (["epoch", *(band.variant for band in middle)], rows),
        "Lines are medians over an epoch's samples, bands reach from the 10th to the 90th percentile; both are means "
        "over runs.",
        tuple(band.variant for band in middle),
    )


def temperature_distribution(found: TemperatureMap, styles: Styles) -> Chart:
    """How many of one variant's samples had which temperature in each epoch; the darker, the more."""
    style = styles[found.variant]
    centres = [(a + b) / 2 for a, b in zip(found.edges, found.edges[1:], strict=False)]
    trace = {
        "type": "heatmap",
        "x": [*found.epochs],
        "y": rounded(centres),
        "z": [rounded(row) for row in found.shares],
        "zmin": 0,
        "zmax": _high(found),
        "colorscale": [[0, style.with_opacity(0)], [0.15, style.with_opacity(0.4)], [1, style.with_opacity(1)]],
        "colorbar": {
            "title": {"text": "%", "side": "top"},
            "thickness": 8,
            "outlinewidth": 0,
            "tickfont": {"size": 11},
        },
        "hovertemplate": "epoch %{x}: %{z:.1f} % near %{y:.3g}<extra></extra>",
    }
    made = figure([trace], "epoch", "temperature", 240, xaxis={"showgrid": False}, yaxis={"showgrid": False})
    head = ["temperature", *(f"epoch {epoch}" for epoch in some(found.epochs, 4))]
    places = [found.epochs.index(epoch) for epoch in some(found.epochs, 4)]
    quarter = max(1, len(centres) // 8)
    rows = [
        [
            f"{found.edges[at]:.3g} to {found.edges[min(at + quarter, len(centres))]:.3g}",
            *(f"{sum(row[place] for row in found.shares[at : at + quarter]):.1f} %" for place in places),
        ]
        for at in range(0, len(centres), quarter)
    ]
    most = max(range(len(centres)), key=lambda at: found.shares[at][-1])
    return Chart(
        f"temperatures-{found.variant}",
        found.variant,
        made,
        f"Heat map of the temperatures of {found.variant} over {found.epochs[-1]} epochs, from {found.edges[0]:.3g} to "
        f"{found.edges[-1]:.3g}. In the last epoch most samples, {found.shares[most][-1]:.0f} %, were near "
        f"{centres[most]:.3g}.",
        (head, rows),
        variants=(found.variant,),
    )


def _high(found: TemperatureMap) -> float:
    """Where colours end: what one bin in fifty exceeds, so that the bounds, which hold many, leave the rest visible."""
    values = sorted(value for row in found.shares for value in row)
    return max(values[int(0.98 * (len(values) - 1))], 1.0)
