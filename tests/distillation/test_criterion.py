import math

import pytest
import torch
from torch.nn import functional

from orchestrator.distillation.adjustment import (
    LabelSmoothing,
    NoAdjustment,
    ProbabilityShift,
    label_smoothing_targets,
    probability_shift,
)
from orchestrator.distillation.batch import Workers
from orchestrator.distillation.correlation import Correlation
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.decoupled import DecoupledKD
from orchestrator.distillation.logit_loss import SoftTargets
from orchestrator.distillation.losses import kd_loss
from orchestrator.distillation.temperature import (
    ConstantTemperature,
    CWSMTemperature,
    FLSWTemperature,
    dynamic_temperature,
    flsw_weights,
)

CONSTANT = ConstantTemperature(4)
DYNAMIC = FLSWTemperature(4, 20, 1, 1, 12)
TEMPERATURES = [CONSTANT, DYNAMIC, CWSMTemperature(4, 5, 1, 12)]
RULES = [NoAdjustment(), ProbabilityShift(), LabelSmoothing(0.1)]

every_combination = pytest.mark.parametrize(
    ("temperature", "adjustment"), [(temperature, rule) for temperature in TEMPERATURES for rule in RULES]
)


def batch(size=16, classes=5, scale=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    student, teacher = scale * torch.randn(2, size, classes, generator=generator, dtype=dtype)
    return student, teacher, torch.randint(classes, (size,), generator=generator)


def standard_kd(student, teacher, target, tau):
    ce = functional.cross_entropy(student, target, reduction="none").mean()
    return 0.1 * ce + 0.9 * kd_loss(student, teacher, tau)


@pytest.mark.parametrize(
    "temperature",
    [
        pytest.param(CONSTANT, id="constant"),
        pytest.param(FLSWTemperature(4, 0, 1, 1, 12), id="flsw, beta 0"),
        pytest.param(FLSWTemperature(4, 20, 0, 1, 12), id="flsw, gamma 0"),
        pytest.param(CWSMTemperature(4, 0, 1, 12), id="cwsm, beta 0"),
    ],
)
def test_dtd_without_effect_is_exactly_standard_kd(temperature):
    student, teacher, target = batch()
    output = Criterion(0.1, 0.9, temperature, NoAdjustment())(student, teacher, target)
    assert torch.equal(output.total, standard_kd(student, teacher, target, 4.0))


@pytest.mark.parametrize("adjustment", RULES)
def test_any_rule_with_a_teacher_that_is_never_wrong_is_exactly_standard_kd(adjustment):
    student, teacher, _ = batch()
    target = teacher.argmax(dim=1)
    output = Criterion(0.1, 0.9, CONSTANT, adjustment)(student, teacher, target)
    assert torch.equal(output.total, standard_kd(student, teacher, target, 4.0))
    assert output.parts["adjustment/wrong"] == 0
    assert output.parts["adjustment/adjusted"] == 0


def test_temperature_sees_the_unadjusted_teacher_and_the_loss_the_adjusted_one():
    student, teacher, target = batch()
    taus = dynamic_temperature(flsw_weights(student, teacher, 1), 4, 20, 1, 12)
    shifted = probability_shift(teacher, target)
    output = Criterion(0.1, 0.9, DYNAMIC, ProbabilityShift())(student, teacher, target)
    assert torch.equal(output.temperature, taus)
    torch.testing.assert_close(output.total, standard_kd(student, shifted, target, taus))


def test_smoothed_targets_are_not_divided_by_the_temperature():
    student, teacher, target = batch()
    taus = DYNAMIC(student, teacher).tau
    probs = label_smoothing_targets((teacher / taus[:, None]).softmax(dim=1), teacher, target, 0.1)
    per_class = probs * (probs.log() - (student / taus[:, None]).log_softmax(dim=1))
    output = Criterion(0.1, 0.9, DYNAMIC, LabelSmoothing(0.1))(student, teacher, target)
    torch.testing.assert_close(output.loss_kd, (taus**2 * per_class.sum(dim=1)).mean())


@every_combination
def test_total_is_the_weighted_sum_of_its_detached_parts(temperature, adjustment):
    student, teacher, target = batch()
    output = Criterion(0.3, 0.6, temperature, adjustment)(student.requires_grad_(), teacher, target)
    torch.testing.assert_close(output.total, 0.3 * output.loss_ce + 0.6 * output.loss_kd)
    assert output.total.requires_grad
    assert not any(part.requires_grad for part in output.parts.values())


@every_combination
def test_gradient_is_the_derivative_at_fixed_temperatures(temperature, adjustment):
    student, teacher, target = batch(4, 3, scale=1, dtype=torch.float64)
    taus = temperature(student, teacher).tau
    criterion = Criterion(0.1, 0.9, temperature, adjustment)

    class Frozen(ConstantTemperature):
        def __call__(self, *_):
            return temperature(student, teacher)

    frozen = Criterion(0.1, 0.9, Frozen(4), adjustment)
    values = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: frozen(v, teacher, target).total, values)
    (of_frozen,) = torch.autograd.grad(frozen(values, teacher, target).total, values)
    (of_criterion,) = torch.autograd.grad(criterion(values, teacher, target).total, values)
    assert torch.equal(criterion(values, teacher, target).temperature, taus)
    assert torch.equal(of_criterion, of_frozen)


