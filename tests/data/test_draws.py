import math

import pytest
import torch
from scipy import stats

from orchestrator.data.draws import Stream, beta, integers, uniform

INDICES = torch.arange(50_000)


def test_no_two_streams_share_a_number() -> None:
    numbers = [int(stream) for stream in Stream]
    taken = {*numbers, *(Stream.JITTER_FACTOR + n for n in range(4)), *(Stream.JITTER_ORDER + n for n in range(4))}
    assert len(set(numbers)) == len(Stream)
    assert len(taken) == len(numbers) + 6
    assert max(taken) == Stream.POLICY


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_integers_are_even_over_their_range(count: int) -> None:
    values = integers(3, 1, INDICES, 2, count)
    counts = values.bincount(minlength=count).double()
    assert len(counts) == count
    expected = len(INDICES) / count
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert stats.chi2.sf(chi_square, count - 1) > 1e-3 if count > 1 else chi_square == 0


def test_integers_reach_beyond_what_a_float_holds() -> None:
    values = integers(0, 0, INDICES, 0, 2**31)
    assert values.min() >= 0
    assert values.max() < 2**31
    assert (values & 1).double().mean() == pytest.approx(0.5, abs=0.01)


def test_integers_never_change() -> None:
    # Results of stored runs depend on these values.
    assert integers(7, 3, torch.tensor([0, 1, 59_999]), 6, 50_000).tolist() == [30685, 42429, 21228]


@pytest.mark.parametrize("count", [0, -1, 2**31 + 1])
def test_a_range_that_cannot_be_drawn_from_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=str(count)):
        integers(0, 0, INDICES, 0, count)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 8.0, 100.0])
def test_beta_is_the_inverse_distribution(alpha: float) -> None:
    draws = torch.linspace(0, 1 - 2**-24, 4001)
    expected = torch.from_numpy(stats.beta.ppf(draws.double().numpy(), alpha, alpha)).float()
    # Lines between 8193 quantiles: least exact where the distribution is steep, at the ends of a large alpha.
    near_the_ends = torch.minimum(draws, 1 - draws) < 0.002
    error = (beta(draws, alpha) - expected).abs()
    assert error[~near_the_ends].max() < 2e-4
    assert error.max() < 0.4
    assert beta(draws, alpha)[[0, 2000]].tolist() == pytest.approx([0, 0.5], abs=1e-4)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_beta_has_its_moments_and_shape(alpha: float) -> None:
    shares = beta(uniform(0, 0, INDICES, Stream.MIX_SHARE), alpha)
    assert (shares >= 0).all()
    assert (shares <= 1).all()
    variance = 1 / (4 * (2 * alpha + 1))
    assert shares.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(variance / len(INDICES)))
    assert shares.var().item() == pytest.approx(variance, rel=0.02)
    # Of a small alpha many shares round to 1 in float32; below a half they have all their digits.
    lower = shares[shares < 0.5].double().numpy()
    assert stats.kstest(2 * stats.beta(alpha, alpha).cdf(lower), "uniform").pvalue > 1e-3


def test_beta_does_not_depend_on_a_draws_neighbours() -> None:
    draws = uniform(0, 0, torch.arange(301), 0)
    alone = torch.cat([beta(draw[None], 0.2) for draw in draws])
    assert torch.equal(alone, beta(draws, 0.2))


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
def test_an_alpha_without_a_distribution_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        beta(torch.zeros(1), alpha)
