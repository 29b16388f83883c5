import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.catalog import TEMPERATURES
from orchestrator.distillation.temperature import (
    ConstantTemperature,
    CWSMTemperature,
    FLSWTemperature,
    Temperature,
    cwsm_weights,
    dynamic_temperature,
    flsw_weights,
)

DYNAMIC = [
    FLSWTemperature(4, 20, 1, 1, 12),
    FLSWTemperature(4, 5, 2, 1, 12, normalize="softmax"),
    FLSWTemperature(4, 3, 0.5, 1, 12, divide_by_mean=True),
    CWSMTemperature(4, 2, 1, 12),
    CWSMTemperature(4, 2, 1, 12, divide_by_mean=True),
]
ALL = [ConstantTemperature(4), *DYNAMIC]


def random_logits(batch=8, classes=5, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, batch, classes, generator=generator)


def slow_softmax(row):
    top = max(row)
    exps = [math.exp(value - top) for value in row]
    return [value / sum(exps) for value in exps]


def slow_unit(row):
    norm = math.sqrt(sum(value * value for value in row))
    return [value / norm for value in row]


def slow_flsw(student, teacher, gamma, normalize):
    over_classes = {"l2": slow_unit, "softmax": slow_softmax}[normalize]
    weights = []
    for v, t in zip(student.tolist(), teacher.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(over_classes(v), over_classes(t), strict=True))
        weights.append(max(0.0, 1 - dot) ** gamma)
    return torch.tensor(weights)


def slow_cwsm(student):
    return torch.tensor([1 / max(slow_softmax(row)) for row in student.tolist()])


def slow_temperature(weights, base, beta, low, high):
    mean = sum(weights.tolist()) / len(weights)
    return torch.tensor([min(max(base + beta * (mean - w), low), high) for w in weights.tolist()])


@pytest.mark.parametrize("normalize", ["l2", "softmax"])
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_flsw_weights_follow_the_equation(normalize, gamma):
    student, teacher = random_logits()
    expected = slow_flsw(student, teacher, gamma, normalize)
    torch.testing.assert_close(flsw_weights(student, teacher, gamma, normalize), expected)


def test_cwsm_weights_follow_the_equation():
    student, _ = random_logits()
    torch.testing.assert_close(cwsm_weights(student), slow_cwsm(student))


def test_dynamic_temperature_follows_the_equation():
    weights = torch.tensor([0.0, 0.4, 0.5, 0.6, 3.0])
    expected = slow_temperature(weights, 4, 5, 1, 8)
    assert expected.min() == 1  # the example reaches both bounds
    assert expected.max() == 8
    torch.testing.assert_close(dynamic_temperature(weights, 4, 5, 1, 8), expected)


@pytest.mark.parametrize("mean", [0.7, torch.tensor(0.7)])
def test_a_given_mean_replaces_the_batch_mean(mean):
    taus = dynamic_temperature(torch.tensor([0.5, 0.8]), 4, 10, 1, 12, mean=mean)
    torch.testing.assert_close(taus, torch.tensor([6.0, 3.0]))


@pytest.mark.parametrize(
    ("temperature", "weights"),
    [
        (FLSWTemperature(4, 20, 1.5, 1, 12), lambda v, t: slow_flsw(v, t, 1.5, "l2")),
        (FLSWTemperature(4, 20, 1, 1, 12, "softmax"), lambda v, t: slow_flsw(v, t, 1, "softmax")),
        (CWSMTemperature(4, 20, 1, 12), lambda v, t: slow_cwsm(v)),
    ],
)
def test_dtd_joins_weights_and_temperature(temperature, weights):
    student, teacher = random_logits(scale=1)
    expected = slow_temperature(weights(student, teacher), 4, 20, 1, 12)
    sample = temperature(student, teacher)
    torch.testing.assert_close(sample.tau, expected)
    assert sample.clamped_low.tolist() == (expected == 1).tolist()
    assert sample.clamped_high.tolist() == (expected == 12).tolist()


@pytest.mark.parametrize(
    ("temperature", "weights"),
    [
        (FLSWTemperature(4, 2, 1, 1, 12, divide_by_mean=True), lambda v, t: slow_flsw(v, t, 1, "l2")),
        (CWSMTemperature(4, 2, 1, 12, divide_by_mean=True), lambda v, t: slow_cwsm(v)),
    ],
)
def test_weights_can_be_divided_by_their_mean(temperature, weights):
    student, teacher = random_logits()
    raw = weights(student, teacher)
    torch.testing.assert_close(temperature(student, teacher).tau, slow_temperature(raw / raw.mean(), 4, 2, 1, 12))


