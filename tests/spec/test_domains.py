"""Moves within a domain: to a multiple, to a step, to a place between the ends and back."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from orchestrator.spec.domains import Domain, from_unit, scaled, to_unit

ADAPTER: TypeAdapter[Any] = TypeAdapter(Domain)
RANGES = {
    "uniform": {"low": 0.5, "high": 4.0},
    "loguniform": {"low": 0.01, "high": 0.2},
    "quniform": {"low": 0.5, "high": 1.0, "q": 0.1},
    "randint": {"low": 2, "high": 9},
    "qrandint": {"low": 32, "high": 128, "q": 32},
    "lograndint": {"low": 1, "high": 100},
}


def domain(type: str, **content: Any) -> Any:
    return ADAPTER.validate_python({"type": type, **(content or RANGES[type])})


@pytest.mark.parametrize(
    ("type", "value", "factor", "expected"),
    [
        ("uniform", 2.0, 1.2, 2.4),
        ("uniform", 3.9, 1.2, 4.0),
        ("loguniform", 0.011, 0.8, 0.01),
        ("quniform", 0.7, 1.2, 0.8),
        ("quniform", 0.7, 1.01, 0.8),
        ("quniform", 1.0, 1.2, 1.0),
        ("randint", 2, 1.2, 3),
        ("randint", 2, 0.8, 2),
        ("randint", 8, 0.5, 4),
        ("qrandint", 64, 1.2, 96),
        ("lograndint", 50, 1.2, 60),
    ],
)
def test_a_multiple_stays_in_the_domain_and_moves_a_step_at_least(type, value, factor, expected) -> None:
    found = scaled(domain(type), value, factor)
    assert found == pytest.approx(expected)
    assert domain(type).takes(found)


def test_a_choice_moves_along_its_list() -> None:
    values = domain("choice", values=["a", {"b": 1}, "c"])
    assert [scaled(values, "a", 1.2), scaled(values, "c", 0.8), scaled(values, {"b": 1}, 1.2)] == [
        {"b": 1},
        {"b": 1},
        "c",
    ]
    assert [scaled(values, "a", 0.8), scaled(values, "c", 1.2)] == ["a", "c"]


@pytest.mark.parametrize("type", RANGES)
def test_places_between_the_ends(type: str) -> None:
    one = domain(type)
    assert [to_unit(one, end) for end in one.extremes] == [0.0, 1.0]
    assert [from_unit(one, share) for share in (0.0, 1.0)] == pytest.approx(one.extremes)
    for share in (0.1, 0.37, 0.5, 0.9):
        value = from_unit(one, share)
        assert one.takes(value)
        assert from_unit(one, to_unit(one, value)) == pytest.approx(value)


def test_the_middle_of_a_logarithmic_domain_is_the_geometric_mean() -> None:
    assert from_unit(domain("loguniform", low=0.01, high=1.0), 0.5) == pytest.approx(0.1)
    assert from_unit(domain("uniform", low=0.0, high=1.0), 0.5) == pytest.approx(0.5)
