"""Mean, spread and interval over seeds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.analysis.statistics import summarise

ACCURACIES = st.lists(st.floats(0, 100), min_size=2, max_size=30)


def test_nothing_has_no_summary():
    assert summarise([]) is None


def test_one_run_has_a_mean_and_no_spread():
    summary = summarise([97.25])
    assert (summary.count, summary.mean, summary.sd, summary.interval) == (1, 97.25, None, None)
    assert str(summary) == "97.25"


def test_two_runs_by_hand():
    summary = summarise([96.0, 98.0])
    assert (summary.count, summary.mean) == (2, 97.0)
    assert summary.sd == pytest.approx(math.sqrt(2))
    # t of 97.5% with one degree of freedom is 12.7062, and sd / sqrt(2) is 1.
    assert summary.interval == pytest.approx((97 - 12.7062, 97 + 12.7062), abs=1e-4)
    assert str(summary) == "97.00 ± 1.41"


def test_five_runs_by_hand():
    summary = summarise([1.0, 2.0, 3.0, 4.0, 5.0])
    assert summary.sd == pytest.approx(math.sqrt(2.5))
    # t of 97.5% with four degrees of freedom is 2.776445.
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert summary.interval == pytest.approx((3 - half, 3 + half), abs=1e-5)


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(ACCURACIES)
def test_many_runs_are_as_scipy_has_them(values):
    summary = summarise(values)
    assert summary.count == len(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.sd == pytest.approx(stats.tstd(values), abs=1e-9)
    if summary.sd > 1e-6:
        expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert summary.interval == pytest.approx(expected)


def test_equal_runs_have_no_spread():
    summary = summarise([90.0, 90.0, 90.0])
    assert (summary.sd, summary.interval) == (0.0, (90.0, 90.0))
