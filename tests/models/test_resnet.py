import math

import pytest
import torch
from torch import nn

from orchestrator.catalog import MODELS
from orchestrator.errors import RegistryError
from orchestrator.models import build_model, parameter_count
from orchestrator.models.resnet import cifar_resnet

DEPTHS = (8, 14, 20, 32, 44, 56, 110)


def expected_parameters(depth, num_classes, in_channels=3, widths=(16, 32, 64)):
    count = 9 * in_channels * widths[0] + 2 * widths[0]
    channels = widths[0]
    for stage, width in enumerate(widths):
        for block in range((depth - 2) // 6):
            count += 9 * channels * width + 9 * width * width + 2 * 2 * width
            if stage > 0 and block == 0:
                count += channels * width + 2 * width
            channels = width
    return count + channels * num_classes + num_classes


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("num_classes", [10, 100])
def test_parameter_counts_follow_from_the_architecture(depth, num_classes):
    model = build_model(f"resnet{depth}", num_classes=num_classes)
    assert parameter_count(model) == expected_parameters(depth, num_classes)


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("resnet20", 10, 272_474),
        ("resnet20", 100, 278_324),
        ("resnet56", 100, 861_620),
        ("resnet110", 100, 1_736_564),
    ],
)
def test_parameter_counts_are_those_of_the_literature(name, num_classes, count):
    assert parameter_count(build_model(name, num_classes=num_classes)) == count


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_counts_the_layers_of_the_main_path(depth):
    layers = [
        module
        for name, module in MODELS[f"resnet{depth}"](num_classes=10).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == depth


@pytest.mark.parametrize(
    ("width", "widths"), [(0.5, (8, 16, 32)), (2, (32, 64, 128)), (1.1, (18, 35, 70)), (0.001, (1, 1, 1))]
)
def test_width_scales_every_stage(width, widths):
    model = build_model("resnet8", num_classes=10, in_channels=1, width=width)
    assert parameter_count(model) == expected_parameters(8, 10, in_channels=1, widths=widths)


@pytest.mark.parametrize("norm", ["batch", "group", "sync_batch"])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (3, 33)])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_images_of_any_size_train_and_evaluate(norm, channels, size, stem_stride):
    model = build_model("resnet8", num_classes=7, in_channels=channels, width=0.5, norm=norm, stem_stride=stem_stride)
    logits = model(torch.randn(4, channels, size, size))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert model.eval()(torch.randn(1, channels, size, size)).isfinite().all()


def test_stages_halve_the_image_and_the_stem_strides():
    model = build_model("resnet14", num_classes=10, stem_stride=2)
    sizes = []
    for module in [model.stem, *model.stages]:
        module.register_forward_hook(lambda module, images, features: sizes.append(features.shape[-1]))
    model(torch.randn(2, 3, 32, 32))
    assert sizes == [16, 16, 16, 8, 8, 4, 4]


def test_a_block_adds_its_input():
    block = build_model("resnet8", num_classes=10).stages[0].eval()
    nn.init.zeros_(block.second[1].weight)
    features = torch.rand(2, 16, 8, 8)
    torch.testing.assert_close(block(features), features)


def test_convolutions_start_with_kaiming_fan_out():
    conv = build_model("resnet8", num_classes=10, width=4).stages[2].first[0]
    assert conv.in_channels != conv.out_channels
    fan_out = 9 * conv.out_channels
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.02)


def test_weights_depend_on_the_seed_alone():
    def weights():
        torch.manual_seed(1)
        return torch.cat([p.flatten() for p in build_model("resnet8", num_classes=10).parameters()])

    assert torch.equal(weights(), weights())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ({"in_channels": 0}, "in_channels must be >= 1, got 0"),
        ({"stem_stride": 0}, "stem_stride must be >= 1, got 0"),
        ({"width": 0}, "width must be finite and > 0, got 0"),
        ({"width": math.inf}, "width must be finite and > 0, got inf"),
        ({"norm": "layer"}, "norm must be one of batch, group, sync_batch, got 'layer'"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        build_model("resnet8", **{"num_classes": 10, **setting})


@pytest.mark.parametrize("depth", [2, 9, -4])
def test_depth_must_fit_the_architecture(depth):
    with pytest.raises(ValueError, match=f"depth must be 6n \\+ 2 with n >= 1, got {depth}"):
        cifar_resnet(depth, num_classes=10)


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(RegistryError, match="did you mean 'resnet20'"):
        build_model("resnet-20", num_classes=10)


def test_feature_layers_end_the_stages_and_the_classifier_is_the_last_layer():
    model = build_model("resnet20", num_classes=10)
    shapes = []
    for name in model.feature_layers:
        model.get_submodule(name).register_forward_hook(lambda module, images, out: shapes.append(tuple(out.shape[1:])))
    model(torch.randn(2, 3, 32, 32))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert model.get_submodule(model.classifier_layer).out_features == 10
