import copy

import pytest
import torch
from torch import Tensor, nn

from orchestrator.models import build_model, folding
from orchestrator.models.average import AveragedTeacher
from orchestrator.models.folding import folded
from orchestrator.models.taps import EMBEDDING, Tap, stage_layers

EXAMPLE = torch.zeros(1, 3, 32, 32)
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "LARGE", 0)


def settled(model: nn.Module) -> nn.Module:
    """`model` with norms as after a training: nothing is 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for norm in norms(model):
        for value, low, high in (
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.5, 0.5),
            (norm.running_mean, -0.5, 0.5),
            (norm.running_var, 0.5, 2),
        ):
            nn.init.uniform_(value, low, high, generator=generator)
    return model.eval()


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, NORMS)]


def network(name: str, norm: str = "batch", **settings: object) -> nn.Module:
    torch.manual_seed(0)
    return settled(build_model(name, num_classes=7, norm=norm, **settings))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-6 * theirs.abs().max().item())


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet14", 0),
        ("vgg8", 0),
        ("mobilenet_v2", 0),
        ("shufflenet_v1", 0),
        ("shufflenet_v2", 0),
        # The first norm of each block reads a sum; that of the first block reads the stem alone where no identity does.
        ("wrn_16_1", 7),
        ("wrn_16_2", 6),
        ("torchvision/resnet18", 0),
        ("torchvision/mobilenet_v3_small", 0),
    ],
)
def test_a_folded_network_is_the_same_function(name: str, left: int) -> None:
    model = network(name)
    before = copy.deepcopy(model.state_dict())
    layers = [*stage_layers(model), EMBEDDING]
    frozen = folded(model, EXAMPLE, layers)
    assert len(norms(frozen)) == left < len(norms(model))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits, features = Tap(frozen, layers)(images)
        expected, expected_features = Tap(model, layers)(images)
    assert_same(logits, expected)
    for layer in layers:
        assert_same(features[layer], expected_features[layer])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("norm", ["sync_batch", "group"])
def test_other_norms_are_folded_where_they_can_be(norm: str) -> None:
    model, images = network("resnet8", norm), torch.randn(2, 3, 32, 32)
    frozen = folded(model, EXAMPLE)
    assert norms(frozen) == []
    with torch.no_grad():
        assert_same(frozen(images), model(images))


def test_an_average_of_networks_is_folded_in_each() -> None:
    model, images = (
        AveragedTeacher([network("resnet8"), network("vgg8")], "probabilities").eval(),
        torch.ones(1, 3, 32, 32),
    )
    frozen = folded(model, EXAMPLE)
    assert norms(frozen) == []
    with torch.no_grad():
        assert_same(frozen(images), model(images))


def test_layers_that_are_read_stay_what_they_were() -> None:
    model, images = network("resnet8"), torch.randn(2, 3, 32, 32)
    layers = ["stem.0", "stages.0.first.1", "stages.1.second"]
    with torch.no_grad():
        _, features = Tap(folded(model, EXAMPLE, layers), layers)(images)
        _, expected = Tap(model, layers)(images)
    for layer in layers:
        assert_same(features[layer], expected[layer])


class Twice(nn.Module):
    """Its convolution runs twice, and one output is read by two."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(3, 3, 1)
        self.read = nn.Conv2d(3, 3, 1)
        self.plain = nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))

    def forward(self, images: Tensor) -> Tensor:
        first = self.norms[0](self.again(self.again(images)))
        read = self.read(images)
        second = self.norms[1](read) + read.mean()
        return first + second + self.norms[2](self.plain(images)) + self.norms[3](self.norms[2](images))


def test_what_is_shared_is_not_folded() -> None:
    torch.manual_seed(0)
    model, images = settled(Twice()), torch.randn(2, 3, 4, 4)
    frozen = folded(model, torch.zeros(1, 3, 4, 4))
    assert len(norms(frozen)) == 4
    torch.testing.assert_close(frozen(images), model(images))


def test_a_weight_that_is_computed_is_not_replaced() -> None:
    torch.manual_seed(0)
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    model = settled(nn.Sequential(convolution, nn.BatchNorm2d(3)))
    assert len(norms(folded(model, torch.zeros(1, 3, 4, 4)))) == 1


def test_it_is_done_once_and_again_for_other_weights_or_layers() -> None:
    model = network("resnet8")
    first = folded(model, EXAMPLE)
    assert folded(model, EXAMPLE) is first
    assert folded(model, EXAMPLE, ["stem.0"]) is not first
    first = folded(model, EXAMPLE)
    with torch.no_grad():
        model.head.bias.add_(1)
        again = folded(model, EXAMPLE)
        assert again is not first
        assert_same(again(EXAMPLE), model(EXAMPLE))


def test_a_small_network_stays_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    small, large = network("resnet8", width=0.25), network("resnet8")
    assert folded(small, EXAMPLE) is small
    assert folded(large, EXAMPLE) is not large
