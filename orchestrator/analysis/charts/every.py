"""All charts of an experiment, in the order of a report."""

from __future__ import annotations

from orchestrator import names
from orchestrator.analysis import pareto
from orchestrator.analysis.charts.accuracy import accuracies, differences
from orchestrator.analysis.charts.costs import COMPLETE, FINAL, STOPPED, TEACHERS, UNFINISHED, time_spent, trade_off
from orchestrator.analysis.charts.curves import curves
from orchestrator.analysis.charts.mistakes import by_class, repaired, repaired_by_class
from orchestrator.analysis.charts.searched import importances as importance_chart
from orchestrator.analysis.charts.searched import tried
from orchestrator.analysis.charts.style import Chart, Styles, styles
from orchestrator.analysis.charts.temperatures import temperature_distribution, temperature_spread
from orchestrator.analysis.epochs import bands, temperature_maps
from orchestrator.analysis.evidence import Evidence
from orchestrator.analysis.importance import Importances, importances
from orchestrator.analysis.tried import tried_values
from orchestrator.search.trials import Phase, Status

CURVES = {
    names.VAL_ACC1: ("Validation accuracy", "%"),
    names.TRAIN_ACC1: ("Training accuracy", "%"),
    names.TRAIN_LOSS: ("Training loss", ""),
    names.TRAIN_AGREEMENT: ("Agreement with the teacher", "%"),
}
"""Metric: what it is called, and its unit."""
COSTS = (pareto.PARAMETERS, names.EPOCH_TIME)


def every_chart(evidence: Evidence) -> list[Chart]:
    """Those that there is something to draw for."""
    style = styles(evidence.variants)
    found = importances(evidence.results)
    return [
        *outcome(evidence, style),
        *learning(evidence, style),
        *temperature(evidence, style),
        *mistakes(evidence, style),
        *searched(evidence, found, style),
        *trade_offs(evidence, style),
        *spent(evidence, style),
    ]


def outcome(evidence: Evidence, style: Styles) -> list[Chart]:
    """Test accuracies, and differences to references."""
    results = evidence.results
    tests = {variant.name: variant.by_seed for variant in results.variants}
    return _there(accuracies(tests, style), differences(results.comparisons, style))


def learning(evidence: Evidence, style: Styles) -> list[Chart]:
    """Learning curves; the search's own metric first, where that is another one."""
    first = evidence.results.spec.search.first_metric
    wanted = {**({} if first in CURVES else {first: (first, "")}), **CURVES}
    return _there(
        *(
            curves(f"curve-{metric.replace('/', '-')}", title, bands(evidence.runs, metric), unit, style)
            for metric, (title, unit) in wanted.items()
        )
    )


def temperature(evidence: Evidence, style: Styles) -> list[Chart]:
    """The spread of temperatures, and the distribution of each variant whose temperatures vary."""
    low, middle, high = (
        bands(evidence.runs, name) for name in (names.TEMPERATURE_P10, names.TEMPERATURE_P50, names.TEMPERATURE_P90)
    )
    spread = temperature_spread(middle, {b.variant: b for b in low}, {b.variant: b for b in high}, style)
    return [*_there(spread), *(temperature_distribution(one, style) for one in temperature_maps(evidence.runs))]


def mistakes(evidence: Evidence, style: Styles) -> list[Chart]:
    """What logits adjustment repaired, and accuracies by class."""
    evaluated = [names.TEST_ACC1 in run.epochs[-1] for run in evidence.runs if run.classes and run.epochs]
    images = " or ".join(
        name for name, seen in (("test images", True), ("validation images", False)) if seen in evaluated
    )
    return _there(
        repaired(evidence.repaired, style),
        repaired_by_class(evidence.repairs, style),
        by_class(evidence.teacher_classes, evidence.classes, images, style),
    )


def searched(evidence: Evidence, found: Importances, style: Styles) -> list[Chart]:
    """The importance of the searched values, and what was tried of each."""
    metric = evidence.results.spec.search.first_metric
    return [
        *_there(importance_chart(found.found, style)),
        *(tried(values, metric, style) for values in tried_values(evidence.results)),
    ]


def trade_offs(evidence: Evidence, style: Styles) -> list[Chart]:
    """Accuracy against each cost that differs between variants."""
    variants = evidence.results.variants
    gain = names.TEST_ACC1 if any(variant.by_seed for variant in variants) else names.VAL_ACC1
    found = []
    for cost in COSTS:
        wanted = [pareto.OBJECTIVES[gain], pareto.OBJECTIVES[cost]]
        runs = {v.name: v.finals or ([v.best] if v.best else []) for v in variants}
        candidates = [one for name, records in runs.items() if (one := pareto.candidate(name, records, wanted))]
        if len({one.mean(wanted[1]) for one in candidates}) > 1:
            found.append(trade_off(pareto.front(candidates, wanted), style))
    return _there(*found)


def spent(evidence: Evidence, style: Styles) -> list[Chart]:
    """Where the time went."""
    found: dict[str, dict[str, float]] = {name: {} for name in (*evidence.variants, TEACHERS)}
    for record in evidence.results.records:
        is_teacher = record.trial.phase is Phase.TEACHER
        by_kind = found[TEACHERS if is_teacher else record.trial.variant]
        kind = TEACHERS if is_teacher else FINAL if record.trial.phase is Phase.FINAL else _kind(record.status)
        by_kind[kind] = by_kind.get(kind, 0.0) + record.seconds
    return _there(time_spent({name: kinds for name, kinds in found.items() if kinds}, style))


def _kind(status: Status) -> str:
    if status is Status.FINISHED:
        return COMPLETE
    return STOPPED if status is Status.STOPPED else UNFINISHED


def _there(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]
