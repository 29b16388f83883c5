import math

import pytest
import slow_losses as slow
import torch

from orchestrator.distillation.decoupled import DecoupledKD
from orchestrator.distillation.logit_loss import Lesson, SoftTargets
from orchestrator.distillation.losses import soften

TAUS = torch.linspace(0.5, 12, 8, dtype=torch.float64)


def lesson(samples=8, classes=5, scale=3.0, taus=TAUS):
    generator = torch.Generator().manual_seed(0)
    student, teacher = scale * torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (samples,), generator=generator)
    return Lesson(student, soften(teacher, taus[:samples]), taus[:samples], target)


def slow_terms(given):
    rows = zip(
        given.log_probs_teacher.exp().tolist(),
        given.logits_student.tolist(),
        given.target.tolist(),
        given.temperature.tolist(),
        strict=True,
    )
    return [slow.decoupled(p, slow.softmax(v, tau), label, tau) for p, v, label, tau in rows]


def assert_follows_the_equation(given):
    tckd, nckd = (torch.tensor(term, dtype=torch.float64) for term in zip(*slow_terms(given), strict=True))
    terms = DecoupledKD().terms(given)
    torch.testing.assert_close(terms["tckd"], tckd)
    torch.testing.assert_close(terms["nckd"], nckd)
    total, parts = DecoupledKD(alpha=0.5, beta=3)(given)
    torch.testing.assert_close(total, 0.5 * tckd.mean() + 3 * nckd.mean())
    torch.testing.assert_close([parts["tckd"], parts["nckd"]], [tckd.mean(), nckd.mean()])


@pytest.mark.parametrize("classes", [2, 3, 5, 100])
def test_terms_follow_the_equation_with_a_temperature_per_sample(classes):
    assert_follows_the_equation(lesson(classes=classes))


def test_impossible_classes_add_nothing():
    probs = torch.tensor(
        [[0.25, 0.75, 0, 0], [0, 0.5, 0.25, 0.25], [1, 0, 0, 0], [0, 0, 1, 0], [0.7, 0.1, 0.1, 0.1]],
        dtype=torch.float64,
    )
    student = lesson(5, 4).logits_student.requires_grad_()
    given = Lesson(student, probs.log(), TAUS[:5], torch.zeros(5, dtype=torch.int64))
    assert_follows_the_equation(given)
    assert DecoupledKD().terms(given)["nckd"][2] == 0
    DecoupledKD()(given)[0].backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("classes", [2, 5])
def test_the_rests_share_in_the_place_of_beta_gives_standard_kd(classes):
    given = lesson(classes=classes)
    terms = DecoupledKD().terms(given)
    rest = 1 - given.log_probs_teacher.exp().gather(1, given.target[:, None]).squeeze(1)
    torch.testing.assert_close(terms["tckd"] + rest * terms["nckd"], SoftTargets().terms(given)["kd"])


def test_nothing_to_learn_from_a_teacher_that_says_the_same():
    given = lesson()
    same = Lesson(given.logits_student, given.soften_student(), given.temperature, given.target)
    assert all((term == 0).all() for term in DecoupledKD().terms(same).values())


def test_two_classes_leave_nothing_to_divide():
    assert (DecoupledKD().terms(lesson(classes=2))["nckd"] == 0).all()


def test_rows_far_apart_keep_their_digits():
    # The label has e^-2000 of the student's probability; its log must not be taken of a rounded 0.
    student = torch.tensor([[-1000.0, 1000.0, 0.0]])
    target_probs = torch.tensor([[0.5, 0.25, 0.25]])
    terms = DecoupledKD().terms(Lesson(student, target_probs.log(), torch.ones(1), torch.tensor([0])))
    torch.testing.assert_close(terms["tckd"], torch.tensor([0.5 * 2000 + math.log(0.5)]))
    torch.testing.assert_close(terms["nckd"], torch.tensor([0.5 * 1000 + math.log(0.5)]))


@pytest.mark.parametrize("weights", [{"alpha": -1.0}, {"beta": math.nan}, {"alpha": math.inf}])
def test_weights_must_be_finite_and_not_negative(weights):
    name = {"alpha": "tckd", "beta": "nckd"}[next(iter(weights))]
    with pytest.raises(ValueError, match=f"weight of {name} must be finite and >= 0"):
        DecoupledKD(**weights)