def test_all_zero_weights_give_the_base_when_divided_by_their_mean():
    class NoConfusion(FLSWTemperature):
        def weights(self, logits_student, logits_teacher):
            return logits_student.new_zeros(len(logits_student))

    taus = NoConfusion(4, 20, 1, 1, 12, divide_by_mean=True)(*random_logits()).tau
    assert torch.equal(taus, torch.full((8,), 4.0))


@pytest.mark.parametrize("divide_by_mean", [False, True])
@pytest.mark.parametrize(("beta", "gamma"), [(0, 1), (20, 0)], ids=["beta is 0", "gamma is 0"])
def test_without_effect_every_temperature_is_exactly_the_base(beta, gamma, divide_by_mean):
    base = 3.3  # not a binary fraction; on the lower bound without being clamped to it
    sample = FLSWTemperature(base, beta, gamma, base, 12, divide_by_mean=divide_by_mean)(*random_logits())
    assert torch.equal(sample.tau, torch.full((8,), base))
    assert not sample.clamped_low.any()
    assert not sample.clamped_high.any()


def test_constant_temperature_is_its_base_and_never_clamped():
    temperature = ConstantTemperature(0.1)
    sample = temperature(*random_logits())
    assert torch.equal(sample.tau, torch.full((8,), 0.1))
    assert temperature.bounds == (0.1, 0.1)
    assert not (sample.clamped_low | sample.clamped_high).any()


@pytest.mark.parametrize("temperature", DYNAMIC)
def test_halves_with_the_global_mean_give_the_temperatures_of_the_whole(temperature):
    student, teacher = random_logits()
    whole = temperature(student, teacher).tau
    global_weights = temperature.weights(student, teacher).mean()
    halves = [
        temperature(student[half], teacher[half], lambda weights: global_weights).tau
        for half in (slice(0, 4), slice(4, 8))
    ]
    assert torch.equal(torch.cat(halves), whole)
    alone = torch.cat([temperature(student[half], teacher[half]).tau for half in (slice(0, 4), slice(4, 8))])
    assert not torch.allclose(alone, whole)


def test_bounds_hold_where_the_formula_would_be_negative():
    student, teacher = random_logits()
    teacher[0] = -student[0]
    weights = flsw_weights(student, teacher, 1)
    assert (4 + 100 * (weights.mean() - weights)).min() < 0
    sample = FLSWTemperature(4, 100, 1, 1, 12)(student, teacher)
    assert sample.tau.min() == 1
    assert sample.tau.max() == 12
    assert sample.clamped_low[0]


logits = st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=2, max_size=6).map(
    torch.tensor
)


@settings(deadline=None)
@given(values=logits, beta=st.floats(-1e6, 1e6), which=st.sampled_from(["flsw", "steep", "softmax", "cwsm"]))
def test_any_logits_and_beta_stay_within_the_bounds(values, beta, which):
    temperature = {
        "flsw": lambda: FLSWTemperature(4, beta, 0.5, 1, 12),
        "steep": lambda: FLSWTemperature(4, beta, 16, 1, 12),
        "softmax": lambda: FLSWTemperature(4, beta, 2, 1, 12, normalize="softmax"),
        "cwsm": lambda: CWSMTemperature(4, beta, 1, 12, divide_by_mean=True),
    }[which]()
    taus = temperature(values, values.flip(0)).tau
    assert ((taus >= 1) & (taus <= 12)).all()


@settings(deadline=None)
@given(values=logits, gamma=st.floats(0, 4))
def test_weights_lie_in_their_documented_range(values, gamma):
    for normalize, top in (("l2", 2**gamma), ("softmax", 1)):
        for other in (values, -values, values.flip(0)):
            weights = flsw_weights(values, other, gamma, normalize)
            assert ((weights >= 0) & (weights <= top * (1 + 1e-5))).all()
    weights = cwsm_weights(values)
    assert ((weights >= 1) & (weights <= 3 * (1 + 1e-5))).all()


def test_equal_directions_have_weight_zero_not_nan():
    student, _ = random_logits(batch=200)
    weights = flsw_weights(student, 7 * student, 0.5)
    torch.testing.assert_close(weights, torch.zeros(200), atol=1e-3, rtol=0)


