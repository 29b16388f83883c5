import gc
import weakref

import pytest
import torch
from torch import nn

from orchestrator.errors import RegistryError
from orchestrator.models import build_model
from orchestrator.models.taps import EMBEDDING, Tap, feature_shapes, stage_layers


@pytest.fixture
def model() -> nn.Module:
    return build_model("resnet14", num_classes=5, in_channels=1, width=0.25, norm="group")


IMAGES = torch.randn(2, 1, 8, 8)


def test_it_gives_what_the_layers_gave(model: nn.Module) -> None:
    logits, features = Tap(model, ["stem", *model.feature_layers, EMBEDDING])(IMAGES)
    assert torch.equal(logits, model(IMAGES))
    assert torch.equal(features["stem"], model.stem(IMAGES))
    assert [tuple(features[layer].shape) for layer in model.feature_layers] == [
        (2, 4, 8, 8),
        (2, 8, 4, 4),
        (2, 16, 2, 2),
    ]
    assert torch.equal(model.head(features[EMBEDDING]), logits)


def test_without_layers_it_is_the_model(model: nn.Module) -> None:
    logits, features = Tap(model, [])(IMAGES)
    assert torch.equal(logits, model(IMAGES))
    assert features == {}


def test_gradients_flow_through_the_features(model: nn.Module) -> None:
    _, features = Tap(model, [model.feature_layers[0]])(IMAGES)
    features[model.feature_layers[0]].sum().backward()
    assert model.stem[0].weight.grad is not None
    assert model.head.weight.grad is None


def test_no_gradient_where_the_call_has_none(model: nn.Module) -> None:
    with torch.no_grad():
        _, features = Tap(model, stage_layers(model))(IMAGES)
    assert not any(values.requires_grad for values in features.values())


def test_under_autocast_features_have_the_layers_dtype(model: nn.Module) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        _, features = Tap(model, ["stem.0"])(IMAGES)
    assert features["stem.0"].dtype == torch.bfloat16


def test_nothing_stays_behind(model: nn.Module) -> None:
    tap = Tap(model, [*stage_layers(model), EMBEDDING])
    _, features = tap(IMAGES)
    kept = [weakref.ref(values) for values in features.values()]
    del features, _
    gc.collect()
    assert all(reference() is None for reference in kept)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_go_when_the_model_fails(model: nn.Module) -> None:
    with pytest.raises(RuntimeError):
        Tap(model, stage_layers(model))(torch.randn(2, 3, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())


def test_an_unknown_layer_is_refused_with_the_nearest_and_all(model: nn.Module) -> None:
    with pytest.raises(RegistryError, match=r"ResNet has no layer 'stages.9'; did you mean 'stages.\d'") as error:
        Tap(model, ["stages.9"])
    assert error.value.hint is not None
    assert f"ends of its stages: {', '.join(model.feature_layers)}, embedding" in error.value.hint
    assert "stages.0.first.0" in error.value.hint


class Plain(nn.Module):
    """A network from elsewhere, which says nothing of itself; one layer gives two tensors, one never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Flatten()
        self.recurrent = nn.GRU(4, 3, batch_first=True)
        self.idle = nn.Linear(1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states, _ = self.recurrent(self.body(images)[:, None])
        return states[:, 0]


@pytest.mark.parametrize("layer", ["recurrent", "idle"])
def test_a_layer_without_a_tensor_is_an_error(layer: str) -> None:
    with pytest.raises(ValueError, match=f"layer '{layer}' of Plain gave no tensor"):
        Tap(Plain(), [layer])(torch.zeros(2, 1, 2, 2))


def test_a_model_that_names_no_stages_or_classifier_says_so() -> None:
    with pytest.raises(RegistryError, match="Plain does not say where its stages end"):
        stage_layers(Plain())
    with pytest.raises(RegistryError, match="Plain does not say which layer is its classifier"):
        Tap(Plain(), [EMBEDDING])
    assert Tap(Plain(), ["body"])(torch.zeros(2, 1, 2, 2))[1]["body"].shape == (2, 4)


def test_shapes_are_found_without_a_trace() -> None:
    model = build_model("resnet8", num_classes=5, in_channels=1, width=0.25)
    model.stages[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shapes = feature_shapes(model, [*stage_layers(model), EMBEDDING], torch.zeros(1, 1, 8, 8))
    assert list(shapes.values()) == [(4, 8, 8), (8, 4, 4), (16, 2, 2), (16,)]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not model.stages[0].training
