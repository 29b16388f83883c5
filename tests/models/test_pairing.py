"""Which stages of two networks pair."""

import pytest
import torch
from torch import nn

from orchestrator.models import build_model
from orchestrator.models.pairing import aligned, usual_layers


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        # Pairs of the literature, for images of 32 pixels.
        ("resnet8x4", "vgg13", [(0, 0), (1, 1), (2, 2)]),
        ("vgg8", "resnet32x4", [(0, 0), (1, 1), (2, 2)]),
        ("resnet20", "resnet56", [(0, 0), (1, 1), (2, 2)]),
        ("vgg8", "resnet50", [(0, 0), (1, 1), (2, 2), (4, 3)]),
        ("mobilenet_v2", "vgg13", [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ("mobilenet_v2", "resnet50", [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ("shufflenet_v1", "resnet50", [(0, 1), (1, 2), (2, 3)]),
        ("shufflenet_v2", "wrn_40_2", [(0, 0), (1, 1), (2, 2)]),
    ],
)
def test_stages_pair_by_the_size_of_their_maps(student: str, teacher: str, pairs: list[tuple[int, int]]) -> None:
    networks = [build_model(name, num_classes=4, width=0.25) for name in (student, teacher)]
    found = usual_layers("stages", *networks, torch.zeros(1, 3, 32, 32))
    stages = [list(network.feature_layers) for network in networks]
    numbers = [[layers.index(layer) for layer in own] for layers, own in zip(stages, found, strict=True)]
    assert list(zip(*numbers, strict=True)) == pairs


def test_of_equally_near_stages_the_deeper_pair() -> None:
    assert aligned([8, 4], [16, 8, 4, 4]) == [[0, 1], [1, 3]]
    assert aligned([32, 16, 8, 4], [8]) == [[2], [0]]


def test_without_maps_depth_decides() -> None:
    assert aligned([0, 0], [32, 16, 8]) == [[0, 1], [1, 2]]


class Vectors(nn.Module):
    """Two stages, the last of which puts out no map."""

    feature_layers = ("0", "1")

    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", nn.Conv2d(3, 2, 3, stride=4))
        self.add_module("1", nn.Flatten())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for stage in self.children():
            images = stage(images)
        return images


def test_a_network_of_vectors_pairs_by_depth() -> None:
    deep = build_model("resnet8", num_classes=4, width=0.25)
    found = usual_layers("stages", Vectors(), deep, torch.zeros(1, 3, 32, 32))
    assert found == (["0", "1"], list(deep.feature_layers[-2:]))
