"""Saved views of an experiment's runs for MLflow's page of it: which runs, columns and charts it shows.

MLflow keeps a view as a tag of the experiment and lists it under "Saved views"; an address that names one opens it. The
fields of a view's state are those of MLflow's page, and each view says of every field what it is to be.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import names

TAG = "mlflow.sharedViewState."
"""How the tags of an experiment begin that are views."""
MAX_SCATTERS, MAX_AXES = 4, 12
"""Charts of one searched value each, and axes of the parallel coordinates."""

COLUMNS = 2
"""Charts side by side: of three, on a laptop's screen, MLflow cuts the titles off."""

VARIANT, PHASE, SEED, STATUS, EXPERIMENT = (
    f"{names.TAG_PREFIX}{name}" for name in ("variant", "phase", "seed", "status", "experiment")
)
_FOLDED = ("train", "val", "test", "temperature", "adjustment", "teacher_logits", "optimizer", "throughput", "time")
"""Sections that MLflow makes of metrics' names, which stay folded: what they hold is rarely looked at."""


@dataclass(frozen=True)
class Contents:
    """What there is to see of an experiment."""

    id: str
    """The value of its runs' tag `orchestrator.experiment`."""
    metric: str
    mode: str
    """"max" or "min"."""
    searched: Sequence[str] = ()
    """Dotted paths of searched fields, over all variants."""
    numeric: Sequence[str] = ()
    """Those among them whose values are numbers."""
    contour: tuple[str, str] | None = None
    """Two numbers that one variant searches together."""
    has_temperatures: bool = False
    has_adjustment: bool = False
    has_finals: bool = False


@dataclass(frozen=True)
class View:
    """One saved view."""

    key: str
    """What an address names it by."""
    name: str
    about: str
    """One line for whoever chooses among views."""
    state: Mapping[str, Any]
    mode: str = "CHART"
    """How an address opens it: "CHART" or "TABLE"."""

    @property
    def tag(self) -> str:
        return f"{TAG}{self.key}"

    def value(self, created: int) -> str:
        """The tag's value; `created`, in milliseconds, orders the list of views, the latest first."""
        text = json.dumps(self.state, separators=(",", ":"))
        packed = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
        return json.dumps({"name": self.name, "createdAt": created, "state": packed})

    def is_in(self, value: str) -> bool:
        """Whether a tag's value holds this very view."""
        try:
            kept = json.loads(value)
            return kept == json.loads(self.value(kept["createdAt"]))
        except (ValueError, LookupError, TypeError):
            return False


def address(page: str, key: str, mode: str = "CHART") -> str:
    """The address of a view, on the page of the experiment's runs."""
    return f"{page}&viewStateShareKey={key}&compareRunsMode={mode}"


def charts_key(experiment: str, *, finals: bool = False) -> str:
    """The key of the view that an experiment's address opens: of its final runs where there are some."""
    return f"{experiment}-{'final' if finals else 'search'}"


def views(seen: Contents) -> list[View]:
    """The views of an experiment, the first one first."""
    made = [
        View(
            charts_key(seen.id),
            f"{seen.id}: search",
            "search trials, the best first: learning curves, searched values, temperatures",
            _state(
                seen,
                phase="search",
                order=f"metrics.`{seen.metric}`",
                ascending=seen.mode == "min",
                columns=_columns(seen, "search"),
                sections=_search_sections(seen),
            ),
        )
    ]
    if seen.has_finals:
        made.append(
            View(
                charts_key(seen.id, finals=True),
                f"{seen.id}: final runs by variant",
                "final runs, each variant's seeds taken together: mean curves with their range, test accuracy",
                _state(
                    seen,
                    phase="final",
                    order=f"metrics.`{names.TEST_ACC1}`",
                    columns=_columns(seen, "final"),
                    sections=_final_sections(seen),
                    grouped=True,
                ),
            )
        )
    made.append(
        View(
            f"{seen.id}-runs",
            f"{seen.id}: all runs",
            "the experiment and its trials below it, with what was searched and what came out",
            _state(seen, phase=None, order=None, columns=_columns(seen, "all"), sections=_search_sections(seen)),
            mode="TABLE",
        )
    )
    return made


def note(made: Sequence[View], experiment: str, page: str) -> str:
    """Markdown that leads to the views, for the top of the page, which shows its first line until it is unfolded."""
    links = {f"[{view.name.partition(': ')[2]}]({address(page, view.key, view.mode)})": view.about for view in made}
    return "\n".join([f"{NOTE_BEGINS} {experiment}: {', '.join(links)}", "", *(f"- {n}: {links[n]}" for n in links)])


NOTE_BEGINS = "Views of"
"""How a note of ours begins; any other is somebody's own."""


