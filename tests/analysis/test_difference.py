"""Differences over seeds, beside scipy's tests, by hand, and by simulation."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.analysis.difference import LEVEL, POWER, Difference, holm, paired, unpaired

PAIRS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=3, max_size=12)
SIDE = st.lists(st.floats(0, 100), min_size=3, max_size=12)
PS = st.lists(st.floats(0, 1), max_size=12)


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values, start=1))


def of_pairs(pairs: list[tuple[float, float]]) -> Any:
    return paired(by_seed([a for a, _ in pairs]), by_seed([b for _, b in pairs]))


@given(PAIRS)
def test_the_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    differences = [b - a for a, b in pairs]
    assume(max(differences) - min(differences) > 1e-6)
    seen = of_pairs(pairs)
    expected: Any = stats.ttest_rel([b for _, b in pairs], [a for a, _ in pairs])
    assert seen.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert seen.freedom == expected.df
    assert seen.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6, abs=1e-9)


@given(SIDE, SIDE)
def test_the_unpaired_test_is_scipys(first: list[float], second: list[float]) -> None:
    assume(max(first) - min(first) > 0.01 and max(second) - min(second) > 0.01)
    seen: Any = unpaired(first, second)
    expected: Any = stats.ttest_ind(second, first, equal_var=False)
    assert seen.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert seen.freedom == pytest.approx(expected.df)
    assert seen.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6, abs=1e-9)


@given(PAIRS, st.randoms())
def test_the_order_of_seeds_does_not_matter(pairs: list[tuple[float, float]], shuffle: random.Random) -> None:
    first, second = by_seed([a for a, _ in pairs]), by_seed([b for _, b in pairs])
    seeds = [*first]
    shuffle.shuffle(seeds)
    again = paired({seed: first[seed] for seed in seeds}, second)
    seen = paired(first, second)
    assert again is not None
    assert seen is not None
    assert again.mean == pytest.approx(seen.mean, abs=1e-9)
    assert (again.p is None) == (seen.p is None)
    assert again.p is None or again.p == pytest.approx(seen.p, rel=1e-6)


@given(PAIRS)
def test_sides_exchanged_change_the_sign_alone(pairs: list[tuple[float, float]]) -> None:
    one = [(of_pairs(pairs), of_pairs([(b, a) for a, b in pairs]))]
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    for there, back in [*one, (unpaired(first, second), unpaired(second, first))]:
        assert there.mean == pytest.approx(-back.mean)
        assert (there.p is None) == (back.p is None)
        if there.p is not None:
            assert there.p == pytest.approx(back.p)
            assert there.effect == pytest.approx(-back.effect)
            assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_pairing_removes_what_the_seed_decides() -> None:
    reference = by_seed([70.0, 80.0, 90.0, 75.0])
    variant = by_seed([71.0, 81.2, 90.9, 76.1])
    both, apart = paired(reference, variant), unpaired([*reference.values()], [*variant.values()])
    assert both is not None
    assert apart is not None
    assert both.p is not None
    assert apart.p is not None
    assert both.mean == pytest.approx(apart.mean)
    assert both.p < 0.001 < 0.5 < apart.p


def test_only_seeds_in_common_count() -> None:
    seen = paired({1: 80.0, 2: 81.0, 3: 82.0, 9: 0.0}, {3: 84.0, 1: 81.0, 2: 81.0, 4: 99.0})
    assert seen is not None
    assert (seen.count, seen.mean) == (3, 1.0)


def test_the_effect_is_hedges_g() -> None:
    # Differences 1, 0, 2: mean 1, standard deviation 1. Hedges' factor of two degrees is Gamma(1) / Gamma(1/2).
    seen = paired({1: 80.0, 2: 81.0, 3: 82.0}, {1: 81.0, 2: 81.0, 3: 84.0})
    assert seen is not None
    assert seen.effect == pytest.approx(1 / math.sqrt(math.pi))
    # Sides of variance 1 and 4, four degrees: Gamma(2) / (sqrt(2) Gamma(3/2)) of 3 / sqrt(2.5).
    apart = unpaired([79.0, 80.0, 81.0], [81.0, 83.0, 85.0])
    assert apart is not None
    assert apart.effect == pytest.approx(3 / math.sqrt(2.5) / (math.sqrt(2) * math.sqrt(math.pi) / 2))


def test_hedges_g_is_not_biased_where_cohens_d_is() -> None:
    draw = np.random.default_rng(0)
    samples = draw.normal(1.0, 1.0, (4000, 5))
    found = [of_pairs([(0.0, value) for value in sample]).effect for sample in samples]
    plain = float(np.mean(samples.mean(1) / samples.std(1, ddof=1)))
    assert np.mean(found) == pytest.approx(1.0, abs=0.05)
    assert plain > 1.2


# Where there is little or nothing to test


def test_two_seeds_tell_a_difference_and_no_more() -> None:
    assert paired({1: 80.0, 2: 80.0}, {1: 81.0, 2: 83.0}) == Difference(2, 2.0)
    assert paired({1: 80.0}, {1: 81.0}) == Difference(1, 1.0)
    assert paired({1: 80.0}, {2: 81.0}) is None
    assert unpaired([80.0, 80.0, 80.0], [81.0]) == Difference(1, 1.0)
    assert unpaired([80.0, 80.5, 80.0], [81.0, 82.0]) == Difference(2, pytest.approx(81.5 - 80.16666666666667))
    assert unpaired([], [1.0]) is None


def test_equal_runs_do_not_differ() -> None:
    same = by_seed([80.0, 81.0, 82.0])
    for seen in (paired(same, same), unpaired([80.0] * 3, [80.0] * 3)):
        assert seen is not None
        assert (seen.mean, seen.p, seen.effect, seen.interval) == (0.0, 1.0, 0.0, (0.0, 0.0))
        assert seen.detectable(1) is None


@pytest.mark.parametrize("step", [0.1, 100 / 360, 1.0])
def test_the_same_difference_with_every_seed_is_no_proof(step: float) -> None:
    """Percentages are multiples of one image's share, so chance may well give a few equal differences."""
    seen = paired(by_seed([80.1, 81.3, 82.7]), by_seed([80.1 + step, 81.3 + step, 82.7 + step]))
    assert seen is not None
    assert seen.mean == pytest.approx(step)
    assert (seen.p, seen.effect, seen.detectable(1)) == (None, None, None)


