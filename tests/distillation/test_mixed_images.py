"""Labels, adjustment and losses of images that are blended from two."""

import pytest
import torch
from torch.nn import functional

from orchestrator.distillation.adjustment import (
    LabelSmoothing,
    NoAdjustment,
    ProbabilityShift,
    probability_shift,
    wrong_predictions,
)
from orchestrator.distillation.batch import Mix
from orchestrator.distillation.correlation import Correlation
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.decoupled import DecoupledKD
from orchestrator.distillation.logit_loss import SoftTargets
from orchestrator.distillation.temperature import ConstantTemperature, FLSWTemperature

CONSTANT = ConstantTemperature(4)
DYNAMIC = FLSWTemperature(4, 20, 1, 1, 12)
RULES = [NoAdjustment(), ProbabilityShift(), LabelSmoothing(0.1)]
LOSSES = [SoftTargets(), DecoupledKD(), Correlation()]

every_rule = pytest.mark.parametrize("rule", RULES)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def batch(size=32, classes=5):
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, size, classes, generator=generator)
    target, partner = torch.randint(classes, (2, size), generator=generator)
    return student, teacher, target, Mix(partner, torch.rand(size, generator=generator))


def is_wrong(row, first, second, share):
    allowed = ([first] if share > 0 else []) + ([second] if share < 1 else [])
    return max(row) > max(row[label] for label in allowed)


def test_cross_entropy_is_shared_between_the_labels():
    student, _, target, mix = batch()
    expected = mix.share * functional.cross_entropy(student, target, reduction="none")
    expected += (1 - mix.share) * functional.cross_entropy(student, mix.partner, reduction="none")
    output = Criterion(0.5, 0, CONSTANT, NoAdjustment())(student, None, target, mix=mix)
    torch.testing.assert_close(output.total, 0.5 * expected.mean())


def test_a_teacher_is_wrong_where_it_says_neither_label():
    _, teacher, target, mix = batch()
    mix.share[:6] = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    rows = zip(teacher.tolist(), target.tolist(), mix.partner.tolist(), mix.share.tolist(), strict=True)
    wrong = [is_wrong(*row) for row in rows]
    assert 0 < sum(wrong) < 32
    assert wrong_predictions(teacher, target, mix).tolist() == wrong


def test_ties_with_either_label_and_labels_without_a_share():
    teacher = torch.tensor([[2.0, 2.0, 1.0]]).expand(6, 3)
    target, partner = torch.tensor([0, 2, 2, 1, 2, 2]), torch.tensor([2, 1, 2, 2, 0, 0])
    mix = Mix(partner, torch.tensor([0.1, 0.9, 0.5, 0.0, 1.0, 0.0]))
    assert wrong_predictions(teacher, target, mix).tolist() == [False, False, True, True, True, False]


def test_repair_takes_the_label_of_the_larger_share_and_the_first_of_equal_ones():
    teacher = torch.tensor([[9.0, 1.0, 2.0, 3.0]]).repeat(3, 1)
    target, partner = torch.tensor([1, 1, 1]), torch.tensor([2, 2, 2])
    mix = Mix(partner, torch.tensor([0.7, 0.3, 0.5]))
    student = torch.randn(3, 4)
    mixed = Criterion(0.0, 1.0, CONSTANT, ProbabilityShift())(student, teacher, target, mix=mix)
    repaired = probability_shift(teacher, torch.tensor([1, 2, 1]))
    expected = Criterion(0.0, 1.0, CONSTANT, NoAdjustment())(student, repaired, target)
    assert torch.equal(mixed.loss_kd, expected.loss_kd)
    assert mixed.parts["adjustment/adjusted"] == 3


@every_rule
@every_loss
def test_right_samples_keep_the_teachers_target_to_the_bit(rule, loss):
    student, teacher, target, mix = batch()
    # The teacher's top class is the label with the smaller share.
    mix.share.clamp_(0.6, 0.9)
    mix.partner.copy_(teacher.argmax(dim=1))
    adjusted = Criterion(0.1, 0.9, DYNAMIC, rule, loss)(student, teacher, target, mix=mix)
    plain = Criterion(0.1, 0.9, DYNAMIC, NoAdjustment(), loss)(student, teacher, target, mix=mix)
    assert torch.equal(adjusted.total, plain.total)
    assert adjusted.parts["adjustment/wrong"] == adjusted.parts["adjustment/adjusted"] == 0


@every_rule
@every_loss
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_mix_of_one_label_is_no_mix(rule, loss, share):
    student, teacher, target, _ = batch()
    criterion = Criterion(0.1, 0.9, DYNAMIC, rule, loss)
    plain = criterion(student, teacher, target)
    same = criterion(student, teacher, target, mix=Mix(target, torch.full((32,), share)))
    torch.testing.assert_close(same.total, plain.total)
    assert torch.equal(same.adjusted, plain.adjusted)
    other = (target + 1) % 5
    first = criterion(student, teacher, target, mix=Mix(other, torch.ones(32)))
    second = criterion(student, teacher, other, mix=Mix(target, torch.zeros(32)))
    assert torch.equal(first.total, plain.total)
    assert torch.equal(second.total, plain.total)


@every_rule
def test_temperatures_depend_on_logits_alone(rule):
    student, teacher, target, mix = batch()
    criterion = Criterion(0.1, 0.9, DYNAMIC, rule)
    mixed = criterion(student, teacher, target, mix=mix)
    assert torch.equal(mixed.temperature, criterion(student, teacher, target).temperature)
