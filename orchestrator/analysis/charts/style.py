"""How all charts look: a colour, a symbol and a line for each variant, and quiet axes.

Charts have no background and greys that are seen on white and on black, so that they go into pages of either kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.analysis.rows import Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#4660db", "#b13e06", "#ab8704", "#a738a2", "#6a98b9", "#57685a", "#d46e80", "#ac77fa")
"""As far apart as can be for eyes with and without red or green, and at least 3 to 1 on white and on near-black."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "star")
DASHES = ("solid", "dash", "dot", "dashdot")
"""Of lines: the next one for variants whose colour is used already."""
INK = "#4a525c"
GRID = "rgba(128, 136, 148, 0.25)"
LINE = "rgba(128, 136, 148, 0.8)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
ROW = 30
"""Pixels of one row of a chart with a row for each variant or value."""


class Style(NamedTuple):
    """How one variant is drawn, everywhere."""

    colour: str
    symbol: str
    dash: str

    def with_opacity(self, opacity: float) -> str:
        """The colour, see-through."""
        return see_through(self.colour, opacity)


Styles = Mapping[str, Style]


def styles(variants: Sequence[str]) -> dict[str, Style]:
    """A style for each variant, by its place among them."""
    return {
        name: Style(
            COLOURS[place % len(COLOURS)],
            SYMBOLS[(place + place // len(COLOURS)) % len(SYMBOLS)],
            DASHES[place // len(COLOURS) % len(DASHES)],
        )
        for place, name in enumerate(variants)
    }


def see_through(colour: str, opacity: float) -> str:
    """A colour of six hex digits with an opacity from 0 to 1."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


@dataclass(frozen=True)
class Chart:
    """A figure, with what it shows in words and in numbers for those who cannot see it."""

    name: str
    """Tells it from the other charts of an experiment; fit for a file's name."""
    title: str
    figure: Figure
    alt: str
    table: Table
    """The figures that are drawn, or enough of them to follow."""
    note: str = ""
    """How to read it."""
    variants: tuple[str, ...] = field(default=())
    """Those that are drawn, each in its style."""


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """To five digits, which is more than can be seen, and a third of the bytes."""
    return [None if value is None else float(f"{value:.5g}") for value in values]


def figure(traces: Sequence[Mapping[str, Any]], x: str, y: str, height: int, **layout: Any) -> Figure:
    """A plotly figure in our style; `x` and `y` are the titles of its axes, `layout` what it has of its own."""
    from plotly.graph_objects import Figure

    title = {"font": {"size": 12}, "standoff": 8}
    axis = {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zerolinecolor": GRID,
        "zeroline": False,
        "ticks": "",
        "automargin": True,
    }
    base: dict[str, Any] = {
        # Plotly's own one takes 7 kB in every figure.
        "template": "none",
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "hoverlabel": {"bgcolor": "#1f2430", "bordercolor": "#1f2430", "font": {"family": FONT, "color": "#ffffff"}},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": {"text": ""}},
        "xaxis": {**axis, "title": {**title, "text": x}},
        "yaxis": {**axis, "title": {**title, "text": y}},
    }
    for name, values in layout.items():
        base[name] = {**base[name], **values} if isinstance(base.get(name), dict) else values
    return Figure(data=[dict(trace) for trace in traces], layout=base)


def rows_axis(labels: Sequence[str]) -> dict[str, Any]:
    """An axis with one row for each label, the first on top; the labels stand at 0, 1 and so on."""
    return {
        "tickvals": list(range(len(labels))),
        "ticktext": [escaped(label) for label in labels],
        "range": [len(labels) - 0.5, -0.5],
        "showgrid": False,
        "fixedrange": True,
    }


def padded(values: Iterable[float], share: float = 0.05) -> list[float]:
    """The range of an axis that leaves some room on both sides of the values."""
    found = [*values]
    low, high = min(found), max(found)
    room = share * (high - low) or 1.0
    return [low - room, high + room]


def escaped(text: str) -> str:
    """Text for plotly, which takes some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
