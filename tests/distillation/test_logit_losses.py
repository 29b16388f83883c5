"""What every logit loss must hold to, alone and behind the criterion."""

import pytest
import slow_losses as slow
import torch

from orchestrator.catalog import LOSSES
from orchestrator.distillation._logits import standardise
from orchestrator.distillation.adjustment import LabelSmoothing, NoAdjustment, ProbabilityShift, probability_shift
from orchestrator.distillation.batch import Workers
from orchestrator.distillation.correlation import Correlation
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.decoupled import DecoupledKD
from orchestrator.distillation.logit_loss import Lesson, LogitLoss, SoftTargets
from orchestrator.distillation.losses import soften
from orchestrator.distillation.temperature import ConstantTemperature, CWSMTemperature, FLSWTemperature

CONSTANT = ConstantTemperature(4)
DYNAMIC = FLSWTemperature(4, 20, 1, 1, 12)
LOSS = {"kd": SoftTargets(), "dkd": DecoupledKD(0.7, 5), "dist": Correlation(0.7, 1.3)}
SETTINGS = {
    "kd": (DYNAMIC, NoAdjustment()),
    "la-ps + dtd-flsw": (DYNAMIC, ProbabilityShift()),
    "la-lsr + dtd-cwsm": (CWSMTemperature(4, 5, 1, 12), LabelSmoothing(0.1)),
    "hard labels where wrong": (CONSTANT, LabelSmoothing(0.0)),
}

every_loss = pytest.mark.parametrize("loss", LOSS.values(), ids=LOSS)
every_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
standardised_or_not = pytest.mark.parametrize("standardize", [False, True], ids=["raw", "standardised"])


def batch(size=16, classes=5, scale=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    student, teacher = scale * torch.randn(2, size, classes, generator=generator, dtype=dtype)
    return student, teacher, torch.randint(classes, (size,), generator=generator)


@pytest.mark.parametrize("name", LOSS)
def test_the_catalog_has_it(name):
    assert isinstance(LOSSES[name](), type(LOSS[name]))
    assert LOSSES.group == "orchestrator.losses"


@every_loss
@standardised_or_not
def test_dtd_without_effect_is_exactly_a_constant_temperature(loss, standardize):
    student, teacher, target = batch()
    constant = Criterion(0.1, 0.9, CONSTANT, NoAdjustment(), loss, standardize)(student, teacher, target)
    for temperature in (
        FLSWTemperature(4, 0, 1, 1, 12),
        FLSWTemperature(4, 20, 0, 1, 12),
        CWSMTemperature(4, 0, 1, 12),
    ):
        dynamic = Criterion(0.1, 0.9, temperature, NoAdjustment(), loss, standardize)(student, teacher, target)
        assert torch.equal(dynamic.total, constant.total)


@every_loss
@standardised_or_not
@pytest.mark.parametrize("rule", [ProbabilityShift(), LabelSmoothing(0.1)])
def test_a_rule_does_exactly_nothing_to_a_teacher_that_is_never_wrong(loss, standardize, rule):
    student, teacher, _ = batch()
    target = teacher.argmax(dim=1)
    plain = Criterion(0.1, 0.9, DYNAMIC, NoAdjustment(), loss, standardize)(student, teacher, target)
    repaired = Criterion(0.1, 0.9, DYNAMIC, rule, loss, standardize)(student, teacher, target)
    assert torch.equal(repaired.total, plain.total)


@every_loss
@every_setting
@standardised_or_not
def test_gradient_is_the_derivative_at_the_batchs_temperatures(loss, setting, standardize):
    student, teacher, target = batch(4, 3, scale=1, dtype=torch.float64)
    temperature, rule = setting
    taken = temperature(student, teacher)

    class Frozen(ConstantTemperature):
        def __call__(self, *_):
            return taken

    frozen = Criterion(0.1, 0.9, Frozen(4), rule, loss, standardize)
    values = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: frozen(v, teacher, target).total, values)
    (expected,) = torch.autograd.grad(frozen(values, teacher, target).total, values)
    criterion = Criterion(0.1, 0.9, temperature, rule, loss, standardize)
    (gradient,) = torch.autograd.grad(criterion(values, teacher, target).total, values)
    assert torch.equal(gradient, expected)


