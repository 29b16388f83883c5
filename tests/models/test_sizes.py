"""Sizes: counted on the networks, and told from the table without them."""

import itertools
import json
import random

import pytest
import torch

from orchestrator.models import build_model, flop_count, parameter_count
from orchestrator.models.sizes import FILE, IMAGE_SIZES, STEM_STRIDES, WIDE_RESNETS, WIDTHS, entry, measured, names
from orchestrator.search.sizes import model_size
from orchestrator.spec.model import StudentSpec

TABLE = json.loads(FILE.read_text())


def counted(name, channels, image_size, classes, **settings):
    """Parameters and multiply-adds of the network itself."""
    with torch.device("meta"):
        model = build_model(name, num_classes=classes, in_channels=channels, **settings)
    return parameter_count(model), flop_count(model, (1, channels, image_size, image_size))


def test_the_table_tells_every_built_in_network():
    assert sorted(TABLE) == names()
    assert {"resnet8", "resnet50", "vgg13", "mobilenet_v2", "shufflenet_v2", *WIDE_RESNETS} <= set(TABLE)
    assert {"wrn_22_2", "wrn_28_4", "wrn_28_10", "wrn_40_4"} <= set(TABLE)


def test_the_table_is_what_is_measured():
    assert TABLE["vgg8"]["widths"]["0.125"]["2"] == measured("vgg8", 0.125, 2)
    assert TABLE["resnet8"] == entry("resnet8")


@pytest.mark.parametrize("name", TABLE)
def test_the_tables_sizes_are_those_of_the_networks(name):
    assert model_size(StudentSpec(model=name), 3, 32, 100) == counted(name, 3, 32, 100)


EVERY = sorted(itertools.product(TABLE, WIDTHS, (None, *STEM_STRIDES), IMAGE_SIZES), key=str)


@pytest.mark.parametrize(("name", "width", "stem_stride", "image_size"), random.Random(0).sample(EVERY, 24))
def test_sizes_of_other_widths_and_stem_strides_are_those_of_the_networks(name, width, stem_stride, image_size):
    model = StudentSpec(model=name, width=width, stem_stride=stem_stride)
    found = model_size(model, 2, image_size, 7)
    assert found == counted(name, 2, image_size, 7, width=width, stem_stride=stem_stride)


def test_the_table_leaves_out_only_images_that_are_too_small():
    missing = {
        (name, stride, size)
        for name, width, stride, size in EVERY
        if model_size(StudentSpec(model=name, width=width, stem_stride=stride), 3, size, 10) is None
    }
    assert missing == {(f"vgg{depth}", 2, 8) for depth in (8, 11, 13, 16, 19)}
    with pytest.raises(ValueError, match="too small"):
        counted("vgg8", 3, 8, 10, stem_stride=2)


def test_sizes_follow_the_data_set():
    model = build_model("resnet8", num_classes=10, in_channels=1)
    assert model_size(StudentSpec(model="resnet8"), 1, 28, 10) == (
        parameter_count(model),
        flop_count(model, (1, 1, 28, 28)),
    )


@pytest.mark.parametrize(
    ("setting", "image_size"),
    [
        ({"width": 0.3}, 32),
        ({"width": 4}, 32),
        ({"stem_stride": 3}, 32),
        ({"model": "wrn_10_7"}, 32),
        ({"model": "torchvision/resnet18"}, 32),
        ({}, 33),
    ],
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
