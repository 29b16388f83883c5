"""Pareto fronts: what is on them, what is not, and what chance may have put off them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import load_spec
from orchestrator.analysis.pareto import OBJECTIVES, Candidate, front, objectives
from orchestrator.analysis.results import Results
from orchestrator.errors import UsageError
from orchestrator.search.trials import Phase, Record, Status, Trial

ACCURACY, PARAMETERS, TIME = "test/acc1", "student.parameters", "time/epoch_s"


def candidate(name: str, *accuracies: float, parameters: float = 100.0) -> Candidate:
    seeds = range(1, len(accuracies) + 1)
    return Candidate(
        name, {ACCURACY: dict(zip(seeds, accuracies, strict=True)), PARAMETERS: dict.fromkeys(seeds, parameters)}
    )


def placed(*candidates: Candidate) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = front(candidates, [OBJECTIVES[ACCURACY], OBJECTIVES[PARAMETERS]])
    return {p.candidate.name: (p.standing, p.above) for p in found.placed}


def test_what_is_better_in_one_thing_is_on_the_front() -> None:
    assert placed(
        candidate("small", 80.0, 80.1, 80.2, parameters=10),
        candidate("large", 90.0, 90.1, 90.2, parameters=100),
        candidate("wasteful", 85.0, 85.1, 85.4, parameters=200),
    ) == {"small": ("yes", ()), "large": ("yes", ()), "wasteful": ("no", ("large",))}


def test_equal_ones_are_all_on_it() -> None:
    both = placed(candidate("a", 80.0, 81.0, 82.0), candidate("b", 80.0, 81.0, 82.0))
    assert both == {"a": ("yes", ()), "b": ("yes", ())}


def test_a_smaller_one_of_the_same_accuracy_goes_before() -> None:
    one = placed(candidate("a", 80.0, 81.0, 82.0), candidate("b", 80.0, 81.0, 82.0, parameters=99))
    assert one == {"a": ("no", ("b",)), "b": ("yes", ())}


def test_a_difference_within_chance_is_not_held_against_one() -> None:
    noisy = placed(candidate("a", 80.0, 84.0, 82.0), candidate("b", 81.0, 83.0, 83.0, parameters=50))
    assert noisy == {"a": ("perhaps", ("b",)), "b": ("yes", ())}
    clear = placed(candidate("a", 80.0, 84.0, 82.0), candidate("b", 83.0, 87.1, 85.0, parameters=50))
    assert clear["a"] == ("no", ("b",))


def test_single_runs_prove_nothing() -> None:
    assert placed(candidate("a", 80.0), candidate("b", 99.0, parameters=1))["a"] == ("perhaps", ("b",))


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(POINTS, st.randoms())
def test_the_front_is_the_slow_one_in_any_order(points: list[tuple[int, int]], shuffle: Any) -> None:
    candidates = [candidate(str(n), float(a), parameters=float(p)) for n, (a, p) in enumerate(points)]
    shuffle.shuffle(candidates)
    seen = {name for name, (standing, _) in placed(*candidates).items() if standing == "yes"}
    slow = {
        str(n) for n, (a, p) in enumerate(points) if not any(b >= a and q <= p and (b, q) != (a, p) for b, q in points)
    }
    assert seen == slow
    assert seen


def test_objectives_are_known_by_name() -> None:
    assert [o.sign for o in objectives("test/acc1, student.parameters,time/epoch_s")] == [1, -1, -1]
    with pytest.raises(UsageError, match=r"'student.parameter' is not an objective; did you mean 'student.parameters'"):
        objectives("test/acc1,student.parameter")
    with pytest.raises(UsageError, match="takes two objectives or more"):
        objectives("test/acc1,test/acc1")


# From an experiment's records

SPEC: dict[str, Any] = {
    "name": "exp",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "search": {"variants": {"kd": {}, "wide": {"set": {"student.width": 2.0}}, "lost": {}}},
}


def run(variant: str, index: int, phase: Phase, size: int | None, **metrics: float) -> Record:
    named = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    described = {} if size is None else {PARAMETERS: size, "student.flops": 7 * size}
    trial = Trial(f"{variant}-{phase}-{index}", phase, variant, index, index)
    return Record(trial, Status.FINISHED, named, epochs=5, described=described)


def results(kd: int | None = 10, wide: int | None = 40) -> Results:
    records = [
        run(name, n, phase, size, val_acc1=80.0 + n, test_acc1=accuracy + n, time_epoch_s=2.0)
        if phase is Phase.FINAL
        else run(name, n, phase, size, val_acc1=accuracy + n, time_epoch_s=1.0)
        for name, size, accuracy in (("kd", kd, 80.0), ("wide", wide, 85.0))
        for phase in (Phase.SEARCH, Phase.FINAL)
        for n in range(3)
    ]
    return Results(load_spec(SPEC), {record.trial.id: record for record in records})


def test_sizes_that_differ_are_weighed_unasked() -> None:
    found: Any = results().front()
    assert [o.name for o in found.objectives] == [ACCURACY, PARAMETERS, "student.flops"]
    assert [p.candidate.name for p in found.placed] == ["kd", "wide"]
    content = results().to_dict()["pareto"]
    assert content["objectives"] == {ACCURACY: "max", PARAMETERS: "min", "student.flops": "min"}
    assert content["candidates"][1] == {
        "name": "wide",
        ACCURACY: 86.0,
        PARAMETERS: 40.0,
        "student.flops": 280.0,
        "on_front": "yes",
        "dominated_by": [],
    }
    assert "| kd | 81.00 ± 1.00 | 10 | 70 | yes |" in results().to_markdown()


@pytest.mark.parametrize("sizes", [(10, 10), (None, None), (None, 10)])
def test_sizes_that_do_not_differ_or_are_not_known_are_not(sizes: tuple[int | None, int | None]) -> None:
    assert results(*sizes).front() is None
    assert results(*sizes).to_dict()["pareto"] is None


def test_objectives_of_the_search_place_trials() -> None:
    found: Any = results().front("val/acc1,student.parameters,epochs")
    assert len(found.placed) == 6
    standing = {p.candidate.name: p.standing for p in found.placed}
    assert [name for name, word in standing.items() if word == "yes"] == ["kd-search-2", "wide-search-2"]
    assert "how much it would vary is not known" in found.note


def test_time_is_weighed_where_it_is_asked_for() -> None:
    found: Any = results().front(f"{ACCURACY},{TIME}")
    header, rows = found.table()
    assert header == ["candidate", ACCURACY, TIME, "on the front"]
    assert rows == [
        ["kd", "81.00 ± 1.00", "2 ± 0", "no: below wide"],
        ["wide", "86.00 ± 1.00", "2 ± 0", "yes"],
    ]