@every_loss
@every_setting
@standardised_or_not
def test_order_of_samples_and_classes_does_not_matter(loss, setting, standardize):
    student, teacher, target = batch(dtype=torch.float64)
    criterion = Criterion(0.1, 0.9, *setting, loss, standardize)
    expected = criterion(student, teacher, target).total
    samples, classes = torch.randperm(16), torch.randperm(5)
    label = classes.argsort()[target]
    torch.testing.assert_close(criterion(student[samples], teacher[samples], target[samples]).total, expected)
    torch.testing.assert_close(criterion(student[:, classes], teacher[:, classes], label).total, expected)


@every_loss
@every_setting
@standardised_or_not
@pytest.mark.parametrize(("size", "classes"), [(16, 5), (1, 5), (4, 2), (4, 1), (1, 1)])
def test_extremes_have_finite_loss_and_gradient(loss, setting, standardize, size, classes):
    criterion = Criterion(0.1, 0.9, *setting, loss, standardize)
    for scale in (0, 1, 1e4):
        student, teacher, random = batch(size, classes)
        student, teacher = student.sign() * scale, teacher.sign() * scale
        cases = {
            "random": (teacher, random),
            "right": (teacher, teacher.argmax(dim=1)),
            "wrong": (teacher, teacher.argmin(dim=1)),
            "tied": (torch.full_like(teacher, scale), random),
            "equal": (student, random),
            "opposite": (-student, random),
        }
        for case, (logits, target) in cases.items():
            values = student.clone().requires_grad_()
            output = criterion(values, logits, target)
            output.total.backward()
            assert output.total.isfinite(), (scale, case)
            assert all(part.isfinite() for part in output.parts.values()), (scale, case)
            assert values.grad.isfinite().all(), (scale, case)


@every_loss
@every_setting
@standardised_or_not
def test_a_nan_is_seen_in_the_loss(loss, setting, standardize):
    for side in range(2):
        arguments = batch()
        arguments[side][3, 2] = float("nan")
        assert Criterion(0.0, 0.9, *setting, loss, standardize)(*arguments).total.isnan()


@every_loss
@every_setting
@standardised_or_not
def test_loss_of_bf16_logits_is_float32(loss, setting, standardize):
    student, teacher, target = batch()
    student, teacher = student.bfloat16(), teacher.bfloat16()
    criterion = Criterion(0.1, 0.9, *setting, loss, standardize)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = criterion(student, teacher, target)
    assert output.total.dtype == torch.float32
    assert torch.equal(output.total, criterion(student.float(), teacher.float(), target).total)


@every_loss
@every_setting
@standardised_or_not
def test_no_call_waits_for_values_on_the_device(loss, setting, standardize):
    # Meta tensors have no values, so reading one back raises.
    output = Criterion(0.1, 0.9, *setting, loss, standardize)(*(values.to("meta") for values in batch()))
    assert all(part.shape == () for part in (output.total, *output.parts.values()))


@every_loss
@every_setting
@standardised_or_not
def test_teacher_gets_no_gradient_and_arguments_are_not_changed(loss, setting, standardize):
    arguments = batch()
    before = [argument.clone() for argument in arguments]
    student, teacher, target = arguments
    output = Criterion(0.1, 0.9, *setting, loss, standardize)(
        student.requires_grad_(), teacher.requires_grad_(), target
    )
    output.total.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert not any(part.requires_grad for part in output.parts.values())
    assert all(map(torch.equal, arguments, before))


class Part(Workers):
    """One of two processes, told what the other would have sent, in the order of the calls."""

    count = 2

    def __init__(self, mine, whole, replies):
        self.mine, self.size, self.replies = mine, whole, replies

    def mean(self, values):
        return self.replies.pop(0).mean()

    def share_of_mean(self, values):
        return values.sum() * 2 / self.size

    def gather(self, values):
        whole = self.replies.pop(0).clone()
        whole[self.mine] = 2 * values - values.detach()
        return whole


class Recording(Workers):
    def __init__(self):
        self.sent = []

    def mean(self, values):
        self.sent.append(values)
        return super().mean(values)

    def gather(self, values):
        self.sent.append(values.detach())
        return values


