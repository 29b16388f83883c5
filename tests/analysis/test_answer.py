"""The answer in two sentences: what was found, and how far it is to be trusted, for every kind of experiment."""

from __future__ import annotations

from typing import Any

import pytest
from test_notes import FAR, NEAR, finals, record, results

from orchestrator.analysis.answer import answer
from orchestrator.search.standing import State
from orchestrator.search.trials import Status


def test_a_shown_difference_comes_with_its_interval_and_what_is_not_shown() -> None:
    found, sure = answer(results(*finals(FAR)), State.COMPLETE)
    assert found.startswith("alone is worse than kd by 39.97 points (39.")
    assert "; p " in found
    assert sure.startswith("No difference is shown for dtd: with this spread and as many seeds, 80 %")


def test_no_difference_comes_with_the_size_of_one_that_would_be_seen() -> None:
    found, sure = answer(results(*finals(NEAR)), State.COMPLETE)
    assert found.startswith("No difference shown: no variant differs from kd by more than chance")
    assert "would show a true difference of" in sure


def test_more_than_two_differences_are_told_by_their_sizes() -> None:
    arms = {f"v{number}": {} for number in range(3)}
    tests = {"kd": [90.0, 90.1, 90.3], **{name: [70.0, 70.2, 70.3] for name in arms}}
    found, sure = answer(results(*finals(tests), search__variants={"kd": {}, **arms}), State.COMPLETE)
    assert found.startswith("3 of 3 variants differ from kd: v0 -19.97 points (-")
    assert sure.startswith("Intervals are 95% over 3 seeds, p-values corrected for 3 comparisons;")


def test_what_has_too_few_seeds_is_said_not_to_be_tested() -> None:
    found, sure = answer(results(*finals({**FAR, "dtd": FAR["dtd"][:2]})), State.COMPLETE)
    assert found.startswith("alone is worse than kd by 39.97 points")
    assert sure.startswith("Intervals are 95% over 3 seeds;")
    assert sure.endswith("Not tested: dtd (2 seeds in common with kd); a test takes 3.")


def test_two_seeds_are_no_test() -> None:
    two = {name: values[:2] for name, values in NEAR.items()}
    found, sure = answer(results(*finals(two)), State.COMPLETE)
    assert found == ("alone is 0.00 points above kd in test accuracy; dtd is 0.00 points above kd in test accuracy."), (
        found
    )
    assert sure == "Whether that is more than chance is not known: a test takes 3 seeds in common."


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([80.0, 81.0, 82.0], "The 95% interval is 78.52 to 83.48 (over 3 fresh seeds)"),
        ([80.0], "not known (over 1 fresh"),
    ],
)
def test_one_variant_is_told_with_its_interval(values: list[float], said: str) -> None:
    found, sure = answer(results(*finals({"only": values}), search__variants={"only": {}}), State.COMPLETE)
    assert found.startswith("only reaches 8")
    assert said in sure
    assert "no other variant" in sure


def test_the_best_of_a_search_is_no_test() -> None:
    searched = [record("kd-000", "kd", val_acc1=91.0), record("dtd-000", "dtd", val_acc1=93.5)]
    found, sure = answer(results(*searched, search__final_seeds=0), State.COMPLETE)
    assert found == "dtd has the best val/acc1 of the search, 93.50."
    assert sure.startswith("Nothing was tested (search.final_seeds is 0)")


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "There is no answer yet"),
        ([record("kd-000", "kd", status=Status.RUNNING)], "There is no answer yet"),
        ([record("kd-000", "kd", status=Status.FAILED)], "There is no answer: every trial that has ended has failed."),
    ],
)
def test_without_a_result_there_is_no_answer(records: list[Any], said: str) -> None:
    assert answer(results(*records), State.FAILED)[0].startswith(said)


def test_an_unfinished_experiment_says_so() -> None:
    searched = [record(f"{name}-000", name, val_acc1=90.0) for name in NEAR]
    found, sure = answer(results(*searched, *finals(NEAR)), State.RUNNING)
    assert found.startswith("So far: No difference shown")
    assert sure.endswith("; the experiment is still running.")
