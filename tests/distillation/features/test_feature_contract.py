"""What every feature loss keeps, whatever its equation."""

import copy

import pytest
import torch
from feature_cases import CASES, METHODS, Case, batch
from torch import Tensor

from orchestrator.catalog import FEATURE_LOSSES
from orchestrator.distillation.features import FeatureTerm, Setup

each_case = pytest.mark.parametrize("case", CASES, ids=str)
LAYERS = ((3, 4, 4), (4, 2, 2))


def test_every_built_in_loss_is_tested_here() -> None:
    assert set(METHODS) == set(FEATURE_LOSSES)


@each_case
def test_gradients_of_features_and_connectors(case: Case) -> None:
    loss = case.make()
    # What a loss keeps from its first batch is a constant of those that follow.
    loss(*case.features(2, seed=9), batch([1, 2]))
    student, teacher = case.features(3)
    parameters = {name: value.detach().requires_grad_() for name, value in loss.named_parameters()}

    def value(*inputs: Tensor) -> Tensor:
        # A copy each time, as some losses remember the batches they saw.
        given = dict(zip(parameters, inputs[len(student) :], strict=True))
        features = list(inputs[: len(student)])
        return torch.func.functional_call(copy.deepcopy(loss), given, (features, teacher, batch([4, 0, 11])))

    inputs = [features.requires_grad_() for features in student]
    assert torch.autograd.gradcheck(
        value, (*inputs, *parameters.values()), atol=1e-4, fast_mode=case.method == "review"
    )


@each_case
def test_the_order_of_the_batch_does_not_matter(case: Case) -> None:
    student, teacher = case.features(6)
    indices = [3, 14, 1, 7, 10, 19]
    order = [2, 5, 0, 3, 1, 4]
    straight = case.make()(student, teacher, batch(indices))
    shuffled = case.make()(
        [s[order] for s in student], [t[order] for t in teacher], batch([indices[place] for place in order])
    )
    torch.testing.assert_close(shuffled, straight)


@each_case
@pytest.mark.parametrize("scale", [1e4, 1e-6, 0.0])
@pytest.mark.parametrize("size", [5, 1])
def test_extreme_features_give_finite_losses_and_gradients(case: Case, scale: float, size: int) -> None:
    loss = case.make(torch.float32)
    student, teacher = case.features(size, torch.float32)
    student = [(scale * s).requires_grad_() for s in student]
    loss(student, [scale * t for t in teacher], batch(range(size))).backward()
    _assert_finite(loss, student)


@each_case
def test_equal_samples_give_finite_losses_and_gradients(case: Case) -> None:
    loss = case.make(torch.float32)
    student, teacher = case.features(1, torch.float32)
    student = [s.expand(4, *s.shape[1:]).clone().requires_grad_() for s in student]
    teacher = [torch.cat([t.expand(3, *t.shape[1:]), t + 1]) for t in teacher]
    loss(student, teacher, batch(range(4))).backward()
    _assert_finite(loss, student)


def _assert_finite(loss: torch.nn.Module, student: list[Tensor]) -> None:
    for values in (*student, *loss.parameters()):
        assert values.grad is not None
        assert values.grad.isfinite().all()


@pytest.mark.parametrize("method", ["sp", "rkd", "pkt"])
def test_a_batch_of_one_has_nothing_to_compare(method: str) -> None:
    case = METHODS[method]
    assert case.make()(*case.features(1), batch([0])) == 0