@every_loss
@every_setting
@standardised_or_not
def test_unequal_parts_of_a_batch_add_up_to_the_whole(loss, setting, standardize):
    student, teacher, target = batch(dtype=torch.float64)
    student.requires_grad_()
    criterion = Criterion(0.1, 0.9, *setting, loss, standardize)
    recorder = Recording()
    whole = criterion(student, teacher, target, workers=recorder)
    (expected,) = torch.autograd.grad(whole.total, student)
    parts = [slice(0, 5), slice(5, 16)]
    outputs = [
        criterion(student[part], teacher[part], target[part], workers=Part(part, 16, list(recorder.sent)))
        for part in parts
    ]
    torch.testing.assert_close((outputs[0].total + outputs[1].total) / 2, whole.total)
    (gradient,) = torch.autograd.grad((outputs[0].total + outputs[1].total) / 2, student)
    torch.testing.assert_close(gradient, expected)
    for name, term in whole.terms.items():
        torch.testing.assert_close((outputs[0].terms[name] + outputs[1].terms[name]) / 2, term)


@pytest.mark.parametrize(("name", "parts"), [("kd", set()), ("dkd", {"tckd", "nckd"}), ("dist", {"inter", "intra"})])
def test_terms_are_logged_unweighted_beside_their_sum(name, parts):
    output = Criterion(0.1, 0.9, DYNAMIC, ProbabilityShift(), LOSS[name])(*batch())
    assert {part for part in output.parts if part.startswith("loss_")} == {
        "loss_ce",
        "loss_kd",
        *(f"loss_{part}" for part in parts),
    }
    weights = LOSS[name].weights
    if parts:
        total = sum(weights[part] * output.parts[f"loss_{part}"] for part in parts)
        torch.testing.assert_close(output.loss_kd, total)


def test_a_loss_is_given_the_repaired_and_softened_target():
    student, teacher, target = batch()
    given = []

    class Spy(LogitLoss):
        def terms(self, lesson):
            given.append(lesson)
            return {"spy": lesson.logits_student.sum(dim=1)}

    output = Criterion(0.0, 2.0, DYNAMIC, ProbabilityShift(), Spy(spy=3.0))(student, teacher, target)
    (lesson,) = given
    assert torch.equal(lesson.logits_student, student)
    assert torch.equal(lesson.temperature, output.temperature)
    assert torch.equal(lesson.target, target)
    assert torch.equal(lesson.log_probs_teacher, soften(probability_shift(teacher, target), output.temperature))
    torch.testing.assert_close(output.total, 6 * student.sum(dim=1).mean())


def test_shapes_that_do_not_fit_are_refused():
    student, teacher, target = batch()
    with pytest.raises(ValueError, match=r"logits_student and log_probs_teacher must have the same shape"):
        Lesson(student, teacher[:, :4], torch.ones(16), target)
    with pytest.raises(ValueError, match=r"target must have shape \[B\]"):
        Lesson(student, teacher, torch.ones(16), target[:3])


# Standardisation


@pytest.mark.parametrize("scale", [0.1, 3.0, 1e4])
def test_standardised_logits_follow_the_equation(scale):
    logits = batch(dtype=torch.float64)[0] * scale + 2
    expected = torch.tensor([slow.standardised(row) for row in logits.tolist()], dtype=torch.float64)
    torch.testing.assert_close(standardise(logits), expected)


def test_equal_logits_and_one_class_standardise_to_zeros():
    assert torch.equal(standardise(torch.full((2, 5), 1e4)), torch.zeros(2, 5))
    assert torch.equal(standardise(torch.randn(3, 1)), torch.zeros(3, 1))


@every_loss
def test_a_standardised_loss_knows_neither_level_nor_range(loss):
    student, teacher, target = batch(dtype=torch.float64)
    criterion = Criterion(0.0, 1.0, CONSTANT, ProbabilityShift(), loss, standardize=True)
    expected = criterion(student, teacher, target).total
    torch.testing.assert_close(criterion(5 * student - 7, 3 * teacher + 2, target).total, expected)
    plain = Criterion(0.0, 1.0, CONSTANT, ProbabilityShift(), loss)
    torch.testing.assert_close(
        plain(standardise(student), standardise(probability_shift(teacher, target)), target).total, expected
    )
    torch.testing.assert_close(
        plain(standardise(student), probability_shift(standardise(teacher), target), target).total, expected
    )


@every_loss
def test_temperatures_come_from_the_logits_as_they_are(loss):
    student, teacher, target = batch()
    output = Criterion(0.1, 0.9, DYNAMIC, ProbabilityShift(), loss, standardize=True)(student, teacher, target)
    assert torch.equal(output.temperature, DYNAMIC(student, teacher).tau)
