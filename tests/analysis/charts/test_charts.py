"""Charts of an experiment: what they draw, what they say in words, and what there is no chart of."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from orchestrator import load_spec, names
from orchestrator.analysis.charts.every import every_chart
from orchestrator.analysis.charts.style import Chart, styles
from orchestrator.analysis.epochs import Run, bands, class_accuracies, class_repairs, temperature_maps
from orchestrator.analysis.evidence import Evidence
from orchestrator.analysis.importance import MIN_TRIALS, importances
from orchestrator.analysis.results import Results
from orchestrator.search.trials import Phase, Record, Status, Trial

LR, MOMENTUM = "training.optimizer.lr", "training.optimizer.momentum"
SPEC: dict[str, Any] = {
    "name": "drawn",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "search": {
        "final_seeds": 4,
        "space": {
            LR: {"type": "loguniform", "low": 0.01, "high": 1},
            MOMENTUM: {"type": "uniform", "low": 0, "high": 0.9},
        },
        "variants": {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}, "kd": {}, "la-dtd": {}},
    },
}


HEAD = "class,repaired,taken_for,times\n"
REPAIRED = [
    f"{HEAD}dog,8,cat,6\n",
    f"{HEAD}dog,12,cat,6\ncat,2,dog,2\n",
    f"{HEAD}dog,10,cow,4\n",
    f"{HEAD}dog,10,cat,8\n",
]
"""By seed."""


def epochs_of(variant: str, seed: int, count: int = 6) -> list[dict[str, float]]:
    made = []
    for epoch in range(1, count + 1):
        metrics = {"epoch": epoch, names.VAL_ACC1: 80.0 + epoch + seed, names.TRAIN_LOSS: 2.0 / epoch}
        if variant != "alone":
            metrics |= {names.ADJUSTMENT_WRONG: 10, names.ADJUSTMENT_ADJUSTED: 10 if variant == "la-dtd" else 0}
            spread = 3 if variant == "la-dtd" else 0
            metrics |= {names.TEMPERATURE_P10: 4 - spread, names.TEMPERATURE_P50: 4, names.TEMPERATURE_P90: 4 + spread}
        made.append(metrics)
    return made


def record(id: str, variant: str, phase: Phase, index: int, status: Status, params: Any, **metrics: float) -> Record:
    named = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return Record(Trial(id, phase, variant, index, index, params), status, named, epochs=6, seconds=60.0)


def evidence(trials: int = 24, tests: bool = True, **changes: Any) -> Evidence:
    """Of an experiment in which the learning rate alone decides; `alone` is worse by 9 points."""
    spec = load_spec(SPEC, {path.replace("__", "."): value for path, value in changes.items()})
    rng = random.Random(1)
    records, runs = [], []
    for variant in spec.search.variants or ("default",):
        for index in range(trials):
            params = {LR: 10 ** rng.uniform(-2, 0), MOMENTUM: 0.9 * rng.random()}
            value, status = 90 - 20 * params[LR], Status.STOPPED if index % 4 == 3 else Status.FINISHED
            id = f"{variant}-{index:03d}"
            records.append(record(id, variant, Phase.SEARCH, index, status, params, val_acc1=value, time_epoch_s=1.0))
        for seed in range(4 if tests else 0):
            id, accuracy = f"{variant}-final-{seed + 1}", (80.0 if variant == "alone" else 89.0) + seed / 10
            varied = {"alone": seed % 3, "la-dtd": seed % 2}.get(variant, 0)
            metrics = {"test_acc1": accuracy + varied, "val_acc1": 85.0}
            made = record(id, variant, Phase.FINAL, seed, Status.FINISHED, {}, **metrics)
            made.described = {"student.parameters": 500 if variant == "kd" else 1000}
            records.append(made)
            classes = {"cat": 60.0 + seed, "dog": 90.0}
            histogram = {"epoch": 1, "counts": [6, 2], "bounds": [1, 5]}
            is_la = variant == "la-dtd"
            temperatures, repairs = ([histogram], class_repairs(REPAIRED[seed])) if is_la else ((), {})
            runs.append(Run(id, variant, seed, epochs_of(variant, seed), temperatures, classes, repairs))
    teacher = Run("teacher-1", "key", 0, epochs_of("alone", 0), (), {"cat": 95.0, "dog": 70.0})
    return Evidence(Results(spec, {r.trial.id: r for r in records}), tuple(runs), (teacher,))


@pytest.fixture(scope="module")
def drawn() -> dict[str, Chart]:
    return {chart.name: chart for chart in every_chart(evidence())}


def traces(chart: Chart) -> list[dict[str, Any]]:
    return list(json.loads(chart.figure.to_json())["data"])


def test_every_chart_says_what_it_shows(drawn: dict[str, Chart]) -> None:
    assert {
        "repaired-classes",
        "accuracy",
        "differences",
        "curve-val-acc1",
        "temperatures",
        "temperatures-la-dtd",
        "repaired",
    } <= set(drawn)
    assert {"classes", "importance", f"tried-{LR}", "trade-off-student.parameters", "time"} <= set(drawn)
    for chart in drawn.values():
        header, rows = chart.table
        assert rows, chart.name
        assert {len(row) for row in rows} == {len(header)}, chart.name
        assert len(chart.alt) > 40, chart.name
        assert "nan" not in chart.alt, chart.name


def test_a_variant_has_one_colour_in_all_charts(drawn: dict[str, Chart]) -> None:
    mine = styles(["alone", "kd", "la-dtd"])
    seen = set()
    for chart in drawn.values():
        for trace in traces(chart):
            colour = trace.get("line", {}).get("color", "")
            if colour.startswith("#") and "legendgroup" in trace:
                assert colour == mine[trace["legendgroup"]].colour, chart.name
                seen.add(trace["legendgroup"])
    assert seen == {"alone", "kd", "la-dtd"}


def test_charts_go_onto_any_background_and_are_small(drawn: dict[str, Chart]) -> None:
    for chart in drawn.values():
        assert chart.figure.layout.paper_bgcolor == chart.figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
        assert len(chart.figure.to_json()) < 10_000, chart.name


def test_bands_are_one_standard_deviation_over_runs() -> None:
    (band,) = bands([Run("a", "kd", 0, epochs_of("kd", 0)), Run("b", "kd", 1, epochs_of("kd", 2, 3))], names.VAL_ACC1)
    assert band.epochs == (1, 2, 3, 4, 5, 6)
    assert band.means[:4] == (82, 83, 84, 84)
    assert band.spreads[0] == pytest.approx(2**0.5)
    assert band.spreads[3:] == (None, None, None)


def test_a_shown_difference_is_filled_and_another_hollow(drawn: dict[str, Chart]) -> None:
    symbols = {t["legendgroup"]: t["marker"]["symbol"] for t in traces(drawn["differences"]) if t["mode"] == "markers"}
    assert not symbols["alone"].endswith("-open")
    assert symbols["la-dtd"].endswith("-open")
    assert "alone -8.25" in drawn["differences"].alt


def test_histograms_of_several_bounds_are_put_together() -> None:
    wide = {"epoch": 1, "counts": [0, 4], "bounds": [0, 8]}
    (found,) = temperature_maps(
        [Run("a", "dtd", 0, (), [{"epoch": 1, "counts": [2, 2], "bounds": [0, 4]}]), Run("b", "dtd", 1, (), [wide])]
    )
    assert found.edges == (0, 4, 8)
    assert [share for (share,) in found.shares] == [50, 50]
    assert temperature_maps([Run("a", "dtd", 0, (), [{"epoch": 1, "counts": [2, 2]}])]) == []


def test_mistakes_are_counted_and_the_worst_classes_come_first(drawn: dict[str, Chart]) -> None:
    assert drawn["repaired"].table[1] == [["kd", "10", "0", "0 %"], ["la-dtd", "10", "10", "100 %"]]
    assert [row[0] for row in drawn["classes"].table[1]] == ["dog", "cat"]
    assert class_accuracies("class,images,correct,predicted,acc1,precision\na,2,1,1,50.00,100.00\nb,0,0,0,,\n") == {
        "a": 50
    }


def test_repairs_are_told_by_class_with_what_the_teacher_took_them_for(drawn: dict[str, Chart]) -> None:
    chart = drawn["repaired-classes"]
    header = ["class", "la-dtd, repaired", "taken most often for"]
    # 20 of 40 dogs for cats, over four runs; two of them cats, in one run alone.
    assert chart.table == (header, [["dog", "10", "cat (50 %)"], ["cat", "0.5", "dog (100 %)"]])
    assert "dog, which the teacher takes most often for cat (50 %)" in chart.alt
    (trace,) = traces(chart)
    assert trace["x"] == [10, 0.5]


def test_what_decides_is_told_from_what_does_not() -> None:
    found = {(one.variant, one.label): one for one in importances(evidence(60).results).found}
    for variant in ("kd", "la-dtd"):
        assert found[variant, "lr"].told
        assert found[variant, "lr"].share > 0.7
        assert not found[variant, "momentum"].told
        assert all(one.low <= one.share <= one.high for one in found.values())


def test_few_trials_are_told_instead_of_ranked() -> None:
    found = importances(evidence(MIN_TRIALS - 1).results)
    assert found.found == ()
    assert f"alone ({MIN_TRIALS - 1})" in found.doubts[0]
    assert "Rough for alone" in importances(evidence(MIN_TRIALS).results).doubts[0]


def test_without_final_runs_or_any_trial_there_are_fewer_charts() -> None:
    kept = {chart.name for chart in every_chart(evidence(2, tests=False))}
    assert kept == {f"tried-{LR}", f"tried-{MOMENTUM}", "time"}
    assert every_chart(evidence(0, tests=False)) == []