@pytest.mark.parametrize("method", ["attention_transfer", "nst", "sp", "rkd", "pkt"])
def test_equal_features_cost_nothing(method: str) -> None:
    case = Case(method, student=LAYERS, teacher=LAYERS)
    student, _ = case.features(5)
    assert case.make()(student, student, batch(range(5))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method", ["attention_transfer", "nst", "sp", "rkd", "pkt"])
def test_the_scale_of_features_does_not_matter(method: str) -> None:
    case = METHODS[method]
    student, teacher = case.features(5)
    loss = case.make()
    scaled = loss([7 * s for s in student], [t / 3 for t in teacher], batch(range(5)))
    torch.testing.assert_close(scaled, loss(student, teacher, batch(range(5))), rtol=1e-5, atol=1e-12)


def test_a_fitting_regressor_costs_nothing() -> None:
    case = Case("fitnet", student=LAYERS, teacher=LAYERS)
    loss = case.make()
    with torch.no_grad():
        for regressor in loss.regressors:
            regressor.weight.copy_(torch.eye(len(regressor.weight))[:, :, None, None])
    student, _ = case.features(5)
    assert loss(student, student, batch(range(5))) == 0


def test_vid_is_least_where_the_mean_is_the_teachers() -> None:
    case = Case("vid", student=LAYERS, teacher=LAYERS, options={"initial_variance": 2.0})
    loss = case.make()
    with torch.no_grad():
        for layer in (layer for mean in loss.means for layer in mean[::2]):
            layer.weight.copy_(torch.eye(len(layer.weight))[:, :, None, None])
    student = [s.abs() for s in case.features(5)[0]]
    assert loss(student, student, batch(range(5))).item() == pytest.approx(2 * torch.tensor(2.0).log().item() / 2)


@each_case
def test_the_teacher_gets_no_gradient(case: Case) -> None:
    student, teacher = case.features(4)
    teacher = [t.requires_grad_() for t in teacher]
    case.make()([s.requires_grad_() for s in student], teacher, batch(range(4))).backward()
    assert all(t.grad is None for t in teacher)
    assert all(s.grad is not None for s in student)


@each_case
def test_it_computes_in_float32_under_autocast(case: Case) -> None:
    student, teacher = ([f.bfloat16() for f in features] for features in case.features(4))
    expected = case.make(torch.float32)([s.float() for s in student], [t.float() for t in teacher], batch(range(4)))
    with torch.autocast("cpu", torch.bfloat16):
        found = case.make(torch.float32)(student, teacher, batch(range(4)))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@each_case
def test_other_shapes_than_those_of_the_setup_are_refused(case: Case) -> None:
    student, teacher = case.features(4)
    with pytest.raises(ValueError, match="was built for features"):
        case.make()([s[:, 1:] for s in student], teacher, batch(range(4)))


@pytest.mark.parametrize("method", ["fitnet", "attention_transfer", "nst", "sp", "rkd", "pkt", "vid", "review"])
def test_sizes_and_channels_may_differ(method: str) -> None:
    for student, teacher in ((((2, 8, 6),), ((5, 3, 4),)), (((4, 2, 2),), ((2, 5, 5),))):
        case = Case(method, student=student, teacher=teacher)
        assert case.make()(*case.features(3), batch(range(3))).isfinite()


@pytest.mark.parametrize("method", ["attention_transfer", "nst"])
def test_methods_that_look_at_places_refuse_vectors(method: str) -> None:
    with pytest.raises(ValueError, match=r"compares places in maps .* \(3,\)"):
        Case(method, student=((3,),), teacher=((3, 2, 2),)).make()


def test_layers_must_pair_and_be_maps_or_vectors() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        Setup([(1,), (2,)], [(1,)])
    with pytest.raises(ValueError, match="got 0 and 0"):
        Setup([], [])
    with pytest.raises(ValueError, match=r"got \(3, 4\)"):
        Setup([(3, 4)], [(3,)])


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("attention_transfer", {"power": 0.5}, "power must be 1 to 4"),
        ("rkd", {"distance_weight": -1.0}, "distance_weight must be finite and >= 0"),
        ("rkd", {"distance_weight": 0.0, "angle_weight": 0.0}, "must not both be 0"),
        ("vid", {"initial_variance": 0.0}, "initial_variance must be finite"),
        ("review", {"norm": "layer"}, "norm must be 'batch' or 'group'"),
    ],
)
def test_options_out_of_range(method: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Case(method, options=options).make()


def test_a_weight_rises_over_its_warm_up() -> None:
    term = FeatureTerm("sp", METHODS["sp"].make(), 3.0, ("a",), ("b",), warmup_epochs=4.0)
    assert [term.weight_at(progress) for progress in (0.0, 1.0, 4.0, 9.0)] == [0.0, 0.75, 3.0, 3.0]
    assert FeatureTerm("sp", term.loss, 3.0, ("a",), ("b",)).weight_at(0.0) == 3.0