def _state(
    seen: Contents,
    *,
    phase: str | None,
    order: str | None,
    columns: Sequence[str],
    sections: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    ascending: bool = False,
    grouped: bool = False,
) -> dict[str, Any]:
    filters = [f"tags.`{EXPERIMENT}` = '{seen.id}'", *([f"tags.`{PHASE}` = '{phase}'"] if phase else [])]
    shown = [
        {"uuid": f"section-{number}", "name": name, "display": True, "isReordered": True, "columns": COLUMNS}
        for number, (name, _) in enumerate(sections)
    ]
    folded = [
        {"uuid": f"section-{name}", "name": name, "display": False, "isReordered": True}
        for name in (*_FOLDED, "Model metrics", "System metrics")
    ]
    charts = [
        {**chart, "uuid": f"chart-{number}-{place}", "metricSectionId": f"section-{number}"}
        for number, (_, section) in enumerate(sections)
        for place, chart in enumerate(section)
    ]
    # What is not named here, MLflow's page has by default. It folds runs under their experiment in its own order of
    # time alone, and does not draw those that are folded.
    ordered = {"orderByKey": order, "orderByAsc": ascending} if order else {}
    by_variant = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": VARIANT}]}
    return {
        **ordered,
        "searchFilter": " and ".join(filters),
        "selectedColumns": list(columns),
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [*shown, *folded],
        "isAccordionReordered": True,
        "groupBy": by_variant if grouped else None,
    }


def _columns(seen: Contents, which: str) -> list[str]:
    """The columns of a table: few metrics, what is searched and no other parameter, and what tells runs apart."""
    tested = [names.TEST_ACC1] if seen.has_finals and which != "search" else []
    metrics = [*tested, *dict.fromkeys((seen.metric, names.VAL_LOSS))]
    tags = [VARIANT, *([PHASE] if which == "all" else []), SEED, STATUS]
    return [
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{path}`" for path in seen.searched),
        *(f"tags.`{name}`" for name in tags),
    ]


def _search_sections(seen: Contents) -> list[tuple[str, list[dict[str, Any]]]]:
    sections = [("Learning curves", list(_curves(seen)))]
    if seen.searched:
        sections.append(("Searched values", list(_searched(seen))))
    if distilling := list(_distilling(seen)):
        sections.append(("Distillation", distilling))
    return sections


def _final_sections(seen: Contents) -> list[tuple[str, list[dict[str, Any]]]]:
    tested = [_bar(names.TEST_ACC1, "test accuracy, %"), _bar(names.TEST_ECE, "test calibration error, %")]
    sections = [("Learning curves", list(_curves(seen))), ("Test", tested)]
    if distilling := list(_distilling(seen)):
        sections.append(("Distillation", distilling))
    return sections


def _curves(seen: Contents) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys((seen.metric, names.TRAIN_LOSS, names.VAL_LOSS)):
        yield _line([name], name)


def _searched(seen: Contents) -> Iterator[dict[str, Any]]:
    yield {
        **_card("PARALLEL", f"{seen.metric} over the searched values"),
        "selectedParams": list(seen.searched[:MAX_AXES]),
        "selectedMetrics": [seen.metric],
        "showAllRuns": False,
    }
    if seen.contour:
        x, y = seen.contour
        yield {
            **_card("CONTOUR", f"{seen.metric} by {x} and {y}"),
            "xaxis": {"key": x, "type": "PARAM"},
            "yaxis": {"key": y, "type": "PARAM"},
            "zaxis": {"key": seen.metric, "type": "METRIC"},
        }
    for path in seen.numeric[:MAX_SCATTERS]:
        yield {
            **_card("SCATTER", f"{seen.metric} by {path}"),
            "xaxis": {"key": path, "type": "PARAM"},
            "yaxis": {"key": seen.metric, "type": "METRIC"},
            "runsCountToCompare": 100,
        }


def _distilling(seen: Contents) -> Iterator[dict[str, Any]]:
    if seen.has_temperatures:
        yield _line([names.TEMPERATURE_MEAN], "mean temperature")
        yield _line([names.TEMPERATURE_P10, names.TEMPERATURE_P50, names.TEMPERATURE_P90], "temperature: 10, 50, 90 %")
        bounds = [names.TEMPERATURE_CLAMPED_LOW, names.TEMPERATURE_CLAMPED_HIGH]
        yield _line(bounds, "share of samples at the bounds of temperature")
    if seen.has_adjustment:
        yield _line([names.ADJUSTMENT_ADJUSTED, names.ADJUSTMENT_WRONG], "samples adjusted, and the teacher's mistakes")


def _card(kind: str, title: str) -> dict[str, Any]:
    return {"type": kind, "displayName": title, "deleted": False, "isGenerated": False, "runsCountToCompare": 10}


def _line(metrics: Sequence[str], title: str) -> dict[str, Any]:
    return {
        **_card("LINE", title),
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _bar(metric: str, title: str) -> dict[str, Any]:
    return {**_card("BAR", title), "metricKey": metric}
