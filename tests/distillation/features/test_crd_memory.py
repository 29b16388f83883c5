"""The memory and the negatives of contrastive distillation."""

import pytest
import torch
from feature_cases import LABELS, METHODS, Case, batch

from orchestrator.distillation.features import Setup
from orchestrator.distillation.features.crd import Contrastive
from orchestrator.distillation.features.draws import draw

VECTORS = Setup([(3,)], [(4,)], LABELS)


def test_negatives_are_of_other_classes_and_reach_all_of_them() -> None:
    loss = Contrastive(VECTORS, negatives=13)
    seen: dict[int, set[int]] = {index: set() for index in range(20)}
    for epoch in range(40):
        for index, others in enumerate(loss.draw_negatives(batch(range(20), epoch)).tolist()):
            seen[index].update(others)
    for index, others in seen.items():
        assert others == {other for other in range(20) if LABELS[other] != LABELS[index]}


def test_negatives_depend_on_seed_epoch_and_sample_alone() -> None:
    loss = Contrastive(VECTORS)
    whole = loss.draw_negatives(batch(range(20)))
    assert torch.equal(loss.draw_negatives(batch([7, 3])), whole[[7, 3]])
    assert not torch.equal(loss.draw_negatives(batch(range(20), epoch=1)), whole)
    assert not torch.equal(loss.draw_negatives(batch(range(20), seed=1)), whole)


def test_negatives_are_capped_by_the_largest_class() -> None:
    assert Contrastive(VECTORS).negatives == 20 - 7


def test_draws_are_even() -> None:
    drawn = draw(3, 1, torch.arange(200), 500, torch.full((200, 1), 10))
    assert drawn.min() == 0
    shares = torch.bincount(drawn.flatten(), minlength=10) / drawn.numel()
    assert (shares - 0.1).abs().max() < 0.005
    by_sample = torch.stack([torch.bincount(row, minlength=10) for row in drawn]).float()
    assert by_sample.std(0).mean() == pytest.approx((500 * 0.1 * 0.9) ** 0.5, rel=0.15)


def test_the_memory_moves_towards_what_was_seen() -> None:
    case = Case("crd", student=((3,),), teacher=((4,),), options={"momentum": 0.25})
    loss = case.make()
    student, teacher = case.features(2)
    before = loss.memory_student.clone()
    loss(student, teacher, batch([4, 9]))
    z = torch.nn.functional.normalize(loss.embed_student(student[0]), dim=1)
    expected = torch.nn.functional.normalize(0.25 * before[[4, 9]] + 0.75 * z, dim=1)
    torch.testing.assert_close(loss.memory_student[[4, 9]], expected.detach())
    untouched = [index for index in range(20) if index not in (4, 9)]
    assert torch.equal(loss.memory_student[untouched], before[untouched])


def test_the_first_batch_sets_the_normaliser_for_good() -> None:
    case = METHODS["crd"]
    loss = case.make()
    loss(*case.features(4), batch(range(4)))
    first = loss.normaliser_student.clone()
    loss(*case.features(4, seed=8), batch(range(4)))
    assert first > 0
    assert torch.equal(loss.normaliser_student, first)


def test_a_restored_memory_goes_on_exactly() -> None:
    case = METHODS["crd"]
    loss, other = case.make(), case.make()
    loss(*case.features(4), batch(range(4)))
    with torch.no_grad():
        other.embed_student.weight.add_(1)
    other.load_state_dict(loss.state_dict())
    again = (case.features(4, seed=8), batch([1, 2, 8, 9]))
    assert torch.equal(other(*again[0], again[1]), loss(*again[0], again[1]))


def test_it_learns_to_tell_samples_apart() -> None:
    torch.manual_seed(0)
    loss = Contrastive(VECTORS, dim=8, negatives=8)
    student, teacher = torch.randn(20, 3), torch.randn(20, 4)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.02)
    losses = []
    for epoch in range(60):
        value = loss([student], [teacher], batch(range(20), epoch))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize(
    ("setup", "options", "message"),
    [
        (VECTORS, {"dim": 0}, "dim and negatives must be 1 or above"),
        (VECTORS, {"negatives": 0}, "dim and negatives must be 1 or above"),
        (VECTORS, {"temperature": 0.0}, "temperature must be finite and > 0"),
        (VECTORS, {"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        (Setup([(3,)], [(4,)]), {}, "needs the labels"),
        (Setup([(3,)], [(4,)], torch.zeros(5, dtype=torch.int64)), {}, "two classes or more"),
        (Setup([(3,), (3,)], [(4,), (4,)], LABELS), {}, "takes one layer, got 2"),
    ],
)
def test_what_it_refuses(setup: Setup, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contrastive(setup, **options)