# Several comparisons


def slow_holm(ps: list[float]) -> list[float]:
    """For each comparison the lowest level at which stepping down from the smallest p still rejects it."""
    adjusted = []
    for mine in range(len(ps)):
        before = sorted(p for i, p in enumerate(ps) if (p, i) <= (ps[mine], mine))
        adjusted.append(min(1.0, max((len(ps) - rank) * p for rank, p in enumerate(before))))
    return adjusted


@given(PS)
def test_holm_is_the_slow_one(ps: list[float]) -> None:
    assert holm(ps) == pytest.approx(slow_holm(ps))


@given(PS, st.randoms())
def test_holm_does_not_mind_the_order(ps: list[float], shuffle: random.Random) -> None:
    order = list(range(len(ps)))
    shuffle.shuffle(order)
    assert holm([ps[i] for i in order]) == pytest.approx([holm(ps)[i] for i in order])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# What could have been seen


@pytest.mark.parametrize("comparisons", [1, 4])
def test_the_detectable_difference_is_shown_as_often_as_it_says(comparisons: int) -> None:
    draw, n, sd = np.random.default_rng(1), 5, 0.7
    exact = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    exact *= sd / exact.std(ddof=1)
    seen = of_pairs([(80.0, 80.0 + value) for value in exact])
    size = seen.detectable(comparisons)
    samples = draw.normal(size, sd, (4000, n))
    found: Any = stats.ttest_1samp(samples, 0.0, axis=1)
    assert np.mean(found.pvalue < LEVEL / comparisons) == pytest.approx(POWER, abs=0.025)


def test_more_seeds_detect_less_and_more_comparisons_detect_more() -> None:
    few, many = of_pairs([(0, 1), (0, 2), (0, 3)]), of_pairs([(0, 1), (0, 2), (0, 3)] * 3)
    assert many.detectable(1) < few.detectable(1) < few.detectable(3)
