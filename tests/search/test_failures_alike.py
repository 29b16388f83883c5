"""Which failures are alike, how many are too many, and who is tried again."""

from __future__ import annotations

import pytest

from orchestrator.search.failures import Failures, masked
from orchestrator.search.trials import Phase, Record, Status, Trial
from orchestrator.spec.budget import FailuresSpec


def record(variant: str, index: int, reason: str | None = "RuntimeError: no") -> Record:
    trial = Trial(f"{variant}-{index:03d}", Phase.SEARCH, variant, index, 0)
    return Record(trial, Status.FAILED if reason else Status.FINISHED, reason=reason)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kd-000: loss became NaN in epoch 1, step 3", "dtd-012: loss became NaN in epoch 27, step 4"),
        ("ValueError: 0.5 is above 1e-3", "ValueError: 7 is above 2.5E+08"),
        ("RuntimeError: object at 0x7f3a", "RuntimeError: object at 0x12bc"),
        ("KeyError: /home/a/trials/kd-000/x.pt", "KeyError: /home/a/trials/dtd-012/x.pt"),
    ],
)
def test_what_differs_in_numbers_and_names_alone_is_alike(one: str, other: str) -> None:
    assert masked(record("kd", 0, one)) == masked(record("dtd", 12, other))


def test_what_differs_in_words_is_not() -> None:
    reasons = [
        "ValueError: no",
        "TypeError: no",
        "ValueError: none",
        "kd-000: loss became NaN",
        "kd-000: val loss is NaN",
    ]
    assert len({masked(record("kd", 0, reason)) for reason in reasons}) == len(reasons)


def test_so_many_in_a_row_are_too_many() -> None:
    failures = Failures(FailuresSpec(stop_after_alike=3))
    row = [record(variant, 0) for variant in "abc"]
    assert [failures.too_many(failed) for failed in row] == [[], [], row]


def test_a_trial_that_does_well_clears_its_variant_alone() -> None:
    failures = Failures(FailuresSpec(stop_after_alike=3))
    for number in range(2):
        assert failures.too_many(record("broken", number)) == []
        assert failures.too_many(record("shaky", number)) == [] or number
        failures.did_well(record("shaky", number, None))
    found = failures.too_many(record("broken", 2))
    assert [failed.trial.id for failed in found] == ["broken-000", "broken-001", "broken-002"]


def test_failures_of_several_kinds_are_counted_apart() -> None:
    failures = Failures(FailuresSpec(stop_after_alike=2))
    reasons = ["ValueError: a", "TypeError: b", "KeyError: c"]
    assert [failures.too_many(record("kd", n, reason)) for n, reason in enumerate(reasons)] == [[], [], []]
    assert len(failures.too_many(record("kd", 3, "TypeError: b"))) == 2


def test_null_is_never_too_many() -> None:
    failures = Failures(FailuresSpec(stop_after_alike=None))
    assert not any(failures.too_many(record("kd", number)) for number in range(100))


def test_each_trial_is_tried_again_as_often_as_the_policy_says() -> None:
    failures = Failures(FailuresSpec(max_retries=1, max_restarts=2))
    assert [failures.tries_again("a", died=False) for _ in range(3)] == [True, False, False]
    assert [failures.tries_again("a", died=True) for _ in range(4)] == [True, True, False, False]
    assert failures.tries_again("b", died=False)
    assert (failures.deaths("a"), failures.deaths("b")) == (4, 0)