@every_combination
def test_teacher_gets_no_gradient_and_arguments_are_not_changed(temperature, adjustment):
    arguments = batch()
    before = [argument.clone() for argument in arguments]
    student, teacher, target = arguments
    Criterion(0.1, 0.9, temperature, adjustment)(
        student.requires_grad_(), teacher.requires_grad_(), target
    ).total.backward()
    assert student.grad is not None
    assert teacher.grad is None
    assert all(map(torch.equal, arguments, before))


@every_combination
def test_order_of_samples_and_classes_does_not_matter(temperature, adjustment):
    student, teacher, target = batch()
    criterion = Criterion(0.1, 0.9, temperature, adjustment)
    expected = criterion(student, teacher, target).total
    samples, classes = torch.randperm(16), torch.randperm(5)
    new_label = classes.argsort()[target]
    torch.testing.assert_close(criterion(student[samples], teacher[samples], target[samples]).total, expected)
    torch.testing.assert_close(criterion(student[:, classes], teacher[:, classes], new_label).total, expected)


@every_combination
@pytest.mark.parametrize(("size", "classes"), [(16, 5), (1, 5), (4, 1)])
@pytest.mark.parametrize("scale", [1, 1e4])
@pytest.mark.parametrize("teacher_is", ["random", "right", "wrong", "tied"])
def test_extremes_have_finite_loss_and_gradient(temperature, adjustment, size, classes, scale, teacher_is):
    student, teacher, target = batch(size, classes)
    student, teacher = (values.sign() * scale for values in (student, teacher))
    if teacher_is == "right":
        target = teacher.argmax(dim=1)
    elif teacher_is == "wrong":
        target = teacher.argmin(dim=1)
    elif teacher_is == "tied":
        teacher = torch.full_like(teacher, scale)
    student.requires_grad_()
    total = Criterion(0.1, 0.9, temperature, adjustment)(student, teacher, target).total
    total.backward()
    assert total.isfinite()
    assert student.grad.isfinite().all()


@every_combination
@pytest.mark.parametrize("autocast", [True, False])
def test_loss_of_bf16_logits_is_float32(temperature, adjustment, autocast):
    student, teacher, target = batch()
    student, teacher = student.bfloat16(), teacher.bfloat16()
    criterion = Criterion(0.1, 0.9, temperature, adjustment)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = criterion(student, teacher, target)
    assert output.total.dtype == torch.float32
    assert torch.equal(output.total, criterion(student.float(), teacher.float(), target).total)


@every_combination
def test_no_call_waits_for_values_on_the_device(temperature, adjustment):
    # Meta tensors have no values, so reading one back raises.
    student, teacher, target = (values.to("meta") for values in batch())
    output = Criterion(0.1, 0.9, temperature, adjustment)(student, teacher, target)
    assert output.total.shape == ()
    assert all(part.shape == () for part in output.parts.values())


class Half(Workers):
    """One of two processes with half of the batch each, told the mean of the whole."""

    count = 2

    def __init__(self, mean):
        self._mean = mean

    def mean(self, values):
        return self._mean


def test_halves_with_the_global_mean_average_to_the_whole():
    student, teacher, target = batch()
    criterion = Criterion(0.1, 0.9, DYNAMIC, ProbabilityShift())
    global_mean = flsw_weights(student, teacher, 1).mean()
    halves = [
        criterion(student[half], teacher[half], target[half], workers=Half(global_mean))
        for half in (slice(0, 8), slice(8, 16))
    ]
    whole = criterion(student, teacher, target)
    assert torch.equal(torch.cat([half.temperature for half in halves]), whole.temperature)
    torch.testing.assert_close((halves[0].total + halves[1].total) / 2, whole.total)