@pytest.mark.parametrize("temperature", ALL)
@pytest.mark.parametrize(("batch", "classes"), [(1, 5), (4, 1), (1, 1)])
def test_smallest_batches_get_finite_temperatures(temperature, batch, classes):
    taus = temperature(*random_logits(batch, classes)).tau
    assert taus.shape == (batch,)
    assert taus.isfinite().all()
    if batch == 1:
        torch.testing.assert_close(taus, torch.tensor([4.0]))


@pytest.mark.parametrize("temperature", ALL)
def test_order_of_samples_and_classes_does_not_matter(temperature):
    student, teacher = random_logits()
    samples, classes = torch.randperm(8), torch.randperm(5)
    expected = temperature(student, teacher).tau
    torch.testing.assert_close(temperature(student[samples], teacher[samples]).tau, expected[samples])
    torch.testing.assert_close(temperature(student[:, classes], teacher[:, classes]).tau, expected)


@pytest.mark.parametrize("temperature", ALL)
def test_temperatures_carry_no_gradient_and_change_no_argument(temperature):
    student, teacher = (values.requires_grad_() for values in random_logits())
    before = student.detach().clone(), teacher.detach().clone()
    assert not temperature(student, teacher).tau.requires_grad
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


def test_weights_carry_no_gradient():
    student, teacher = (values.requires_grad_() for values in random_logits())
    assert not flsw_weights(student, teacher, 1).requires_grad
    assert not cwsm_weights(student).requires_grad
    assert not dynamic_temperature(student[:, 0], 4, 1, 1, 12).requires_grad


@pytest.mark.parametrize("temperature", ALL)
@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_precision_is_float32_at_least(temperature, given_dtype, expected):
    student, teacher = (values.to(given_dtype) for values in random_logits())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        taus = temperature(student, teacher).tau
    assert taus.dtype == expected
    torch.testing.assert_close(taus, temperature(student.to(expected), teacher.to(expected)).tau)


@pytest.mark.parametrize(("low", "base", "high"), [(0, 4, 12), (5, 4, 12), (1, 4, 3), (1, 4, math.inf)])
def test_bounds_out_of_order_are_refused(low, base, high):
    message = rf"min={low}, base={base}, max={high}"
    with pytest.raises(ValueError, match=message):
        FLSWTemperature(base, 1, 1, low, high)
    with pytest.raises(ValueError, match=message):
        CWSMTemperature(base, 1, low, high)
    with pytest.raises(ValueError, match=message):
        dynamic_temperature(torch.ones(2), base, 1, low, high)


@pytest.mark.parametrize("base", [0, -1, 1e-40, 1001, math.nan, math.inf])
def test_constant_temperature_must_be_within_bounds(base):
    with pytest.raises(ValueError, match=r"0\.001 <= min <= base <= max <= 1000"):
        ConstantTemperature(base)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": -1}, "gamma must be 0 to 16, got -1"),
        ({"gamma": 500}, "gamma must be 0 to 16, got 500"),
        ({"gamma": math.nan}, "gamma must be 0 to 16, got nan"),
        ({"beta": math.inf}, "beta must be -1000000 to 1000000, got inf"),
        ({"beta": -1e300}, "beta must be -1000000 to 1000000"),
        ({"normalize": "l1"}, "normalize must be 'l2' or 'softmax', got 'l1'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FLSWTemperature(**{"base": 4, "beta": 1, "gamma": 1, "min": 1, "max": 12, **settings})


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\[8, 5\] and \[8, 6\]"):
        flsw_weights(torch.ones(8, 5), torch.ones(8, 6), 1)
    with pytest.raises(ValueError, match=r"logits_student must have shape \[B, C\], got \[8\]"):
        cwsm_weights(torch.ones(8))


def test_the_bounds_hold_for_an_extension():
    class Wild(Temperature):
        def unclamped(self, logits_student, logits_teacher, global_mean):
            return torch.tensor([-5.0, 4.0, math.inf])

    sample = Wild(4, 1, 12)(torch.ones(3, 2), torch.ones(3, 2))
    assert sample.tau.tolist() == [1, 4, 12]
    assert sample.clamped_low.tolist() == [True, False, False]
    assert sample.clamped_high.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("name", "implementation"),
    [("constant", ConstantTemperature), ("flsw", FLSWTemperature), ("cwsm", CWSMTemperature)],
)
def test_the_catalog_finds_the_temperatures(name, implementation):
    assert TEMPERATURES[name] is implementation
