"""The results of an experiment: its trials, each variant's best, and the comparison over seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator import names
from orchestrator.analysis.statistics import Summary, summarise
from orchestrator.search.agenda import best_record
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.variants import variant_specs


@dataclass(frozen=True)
class VariantResult:
    """One arm of the comparison."""

    name: str
    best: Record | None
    """The search trial whose values were chosen, on validation data."""
    finals: tuple[Record, ...]
    """The runs of these values on fresh seeds that have a result."""
    statuses: Mapping[Status, int]
    """How many search trials ended which way."""

    @property
    def params(self) -> dict[str, Any]:
        """The winning values."""
        return dict(self.best.trial.params) if self.best else {}

    @property
    def chosen(self) -> str:
        """The winning values in one line, or why there are none."""
        if self.best is not None:
            return format_values(self.params) or "none searched"
        return "all trials failed" if set(self.statuses) == {Status.FAILED} else "-"

    @cached_property
    def test(self) -> Summary | None:
        """Test accuracy in percent over the final seeds."""
        return summarise([r.metrics[names.TEST_ACC1] for r in self.finals if names.TEST_ACC1 in r.metrics])

    @cached_property
    def val(self) -> Summary | None:
        """Validation accuracy in percent over the final seeds."""
        return summarise([r.metrics[names.VAL_ACC1] for r in self.finals if names.VAL_ACC1 in r.metrics])


class Results:
    """What an experiment has found so far."""

    def __init__(self, spec: ExperimentSpec, records: Mapping[str, Record]) -> None:
        self.spec = spec
        self.records = list(records.values())

    @property
    def variants(self) -> list[VariantResult]:
        """Every arm, in the order of the spec."""
        return [self._variant(name) for name in variant_specs(self.spec)]

    @property
    def teachers(self) -> list[Record]:
        return [record for record in self.records if record.trial.phase is Phase.TEACHER]

    @property
    def answered(self) -> bool:
        """Whether every variant has a result that the comparison needs."""
        seeds = self.spec.search.final_seeds
        return all(v.best is not None and (not seeds or v.finals) for v in self.variants)

    def count(self, status: Status) -> int:
        return sum(record.status is status for record in self.records)

    def summary_metrics(self) -> dict[str, float]:
        """The comparison as metrics of the parent run."""
        metrics: dict[str, float] = {}
        for variant in self.variants:
            if variant.test is not None:
                metrics[f"{variant.name}/test_acc1_mean"] = variant.test.mean
                if variant.test.sd is not None:
                    metrics[f"{variant.name}/test_acc1_sd"] = variant.test.sd
            if variant.best is not None:
                metrics[f"{variant.name}/best_{self.spec.search.metric.replace('/', '_')}"] = variant.best.metrics[
                    self.spec.search.metric
                ]
        return {_mlflow_name(name): value for name, value in metrics.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-like data; accuracies in percent."""
        return {
            "name": self.spec.name,
            "id": self.spec.id,
            "hash": self.spec.hash,
            "metric": self.spec.search.metric,
            "mode": self.spec.search.mode,
            "variants": [
                {
                    "name": variant.name,
                    "trials": {str(status): count for status, count in variant.statuses.items()},
                    "best": None if variant.best is None else _trial_dict(variant.best),
                    "test/acc1": _summary_dict(variant.test),
                    "val/acc1": _summary_dict(variant.val),
                    "final_seeds": [record.trial.seed for record in variant.finals],
                }
                for variant in self.variants
            ],
            "trials": [_trial_dict(record) for record in self.records],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """One row a trial: its values under "params.", its last metrics under their names."""
        rows = [_flat_row(record) for record in self.records]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_markdown(self) -> str:
        """The comparison as a Markdown table, and how to repeat it."""
        seeds, metric = self.spec.search.final_seeds, self.spec.search.metric
        runs = f"{seeds} fresh seed{'s' if seeds > 1 else ''}"
        about = (
            f"test accuracy (%) over {runs} of each variant's best configuration by {metric}."
            if seeds
            else f"best {metric} of each variant's search; search.final_seeds is 0, so nothing was tested."
        )
        lines = [
            f"**{self.spec.name}**: {about}",
            "",
            f"| variant | n | test acc1 (mean ± sd) | 95% interval | best {metric} | search trials | winning values |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for variant in self.variants:
            best = variant.best.metrics.get(metric) if variant.best else None
            values = variant.chosen.replace("|", r"\|")
            lines.append(
                f"| {variant.name} | {len(variant.finals)} | {variant.test or '-'} | {format_interval(variant.test)} | "
                f"{format_number(best)} | {sum(variant.statuses.values())} | {values} |"
            )
        return "\n".join(
            [*lines, "", "Repeat it with `orchestrator run spec.yaml`; the spec is an artifact of this run."]
        )

    def _variant(self, name: str) -> VariantResult:
        mine = [record for record in self.records if record.trial.variant == name]
        search = [record for record in mine if record.trial.phase is Phase.SEARCH]
        finals = [r for r in mine if r.trial.phase is Phase.FINAL and r.status is Status.FINISHED]
        counts = {status: sum(record.status is status for record in search) for status in Status}
        return VariantResult(
            name,
            best_record(search, self.spec.search),
            tuple(sorted(finals, key=lambda record: record.trial.index)),
            {status: count for status, count in counts.items() if count},
        )


def format_values(values: Mapping[str, Any]) -> str:
    """Searched values in one line, by the shortest name that tells them apart."""
    return ", ".join(f"{name} {_round(values[path])}" for path, name in short_names(values).items())


def format_number(value: float | None) -> str:
    """A metric in a table."""
    return "-" if value is None else f"{value:.2f}"


def format_interval(summary: Summary | None) -> str:
    """The 95% interval in a table."""
    if summary is None or summary.interval is None:
        return "-"
    low, high = summary.interval
    return f"{low:.2f} to {high:.2f}"


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """For each dotted path its last parts, as many as it takes to tell it from the others."""
    parts = {path: path.split(".") for path in paths}
    short: dict[str, str] = {}
    for path, mine in parts.items():
        for count in range(1, len(mine) + 1):
            tail = mine[-count:]
            if sum(other[-count:] == tail for other in parts.values()) == 1:
                break
        short[path] = ".".join(tail)
    return short


def _round(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _mlflow_name(name: str) -> str:
    """MLflow takes no "+". No variant's name holds a blank, so two of them never become one."""
    return name.replace("+", " ")


def _summary_dict(summary: Summary | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    return {
        "n": summary.count,
        "mean": summary.mean,
        "sd": summary.sd,
        "interval_95": summary.interval and list(summary.interval),
    }


def _trial_dict(record: Record) -> dict[str, Any]:
    trial = record.trial
    return {
        "id": trial.id,
        "phase": str(trial.phase),
        "variant": trial.variant,
        "seed": trial.seed,
        "status": str(record.status),
        "reason": record.reason,
        "epochs": record.epochs,
        "seconds": round(record.seconds, 3),
        "params": dict(trial.params),
        "metrics": record.metrics,
    }


def _flat_row(record: Record) -> dict[str, Any]:
    row = _trial_dict(record)
    params, metrics = row.pop("params"), row.pop("metrics")
    return {**row, **{f"params.{path}": value for path, value in params.items()}, **metrics}
