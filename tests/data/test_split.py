import pytest
import torch
from torch import Tensor

from orchestrator.data import stratified_split, stratified_subset
from orchestrator.errors import DataError

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 13 + [3] * 7)[torch.randperm(100, generator=torch.Generator())]


def _largest_remainder(counts: list[int], size: int) -> list[int]:
    exact = [count * size / sum(counts) for count in counts]
    quota = [int(share) for share in exact]
    by_remainder = sorted(range(len(counts)), key=lambda k: (-(exact[k] - quota[k]), k))
    for k in by_remainder[: size - sum(quota)]:
        quota[k] += 1
    return quota


@pytest.mark.parametrize("size", [4, 5, 9, 10, 33, 50, 77, 99, 100])
def test_a_subset_is_exact_sorted_and_proportional(size: int) -> None:
    indices = stratified_subset(LABELS, size, seed=3)
    assert indices.dtype == torch.int64
    assert indices.tolist() == sorted(set(indices.tolist()))
    assert len(indices) == size
    assert LABELS[indices].bincount(minlength=4).tolist() == _largest_remainder([50, 30, 13, 7], size)


def test_the_seed_decides() -> None:
    first = stratified_subset(LABELS, 20, seed=1)
    assert torch.equal(first, stratified_subset(LABELS, 20, seed=1))
    assert not torch.equal(first, stratified_subset(LABELS, 20, seed=2))


def test_every_sample_has_the_same_chance() -> None:
    labels = torch.tensor([0, 1] * 10)
    drawn = torch.zeros(20)
    for seed in range(1000):
        drawn[stratified_subset(labels, 4, seed)] += 1
    # Binomial(1000, 0.2): five standard deviations are 63.
    assert (drawn - 200).abs().max() < 63


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.333, 0.8])
def test_a_split_parts_the_set(fraction: float) -> None:
    before = LABELS.clone()
    kept, held_out = stratified_split(LABELS, fraction, seed=0)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(100))
    assert kept.tolist() == sorted(kept.tolist())
    assert len(held_out) == round(100 * fraction)
    assert torch.equal(held_out, stratified_subset(LABELS, len(held_out), seed=0))
    assert torch.equal(LABELS, before)


@pytest.mark.parametrize(
    ("labels", "size", "message"),
    [
        (LABELS, 101, "subset of 101 samples cannot come from a set of 100"),
        (LABELS, 3, "4 classes needs at least 4 samples, not 3"),
        (torch.tensor([0, -1]), 2, "0 or above, but one is -1"),
        (torch.tensor([0, 2, 2]), 3, "class 1 of 3 has no sample"),
        (torch.tensor([], dtype=torch.int64), 1, "empty set"),
    ],
)
def test_a_subset_names_the_rule_that_is_broken(labels: Tensor, size: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stratified_subset(labels, size, seed=0)


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [
        (LABELS, 0.0, "between 0 and 1, not 0.0"),
        (LABELS, 1.0, "between 0 and 1, not 1.0"),
        (LABELS, 0.01, "at least 4 samples, not 1"),
        (torch.tensor([0] * 9 + [1]), 0.6, "leaves none of class 1"),
    ],
)
def test_a_split_names_the_rule_that_is_broken(labels: Tensor, fraction: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stratified_split(labels, fraction, seed=0)
