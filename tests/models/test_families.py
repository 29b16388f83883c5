"""Every family of networks: its size, its shapes, its norms, its layers' names."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from orchestrator.catalog import MODELS
from orchestrator.errors import RegistryError
from orchestrator.models import build_model, parameter_count
from orchestrator.models.norm import SyncBatchNorm
from orchestrator.training import load_weights, save_weights

WIDE = ("wrn_16_1", "wrn_10_2")
NAMES = (*MODELS, *WIDE)
NARROW = 0.125
SMALL = ("resnet8", "resnet8x4", "resnet18", "resnet50", "wrn_10_2", "vgg8", "mobilenet_v2", "shufflenet_v1")
FAMILIES = (*SMALL, "shufflenet_v2")

# Parameters at 100 classes. RepDistiller (github.com/HobbitLong/RepDistiller at b84f547, models/) builds networks of
# exactly these sizes; the paper behind it (Tian et al., 2020) and DKD (Zhao et al., 2022) compare them. In
# millions, resnet18, resnet34 and resnet50 are in the table of github.com/weiaicunzai/pytorch-cifar100.
PUBLISHED = {
    "resnet20": 278_324,
    "resnet56": 861_620,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "resnet18": 11_220_132,
    "resnet34": 21_328_292,
    "resnet50": 23_705_252,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "mobilenet_v2": 812_836,
    "shufflenet_v1": 949_258,
    "shufflenet_v2": 1_355_528,
}


def on_meta(name, **settings):
    """The network without memory for its weights, which is built in no time."""
    with torch.device("meta"):
        return build_model(name, **{"num_classes": 100, **settings})


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    assert parameter_count(on_meta(name)) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "millions"), [("wrn_40_1", 0.6), ("wrn_40_2", 2.2), ("wrn_28_10", 36.5), ("wrn_16_8", 11.0)]
)
def test_wide_resnets_have_the_size_of_the_papers_tables(name, millions):
    assert parameter_count(on_meta(name, num_classes=10)) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("width", "norm"), [(0.1, "group"), (1.7, "batch")])
def test_every_network_maps_images_to_logits_at_every_width(name, width, norm):
    model = on_meta(name, num_classes=7, in_channels=1, width=width, norm=norm)
    assert model(torch.empty(2, 1, 32, 32, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_train_at_every_size_of_image(name):
    torch.manual_seed(0)
    model = build_model(name, num_classes=5, in_channels=1, width=NARROW)
    for size in (8, 28, 32, 64):
        model.zero_grad()
        logits = model(torch.randn(4, 1, size, size))
        assert logits.shape == (4, 5)
        logits.square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        assert any(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("norm", ["batch", "group", "sync_batch"])
def test_all_norms_of_a_network_are_of_the_kind_asked_for(name, norm):
    model = build_model(name, num_classes=5, width=NARROW, norm=norm)
    kinds = {type(module) for module in model.modules() if "Norm" in type(module).__name__}
    assert len(kinds) == 1
    expected = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "sync_batch": SyncBatchNorm}[norm]
    assert issubclass(kinds.pop(), expected)
    assert model.eval()(torch.randn(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_feature_layers_exist_and_shrink(name):
    model = on_meta(name)
    shapes = []
    for layer in model.feature_layers:
        model.get_submodule(layer).register_forward_hook(lambda module, images, out: shapes.append(out.shape[1:]))
    model(torch.empty(2, 3, 64, 64, device="meta"))
    sizes = [size for _, size, _ in shapes]
    assert len(sizes) == len(model.feature_layers) >= 3
    assert all(after == before / 2 for before, after in pairwise(sizes))
    channels = [count for count, _, _ in shapes]
    assert channels == sorted(channels)


@pytest.mark.parametrize("name", NAMES)
def test_the_classifier_is_the_last_layer(name):
    model = on_meta(name, num_classes=9)
    classifier = model.get_submodule(model.classifier_layer)
    assert isinstance(classifier, nn.Linear)
    seen = []
    classifier.register_forward_hook(lambda module, images, out: seen.append(out))
    logits = model(torch.empty(2, 3, 32, 32, device="meta"))
    assert logits is seen[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_hook_keeps_is_not_changed_afterwards(name):
    """Networks change no tensor in place, so taps on their layers see what the layers put out."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=5, width=NARROW).eval()
    kept = []
    for module in model.modules():
        module.register_forward_hook(lambda module, images, out: kept.append((out, out.clone())))
    model(torch.randn(2, 3, 16, 16))
    assert all(torch.equal(out, copy) for out, copy in kept)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_stem_strides(name):
    model = on_meta(name)
    strided = on_meta(name, stem_stride=4)
    sizes = []
    for network in (model, strided):
        layer = network.get_submodule(network.feature_layers[0])
        layer.register_forward_hook(lambda module, images, out: sizes.append(out.shape[-1]))
        network(torch.empty(2, 3, 64, 64, device="meta"))
    own = 2 if name == "mobilenet_v2" else 1
    assert sizes[1] == sizes[0] * own / 4


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_depend_on_the_seed_alone(name):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_model(name, num_classes=5, width=NARROW).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_survive_a_file(name, tmp_path):
    model = build_model(name, num_classes=5, width=NARROW)
    model(torch.randn(8, 3, 16, 16))
    save_weights(tmp_path / "model.safetensors", model, {})
    again = build_model(name, num_classes=5, width=NARROW)
    load_weights(tmp_path / "model.safetensors", again)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(model.eval()(images), again.eval()(images))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("setting", [{"num_classes": 0}, {"in_channels": 0}, {"stem_stride": 0}, {"width": math.nan}])
def test_settings_out_of_range_are_refused(name, setting):
    (field,) = setting
    with pytest.raises(ValueError, match=f"{field} must be .*, got"):
        build_model(name, **{"num_classes": 10, **setting})


@pytest.mark.parametrize("name", ["wrn_16", "wrn_15_2", "wrn_4_1", "wrn_16_0", "wrn_16_1x", "wrn_016_1"])
def test_wide_resnets_that_do_not_exist_are_refused(name):
    assert name not in MODELS
    with pytest.raises(RegistryError, match=r"wrn_<6n\+4>_<k>"):
        build_model(name, num_classes=10)


def test_images_too_small_for_a_vgg_are_refused():
    with pytest.raises(ValueError, match="8 pixels at least"):
        build_model("vgg8", num_classes=10, width=NARROW, stem_stride=4)(torch.randn(2, 3, 16, 16))


def test_a_vgg_keeps_maps_of_4_pixels():
    model = on_meta("vgg8")
    seen = []
    model.stages[-1].register_forward_hook(lambda module, images, out: seen.append(out.shape[-1]))
    for size in (8, 28, 32, 64):
        model(torch.empty(2, 3, size, size, device="meta"))
    assert seen == [1, 3, 4, 4]


def test_channels_are_interleaved_by_groups():
    from orchestrator.models.layers import shuffle_channels

    features = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle_channels(features, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
