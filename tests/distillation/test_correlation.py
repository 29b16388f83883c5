import pytest
import slow_losses as slow
import torch

from orchestrator.distillation.correlation import Correlation, pearson
from orchestrator.distillation.logit_loss import Lesson
from orchestrator.distillation.losses import soften

TAUS = torch.linspace(1, 12, 8, dtype=torch.float64)


def lesson(samples=8, classes=5, scale=3.0, taus=TAUS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (scale * torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)).to(dtype)
    taus = taus[:samples].to(dtype)
    return Lesson(student, soften(teacher, taus), taus, torch.zeros(samples, dtype=torch.int64))


@pytest.mark.parametrize("classes", [2, 5, 100])
def test_terms_follow_the_equation_with_a_temperature_per_sample(classes):
    given = lesson(classes=classes)
    taus = given.temperature.tolist()
    q = [slow.softmax(row, tau) for row, tau in zip(given.logits_student.tolist(), taus, strict=True)]
    inter, intra = slow.relations(given.log_probs_teacher.exp().tolist(), q)
    total, parts = Correlation(beta=0.5, gamma=3)(given)
    assert parts["inter"].item() == pytest.approx(inter)
    assert parts["intra"].item() == pytest.approx(intra)
    assert total.item() == pytest.approx(0.5 * inter + 3 * intra)


def test_level_and_scale_do_not_matter_to_a_correlation():
    first, second = torch.randn(2, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(pearson(7 * first - 3, 0.01 * second + 5), pearson(first, second))
    torch.testing.assert_close(pearson(first, 2 * first + 1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(pearson(first, -first), -torch.ones(4, dtype=torch.float64))


def test_nothing_to_learn_from_a_teacher_that_says_the_same():
    given = lesson()
    same = Lesson(given.logits_student, given.soften_student(), given.temperature, given.target)
    total, _ = Correlation()(same)
    assert total.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("samples", [1, 8])
@pytest.mark.parametrize("constant", ["student", "teacher", "both"])
def test_constant_rows_have_no_correlation_and_no_gradient(samples, constant):
    given = lesson(samples, 100, dtype=torch.float32)
    # Softened equal logits differ by rounding; that must not be taken for a relation.
    student = torch.full_like(given.logits_student, 0.3) if constant != "teacher" else given.logits_student
    teacher = torch.zeros_like(student) if constant != "student" else given.log_probs_teacher
    student.requires_grad_()
    terms = Correlation().terms(Lesson(student, soften(teacher, given.temperature), given.temperature, given.target))
    assert torch.equal(terms["inter"], torch.ones(samples))
    terms["inter"].sum().backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_rare_classes_count_like_any_other():
    # Scaling a class down to 1e-12 changes no correlation.
    first, second = torch.rand(2, 3, 16)
    scale = torch.tensor([[1.0], [1e-6], [1e-12]])
    torch.testing.assert_close(pearson(first * scale, second * scale), pearson(first, second), rtol=1e-4, atol=1e-4)


def test_the_gradient_keeps_its_scale_as_the_temperature_grows():
    norms = []
    for tau in (4.0, 16.0):
        given = lesson(16, 10, taus=torch.full((16,), tau, dtype=torch.float64))
        values = given.logits_student.requires_grad_()
        Correlation()(given)[0].backward()
        norms.append(values.grad.norm().item())
    assert 0.5 < norms[1] / norms[0] < 2
