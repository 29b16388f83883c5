"""Who is compared with whom, and what the comparisons say together."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import load_spec
from orchestrator.analysis.comparisons import compared, corrected, references, verdict
from orchestrator.analysis.rows import about, comparison_table
from orchestrator.errors import SpecError, UsageError

BASE: dict[str, Any] = {
    "name": "exp",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}


def spec(*names: str, own: dict[str, str] | None = None, **search: Any) -> Any:
    variants = {name: {"reference": own[name]} if own and name in own else {} for name in names}
    return load_spec({**BASE, "search": {"variants": variants, **search}})


# References


def test_the_variant_named_kd_is_the_reference() -> None:
    assert references(spec("alone", "kd", "dtd")) == {"alone": "kd", "dtd": "kd"}


def test_else_the_first_one_is() -> None:
    assert references(spec("a", "b", "c")) == {"b": "a", "c": "a"}


def test_the_spec_may_name_another() -> None:
    assert references(spec("alone", "kd", "dtd", reference="alone")) == {"kd": "alone", "dtd": "alone"}


def test_whoever_asks_may_name_another() -> None:
    groups = spec("a-kd", "a-la", "b-kd", "b-la", own={"a-la": "a-kd", "b-la": "b-kd"})
    assert references(groups, "b-kd") == {"a-kd": "b-kd", "a-la": "b-kd", "b-la": "b-kd"}
    with pytest.raises(UsageError, match="no variant 'a-ld' in exp; did you mean 'a-la'"):
        references(groups, "a-ld")


def test_groups_have_references_of_their_own_that_are_compared_with_none() -> None:
    groups = spec("a-kd", "a-la", "b-kd", "b-la", "c", own={"a-la": "a-kd", "b-la": "b-kd"})
    assert references(groups) == {"a-la": "a-kd", "b-la": "b-kd", "c": "a-kd"}


def test_a_single_variant_has_nothing_beside_it() -> None:
    assert references(load_spec(BASE)) == {}


@pytest.mark.parametrize(
    ("search", "path", "rule"),
    [
        ({"reference": "dtt"}, "search.reference", "must name a variant; did you mean 'dtd'?"),
        ({"variants": {"kd": {"reference": "dtt"}, "dtd": {}}}, "search.variants.kd.reference", "another variant"),
        ({"variants": {"kd": {"reference": "kd"}, "dtd": {}}}, "search.variants.kd.reference", "another variant"),
        ({"variants": {}, "reference": "kd"}, "search.reference", "must name a variant"),
    ],
)
def test_a_reference_that_is_no_variant_is_refused(search: dict[str, Any], path: str, rule: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec({**BASE, "search": {"variants": {"kd": {}, "dtd": {}}, **search}})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert rule in str(problem)


def test_what_is_compared_with_what_changes_no_result() -> None:
    plain = spec("kd", "dtd", "la")
    for other in (spec("kd", "dtd", "la", reference="la"), spec("kd", "dtd", "la", own={"la": "dtd"})):
        assert other.hash == plain.hash
        assert references(other) != references(plain)


# Corrections and verdicts

REFERENCE = {1: 80.0, 2: 81.0, 3: 79.5, 4: 80.5}
BETTER = {1: 82.0, 2: 83.1, 3: 81.4, 4: 82.5}
ALIKE = {1: 80.4, 2: 80.6, 3: 80.0, 4: 80.1}


def together(**values: dict[int, float]) -> Any:
    return corrected([compared(name, by_seed, "kd", REFERENCE) for name, by_seed in values.items()])


def test_each_further_comparison_costs() -> None:
    (one,), (first, _) = together(a=BETTER), together(a=BETTER, b=ALIKE)
    assert first.p_holm == pytest.approx(2 * one.p_holm)
    assert (one.together, first.together) == (1, 2)
    assert first.detectable > one.detectable
    assert one.shown


def test_what_could_not_be_tested_costs_nothing() -> None:
    a, few, none = together(a=BETTER, few={1: 99.0}, none={})
    assert (a.together, a.p_holm) == (1, a.difference.p)
    assert (few.difference.mean, few.p_holm, few.shown) == (19.0, None, False)
    assert none.difference is None


@given(st.permutations(["a", "b", "c"]), st.randoms())
def test_the_order_of_variants_does_not_matter(order: list[str], shuffle: random.Random) -> None:
    values = {"a": BETTER, "b": ALIKE, "c": {**ALIKE, 4: 90.0}}
    seen = {c.variant: (c.p_holm, c.detectable) for c in together(**{name: values[name] for name in order})}
    assert seen == {c.variant: (c.p_holm, c.detectable) for c in together(**values)}


def test_a_verdict_tells_better_worse_and_neither() -> None:
    worse = {seed: 2 * REFERENCE[seed] - value for seed, value in BETTER.items()}
    lines = verdict(together(up=BETTER, down=worse, same=ALIKE))
    assert lines[0].startswith("up is better than kd by 2.00 points (1.8")
    assert lines[1].startswith("down is worse than kd by 2.00 points (1.8")
    assert lines[2] == "No difference from kd is shown for same."
    assert "no" not in " ".join(verdict(together(up=BETTER))).lower().split()


def test_runs_of_other_seeds_are_compared_by_welchs_test() -> None:
    shifted = {seed + 10: value for seed, value in BETTER.items()}
    assert compared("a", shifted, "kd", REFERENCE).difference is None
    seen = corrected([compared("a", shifted, "kd", REFERENCE, by_seed=False)])
    assert (seen[0].to_dict()["test"], seen[0].to_dict()["n"]) == ("Welch t", 4)
    assert seen[0].shown
    assert "independent runs (Welch's test)" in about(seen)


def test_the_table_names_references_where_there_are_several() -> None:
    header, rows = comparison_table(together(a=BETTER, few={1: 99.0}))
    assert header == ["variant", "n", "difference to kd", "95% interval", "p (Holm)", "Hedges' g", "detectable"]
    assert rows[1] == ["few", "1", "+19.00", "-", "-", "-", "-"]
    several = [compared("a", BETTER, "kd", REFERENCE), compared("b", BETTER, "other", REFERENCE)]
    header, rows = comparison_table(several)
    assert header[:4] == ["variant", "reference", "n", "difference"]
    assert [row[:2] for row in rows] == [["a", "kd"], ["b", "other"]]
