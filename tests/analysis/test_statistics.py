"""Mean, spread and interval over seeds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from orchestrator.analysis.statistics import summarise, t_quantile, t_shift, t_tails

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
    # Student's t with one degree of freedom is 12.7: no interval worth showing.
    assert summary.interval is None
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
    if len(values) < 3:
        assert summary.interval is None
    elif summary.sd > 1e-6:
        expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert summary.interval == pytest.approx(np.clip(expected, 0, 100))


def test_an_interval_of_percentages_stays_among_them():
    assert summarise([99.0, 100.0, 100.0]).interval[1] == 100.0
    assert summarise([0.0, 0.0, 1.0]).interval[0] == 0.0


def test_the_quantile_is_scipys():
    for freedom in [*range(1, 60), 100, 999]:
        for probability in (0.9, 0.975, 0.995):
            assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), abs=1e-9)


@given(st.floats(-1e4, 1e4), st.floats(1, 2000))
def test_the_tails_are_scipys(t, freedom):
    # Near 0 it is scipy's that has lost digits.
    assert t_tails(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-8, abs=1e-300)


@pytest.mark.parametrize("freedom", [2, 3.7, 4, 9, 29, 200])
@pytest.mark.parametrize("comparisons", [1, 4, 10, 50])
def test_the_shift_gives_the_power_by_scipys_noncentral_t(freedom, comparisons):
    critical = t_quantile(1 - 0.05 / (2 * comparisons), freedom)
    assert special.nctdtr(freedom, t_shift(0.8, critical, freedom), critical) == pytest.approx(0.2, abs=1e-4)


def test_equal_runs_have_no_spread():
    summary = summarise([90.0, 90.0, 90.0])
    assert (summary.sd, summary.interval) == (0.0, (90.0, 90.0))
