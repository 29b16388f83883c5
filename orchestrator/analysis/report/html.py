"""A report as one HTML file that needs nothing else: plotly.js is in it, packed, and unpacked by the browser."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from orchestrator.analysis.charts.style import Chart, styles
from orchestrator.analysis.report.content import Charts, Code, Page, Tabled, Text
from orchestrator.analysis.rows import Table

MARKS = {
    "circle": "M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9z",
    "square": "M2 2h8v8h-8z",
    "diamond": "M6 .8l5.2 5.2l-5.2 5.2l-5.2-5.2z",
    "triangle-up": "M6 1.2l5 8.8h-10z",
    "cross": "M4.3 1h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    "x": "M3.4 1l2.6 2.6l2.6-2.6l2.4 2.4l-2.6 2.6l2.6 2.6l-2.4 2.4l-2.6-2.6l-2.6 2.6l-2.4-2.4l2.6-2.6l-2.6-2.6z",
    "triangle-down": "M6 10.8l-5-8.8h10z",
    "star": "M6 .6l1.6 3.6l3.9.4l-2.9 2.6l.8 3.9l-3.4-2l-3.4 2l.8-3.9l-2.9-2.6l3.9-.4z",
}
"""The symbols of charts as SVG paths in a box of 12."""


def to_html(page: Page) -> str:
    """The whole page; scripts in it are its own."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.tests |= {kind.__name__.lower(): _is(kind) for kind in (Text, Tabled, Charts, Code)}
    style = styles(page.variants)
    blocks = [block for section in page.sections for block in section.blocks]
    charts = [chart for block in blocks if isinstance(block, Charts) for chart in block.charts]
    return environment.from_string(_part("page.html")).render(
        page=page,
        css=_part("page.css"),
        script=_part("page.js"),
        figures=_in_script({chart.name: _figure(chart) for chart in charts}) if charts else "",
        plotly=_packed_plotly() if charts else "",
        text_columns=_text_columns,
        shared_note=_shared_note,
        marks={name: (MARKS[style[name].symbol], style[name].colour) for name in page.variants},
    )


def _text_columns(table: Table) -> set[int]:
    """The places of columns that hold words, not figures."""
    columns = zip(*table[1], strict=True)
    return {place for place, cells in enumerate(columns) if any(cell[:1].isalpha() for cell in cells)}


def _shared_note(charts: Sequence[Chart]) -> str:
    """What all charts of a block say of themselves, if it is the same."""
    notes = {chart.note for chart in charts}
    return notes.pop() if len(charts) > 1 and len(notes) == 1 else ""


def _is(kind: type) -> Any:
    return lambda block: isinstance(block, kind)


def _figure(chart: Chart) -> dict[str, Any]:
    return dict(json.loads(chart.figure.to_json()))


def _in_script(content: Any) -> str:
    """JSON that ends no script element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _packed_plotly() -> str:
    """plotly.js, compressed to less than a third, in letters that go into any file."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode()


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
