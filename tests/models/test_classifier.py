import pytest
import torch
from torch import nn

from orchestrator.models import build_model
from orchestrator.models.average import AveragedTeacher
from orchestrator.models.classifier import Classifier, exact_classifier


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "shufflenet_v2", "torchvision/mobilenet_v3_small"])
def test_logits_are_float32_under_autocast(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, num_classes=200).eval()
    images = torch.randn(16, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        averaged = AveragedTeacher([model], "logits")(images)
    assert logits.dtype == torch.float32
    # bf16 has about 100 values in the range of one row's logits, so some of 200 would be equal.
    assert all(len(row.unique()) == 200 for row in logits)
    assert torch.equal(averaged, logits)


def test_weights_names_and_draws_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model.classifier_layer = "1"
    layer, state = model[1], torch.get_rng_state()
    exact_classifier(model)
    assert type(model[1]) is Classifier
    assert model[1].weight is layer.weight
    assert model[1].bias is layer.bias
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    assert torch.equal(torch.get_rng_state(), state)
    images = torch.randn(5, 4)
    assert torch.equal(model(images), layer(images))
    assert model.double()(images.double()).dtype == torch.float64


@pytest.mark.parametrize("layer", [None, "0"])
def test_a_model_without_a_linear_classifier_stays(layer: str | None) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    if layer is not None:
        model.classifier_layer = layer
    exact_classifier(model)
    assert type(model[0]) is nn.Conv2d