def test_parts_are_named_as_logged_and_count_this_batch():
    student, teacher, target = batch()
    output = Criterion(0.1, 0.9, DYNAMIC, ProbabilityShift())(student, teacher, target)
    taus = output.temperature.tolist()
    wrong = sum(row[label] < max(row) for row, label in zip(teacher.tolist(), target.tolist(), strict=True))
    assert 0 < wrong < 16
    assert 1 in taus
    assert 12 in taus
    agreeing = [
        row.index(max(row)) == other.index(max(other))
        for row, other in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert 0 < sum(agreeing) < 16
    parts = {name: part.item() for name, part in output.parts.items()}
    assert parts == pytest.approx(
        {
            "loss_ce": output.loss_ce.item(),
            "loss_kd": output.loss_kd.item(),
            "agreement": 100 * sum(agreeing) / 16,
            "temperature/mean": sum(taus) / 16,
            "temperature/min": 1,
            "temperature/max": 12,
            "temperature/clamped_low": taus.count(1) / 16,
            "temperature/clamped_high": taus.count(12) / 16,
            "adjustment/wrong": wrong,
            "adjustment/adjusted": wrong,
        }
    )


def test_without_a_rule_wrong_samples_are_counted_and_none_is_adjusted():
    parts = Criterion(0.1, 0.9, CONSTANT, NoAdjustment())(*batch()).parts
    assert parts["adjustment/wrong"] > 0
    assert parts["adjustment/adjusted"] == 0
    assert parts["temperature/clamped_low"] == parts["temperature/clamped_high"] == 0


def test_without_a_teacher_the_loss_is_the_cross_entropy():
    student, _, target = batch()
    criterion = Criterion(0.5, 0, DYNAMIC, ProbabilityShift())
    output = criterion(student.requires_grad_(), None, target)
    assert not criterion.needs_teacher
    torch.testing.assert_close(output.total, 0.5 * functional.cross_entropy(student, target))
    assert output.total.requires_grad
    assert output.loss_kd == 0
    assert set(output.parts) == {"loss_ce", "loss_kd"}


def test_a_missing_teacher_is_refused():
    student, _, target = batch()
    criterion = Criterion(0.1, 0.9, CONSTANT, NoAdjustment())
    assert criterion.needs_teacher
    with pytest.raises(ValueError, match=r"logits_teacher is None, but kd_weight is 0\.9"):
        criterion(student, None, target)


def test_shapes_that_do_not_fit_are_refused():
    student, teacher, target = batch()
    criterion = Criterion(0.1, 0.9, CONSTANT, NoAdjustment())
    with pytest.raises(ValueError, match=r"\[16, 5\] and \[16, 4\]"):
        criterion(student, teacher[:, :4], target)
    with pytest.raises(ValueError, match=r"target must have shape \[B\].* got \[15\] and \[16, 5\]"):
        criterion(student, teacher, target[:15])


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["ce_weight", "kd_weight"])
def test_weights_must_be_finite_and_not_negative(name, weight):
    weights = {"ce_weight": 0.1, "kd_weight": 0.9, name: weight}
    with pytest.raises(ValueError, match=f"{name} must be finite and >= 0, got {weight}"):
        Criterion(**weights, temperature=CONSTANT, adjustment=NoAdjustment())


@pytest.mark.parametrize("loss", [SoftTargets(), DecoupledKD(), Correlation()])
@pytest.mark.parametrize("adjustment", [NoAdjustment(), ProbabilityShift(), LabelSmoothing(0.1)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_no_logit_that_is_not_finite_gives_a_finite_loss(loss, adjustment, value, side):
    logits = {"student": torch.zeros(2, 3), "teacher": torch.zeros(2, 3)}
    logits[side][0, 2] = value  # off the label, where a probability of 0 costs nothing
    criterion = Criterion(0.5, 0.5, ConstantTemperature(4), adjustment, loss)
    target = torch.tensor([0, 1])
    assert criterion(logits["student"], logits["teacher"], target).total.isnan()
    alone = Criterion(1.0, 0.0, ConstantTemperature(4), adjustment)
    assert side == "teacher" or alone(logits["student"], None, target).total.isnan()


def test_the_warm_up_raises_the_weight_of_the_distillation_loss_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=generator) for _ in range(2))
    target = torch.arange(6) % 4
    criterion = Criterion(0.3, 0.7, ConstantTemperature(4.0), NoAdjustment(), warmup_epochs=8.0)
    for progress, share in ((0.0, 0.0), (2.0, 0.25), (8.0, 1.0), (100.0, 1.0)):
        seen = criterion(student, teacher, target, progress=progress)
        torch.testing.assert_close(seen.total, 0.3 * seen.loss_ce + 0.7 * share * seen.loss_kd)
    assert torch.equal(
        criterion(student, teacher, target).total, criterion(student, teacher, target, progress=8.0).total
    )
    with pytest.raises(ValueError, match="warmup_epochs"):
        Criterion(0.3, 0.7, ConstantTemperature(4.0), NoAdjustment(), warmup_epochs=-1.0)
