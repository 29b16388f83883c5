"""Samplers that weigh several metrics: Optuna's, without a Ray cluster."""

from typing import Any

import pytest

from orchestrator import load_spec
from orchestrator.execution.space import SearcherSampler
from orchestrator.search.plan import make_plan

WEIGHT, WIDTH = "distillation.kd_weight", "student.width"
SPACE = {
    WEIGHT: {"type": "uniform", "low": 0.5, "high": 2.0},
    WIDTH: {"type": "quniform", "low": 0.25, "high": 2.0, "q": 0.25},
}
ALGORITHMS = {
    "tpe": {"algorithm": "tpe", "startup_trials": 5},
    "gp": {"algorithm": "gp", "startup_trials": 5},
    "nsgaii": {"algorithm": "nsgaii", "population_size": 6},
}
TRIALS = {"tpe": 36, "gp": 24, "nsgaii": 120}
"""How many it takes to see that something was learnt."""
EACH = pytest.mark.parametrize("algorithm", ALGORITHMS)


def made(algorithm: str, drawn: int = 0) -> SearcherSampler:
    spec = load_spec(
        {
            "name": "exp",
            "data": {"dataset": "digits"},
            "teacher": {"model": "resnet14"},
            "student": {"model": "resnet8"},
            "search": {"sampler": ALGORITHMS[algorithm], "space": SPACE, "metric": ["val/acc1", "student.flops"]},
        }
    )
    return SearcherSampler(make_plan(spec).arms[0], drawn, spec.search, 0)


def values(point: dict[str, Any]) -> tuple[float, float]:
    """Accuracy grows with the width and falls with the weight, which costs no multiply-adds."""
    return 10 * point[WIDTH] - 20 * point[WEIGHT], 1e6 * point[WIDTH]


def run(sampler: SearcherSampler, count: int, first: int = 0) -> list[dict[str, Any]]:
    points = []
    for number in range(first, first + count):
        point = sampler.suggest(f"t{number}")
        assert point is not None
        sampler.tell(f"t{number}", point, None if number % 7 == 5 else values(point))
        points.append(point)
    return points


def mean_weight(points: list[dict[str, Any]]) -> float:
    return sum(point[WEIGHT] for point in points) / len(points)


@EACH
def test_draws_move_to_what_is_good_in_both(algorithm: str) -> None:
    points = run(made(algorithm), TRIALS[algorithm])
    late = points[-12:]
    assert mean_weight(points[:5]) > 1.3
    assert mean_weight(late) < 0.85
    # Neither metric is forgotten for the other: the front goes from small students to large ones.
    widths = [point[WIDTH] for point in points[5:]]
    assert max(widths) - min(widths) >= 1


@EACH
def test_a_later_session_knows_what_was_found(algorithm: str) -> None:
    count = TRIALS[algorithm]
    before = run(made(algorithm), count)
    sampler = made(algorithm, drawn=count)
    for number, point in enumerate(before):
        sampler.tell(f"t{number}", point, None if number % 7 == 5 else values(point))
    assert mean_weight(run(sampler, 8, first=count)) < 0.95
