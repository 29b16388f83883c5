"""Sizes: counted on the networks, and told from the table without them."""

import json

import pytest
import torch

from orchestrator.models import build_model, flop_count, parameter_count
from orchestrator.models.sizes import FILE, WIDE_RESNETS, measured, names
from orchestrator.search.sizes import model_size
from orchestrator.spec.model import StudentSpec

TABLE = json.loads(FILE.read_text())


def test_the_table_tells_every_built_in_network():
    assert sorted(TABLE) == names()
    assert {"resnet8", "resnet50", "vgg13", "mobilenet_v2", "shufflenet_v2", *WIDE_RESNETS} <= set(TABLE)


@pytest.mark.parametrize("name", ["resnet8", "vgg8"])
def test_the_table_is_what_is_measured(name):
    assert TABLE[name] == measured(name)


@pytest.mark.parametrize("name", TABLE)
def test_the_tables_sizes_are_those_of_the_networks(name):
    with torch.device("meta"):
        model = build_model(name, num_classes=100, in_channels=3)
    found = model_size(StudentSpec(model=name), 3, 32, 100)
    assert found == (parameter_count(model), flop_count(model, (1, 3, 32, 32)))


def test_sizes_follow_the_data_set():
    model = build_model("resnet8", num_classes=10, in_channels=1)
    assert model_size(StudentSpec(model="resnet8"), 1, 28, 10) == (
        parameter_count(model),
        flop_count(model, (1, 1, 28, 28)),
    )


@pytest.mark.parametrize(
    ("setting", "image_size"),
    [({"width": 0.5}, 32), ({"stem_stride": 2}, 32), ({"model": "wrn_10_7"}, 32), ({}, 33)],
)
def test_what_the_table_does_not_know_is_not_told(setting, image_size):
    assert model_size(StudentSpec(**{"model": "resnet8", **setting}), 3, image_size, 10) is None


def test_norms_do_not_change_the_size():
    sizes = {model_size(StudentSpec(model="vgg8", norm=norm), 3, 32, 10) for norm in ("batch", "group", "sync_batch")}
    assert len(sizes) == 1


# In billions of multiply-adds for CIFAR-10: the model zoo of github.com/da2so/DA2Lite.
@pytest.mark.parametrize(("name", "billions"), [("resnet18", 0.56), ("resnet34", 1.16), ("resnet50", 1.30)])
def test_flops_are_the_published_multiply_adds(name, billions):
    assert model_size(StudentSpec(model=name), 3, 32, 10).flops / 1e9 == pytest.approx(billions, abs=0.006)


def test_flops_are_those_of_a_layer_counted_by_hand():
    conv = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    assert flop_count(conv, (1, 4, 8, 8)) == 6 * 4 * 4 * 2 * 9
    assert flop_count(torch.nn.Linear(5, 7), (3, 5)) == 3 * 5 * 7


def test_counting_leaves_the_model_alone():
    model = build_model("resnet8", num_classes=10, width=0.25)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flop_count(model, (2, 3, 8, 8))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
