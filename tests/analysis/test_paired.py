"""Paired comparisons, beside scipy's and by hand."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.analysis.paired import holm, paired

VALUES = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=12)


@given(VALUES)
def test_the_test_is_scipys(pairs):
    differences = [b - a for a, b in pairs]
    assume(max(differences) - min(differences) > 1e-6)
    seen = paired({seed: a for seed, (a, _) in enumerate(pairs)}, {seed: b for seed, (_, b) in enumerate(pairs)})
    expected = stats.ttest_rel([b for _, b in pairs], [a for a, _ in pairs])
    assert seen.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert seen.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6, abs=1e-9)


def test_only_seeds_in_common_count_and_their_order_does_not():
    seen = paired({1: 80.0, 2: 81.0, 3: 82.0, 9: 0.0}, {3: 84.0, 1: 81.0, 2: 81.0, 4: 99.0})
    assert (seen.count, seen.difference) == (3, 1.0)
    assert seen.effect == pytest.approx(1.0)


def test_one_seed_in_common_is_not_enough():
    assert paired({1: 80.0}, {1: 81.0}) is None


def test_differences_without_spread():
    assert paired({1: 80.0, 2: 81.0}, {1: 80.0, 2: 81.0}).p == 1.0
    same = paired({1: 80.0, 2: 81.0}, {1: 80.5, 2: 81.5})
    assert (same.p, same.effect) == (0.0, math.inf)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
