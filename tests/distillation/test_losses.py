import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.distillation.losses import kd_loss, soft_target_loss, soften


def random_logits(batch=8, classes=5, scale=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(2, batch, classes, generator=generator, dtype=dtype)


def slow_softmax(row, tau):
    top = max(row)
    exps = [math.exp((value - top) / tau) for value in row]
    return [value / sum(exps) for value in exps]


def slow_kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def slow_kd(student, teacher, taus):
    rows = zip(student.tolist(), teacher.tolist(), taus, strict=True)
    return [tau**2 * slow_kl(slow_softmax(t, tau), slow_softmax(v, tau)) for v, t, tau in rows]


@pytest.mark.parametrize("tau", [0.7, 1, 4, torch.linspace(1, 12, 8)])
def test_kd_loss_follows_the_equation(tau):
    student, teacher = random_logits()
    taus = tau.tolist() if isinstance(tau, torch.Tensor) else [tau] * 8
    expected = torch.tensor(slow_kd(student, teacher, taus))
    torch.testing.assert_close(kd_loss(student, teacher, tau, reduction="none"), expected)
    torch.testing.assert_close(kd_loss(student, teacher, tau, reduction="sum"), expected.sum())
    torch.testing.assert_close(kd_loss(student, teacher, tau), expected.mean())


@pytest.mark.parametrize("tau", [2.0, torch.linspace(1, 12, 4)])
def test_gradient_of_kd_loss_is_the_derivative(tau):
    student, teacher = random_logits(4, 3, scale=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: kd_loss(v, teacher, tau), student.requires_grad_())


def test_soft_target_loss_follows_the_equation_with_impossible_classes():
    student = random_logits(2, 3)[0].requires_grad_()
    probs = [[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]
    loss = soft_target_loss(student, torch.tensor(probs).log(), 3.0, reduction="none")
    expected = [9 * slow_kl(p, slow_softmax(v, 3.0)) for p, v in zip(probs, student.tolist(), strict=True)]
    torch.testing.assert_close(loss, torch.tensor(expected))
    loss.sum().backward()
    torch.testing.assert_close(student.grad, 3 * ((student / 3).softmax(dim=1) - torch.tensor(probs)))


def test_soft_target_loss_on_softened_logits_is_kd_loss():
    student, teacher = random_logits()
    assert torch.equal(soft_target_loss(student, soften(teacher, 4), 4), kd_loss(student, teacher, 4))


def test_a_float_and_a_constant_tensor_are_the_same_temperature():
    student, teacher = random_logits()
    assert torch.equal(kd_loss(student, teacher, 3.3), kd_loss(student, teacher, torch.full((8,), 3.3)))


@pytest.mark.parametrize("tau", [0.5, 4, torch.linspace(1, 12, 8)])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_a_student_equal_to_its_teacher_has_no_loss(tau, scale):
    student = random_logits(scale=scale)[0].requires_grad_()
    loss = kd_loss(student, student.detach(), tau, reduction="none")
    assert torch.equal(loss, torch.zeros(8))
    loss.sum().backward()
    torch.testing.assert_close(student.grad, torch.zeros(8, 5), atol=1e-5, rtol=0)


@settings(deadline=None)
@given(
    values=st.lists(st.sampled_from([-1e4, -1.0, 0.0, 1e4]), min_size=12, max_size=12),
    tau=st.sampled_from([0.05, 1.0, 20.0]),
)
def test_extreme_logits_have_finite_loss_and_gradient(values, tau):
    student, teacher = torch.tensor(values).view(2, 2, 3).unbind()
    student.requires_grad_()
    loss = kd_loss(student, teacher, tau)
    loss.backward()
    assert loss.isfinite()
    assert loss >= -1e-3
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(("batch", "classes"), [(1, 5), (4, 1), (1, 1)])
def test_smallest_batches(batch, classes):
    student, teacher = random_logits(batch, classes)
    expected = torch.tensor(slow_kd(student, teacher, [4.0] * batch)).mean()
    torch.testing.assert_close(kd_loss(student, teacher, 4.0), expected)


def test_order_of_samples_and_classes_does_not_matter():
    student, teacher = random_logits()
    taus, samples, classes = torch.linspace(1, 12, 8), torch.randperm(8), torch.randperm(5)
    expected = kd_loss(student, teacher, taus)
    torch.testing.assert_close(kd_loss(student[samples], teacher[samples], taus[samples]), expected)
    torch.testing.assert_close(kd_loss(student[:, classes], teacher[:, classes], taus), expected)


def test_only_the_student_receives_gradient():
    student, teacher = (values.requires_grad_() for values in random_logits())
    taus = torch.full((8,), 4.0, requires_grad=True)
    kd_loss(student, teacher, taus).backward()
    assert student.grad is not None
    assert teacher.grad is None
    assert taus.grad is None
    log_probs = soften(teacher, 4)
    soft_target_loss(student, log_probs, 4).backward()
    assert teacher.grad is None


def test_arguments_are_not_changed():
    arguments = (*random_logits(), torch.linspace(1, 12, 8))
    before = [argument.clone() for argument in arguments]
    kd_loss(*arguments)
    assert all(map(torch.equal, arguments, before))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_precision_is_float32_under_autocast(dtype):
    student, teacher = (values.to(dtype) for values in random_logits())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = kd_loss(student, teacher, 4.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, kd_loss(student.float(), teacher.float(), 4.0))


def test_float64_is_kept():
    student, teacher = random_logits(dtype=torch.float64)
    assert kd_loss(student, teacher, torch.full((8,), 4.0)).dtype == torch.float64


@pytest.mark.parametrize("tau", [0, -1, math.nan, math.inf])
def test_a_float_temperature_must_be_positive_and_finite(tau):
    with pytest.raises(ValueError, match=f"temperature must be finite and > 0, got {tau}"):
        kd_loss(*random_logits(), tau)


def test_shapes_that_do_not_fit_are_refused():
    student, teacher = random_logits()
    with pytest.raises(ValueError, match=r"\[8, 5\] and \[8, 4\]"):
        kd_loss(student, teacher[:, :4], 4)
    with pytest.raises(ValueError, match=r"logits_student must have shape \[B, C\], got \[5\]"):
        kd_loss(student[0], teacher[0], 4)
    with pytest.raises(ValueError, match=r"got \[8, 1\] for logits of shape \[8, 5\]"):
        kd_loss(student, teacher, torch.ones(8, 1))


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'max'"):
        kd_loss(*random_logits(), 4, reduction="max")
