"""Networks of torchvision: taken by name, fitted to small images, channels, classes and norms."""

import pytest
import torch
from torch import nn
from torchvision import models

from orchestrator import build
from orchestrator.catalog import MODELS
from orchestrator.errors import CheckpointError, RegistryError
from orchestrator.models import build_model
from orchestrator.models.norm import SyncBatchNorm
from orchestrator.models.torchvision_models import STEMS, published_weights
from orchestrator.spec.model import TeacherSpec

LIGHT = "torchvision/shufflenet_v2_x0_5"
BY_CLASS = {
    "DenseNet": "densenet121",
    "EfficientNet": "efficientnet_b0",
    "GoogLeNet": "googlenet",
    "MNASNet": "mnasnet0_5",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3_small",
    "RegNet": "regnet_y_400mf",
    "ResNet": "resnet18",
    "ShuffleNetV2": "shufflenet_v2_x0_5",
}


@pytest.mark.parametrize("kind", STEMS)
def test_small_images_keep_their_pixels_in_the_stem(kind):
    name = f"torchvision/{BY_CLASS[kind]}"
    stem = STEMS[kind][0]
    sizes = []
    for small in (False, True):
        model = build_model(name, num_classes=7, small_images=small)
        assert type(model).__name__ == kind
        model.get_submodule(stem).register_forward_hook(lambda module, images, out: sizes.append(out.shape[-1]))
        ends = [model.get_submodule(layer) for layer in model.feature_layers]
        maps: list[int] = []
        for end in ends:
            end.register_forward_hook(lambda module, images, out, maps=maps: maps.append(out.shape[-1]))
        model.to("meta")
        assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 7)
        assert maps == sorted(maps, reverse=True)
        assert maps[0] == (32 if small else 16)
        assert maps[-1] >= (2 if small else 1)
    assert sizes == [16, 32]


def test_a_network_trains_on_small_grey_images():
    torch.manual_seed(0)
    model = build_model(LIGHT, num_classes=5, in_channels=1, norm="group", small_images=True)
    logits = model(torch.randn(4, 1, 28, 28))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    classifier = model.get_submodule(model.classifier_layer)
    assert isinstance(classifier, nn.Linear)
    assert classifier.out_features == 5


@pytest.mark.parametrize(("norm", "kind"), [("group", nn.GroupNorm), ("sync_batch", SyncBatchNorm)])
def test_norms_are_replaced(norm, kind):
    model = build_model("torchvision/mobilenet_v3_small", num_classes=5, norm=norm)
    norms = [module for module in model.modules() if type(module).__name__.endswith(("Norm", "Norm2d"))]
    assert norms
    assert all(isinstance(module, kind) for module in norms)
    assert {module.eps for module in norms} == {0.001}


def test_left_alone_it_is_torchvisions_own_network():
    torch.manual_seed(3)
    ours = build_model(LIGHT, num_classes=5)
    torch.manual_seed(3)
    theirs = models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=5)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_transformers_have_no_feature_layers():
    with torch.device("meta"):
        model = build_model("torchvision/vit_b_16", num_classes=5)
    assert model.feature_layers == ()
    assert model.classifier_layer == "heads.head"


def test_networks_with_further_classifiers_put_out_logits_alone():
    model = build_model("torchvision/googlenet", num_classes=5).to("meta")
    assert model.train()(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("shufflenet_v2_x0_5", {"width": 0.5}, "width must be 1 for torchvision/shufflenet_v2_x0_5"),
        ("shufflenet_v2_x0_5", {"stem_stride": 1}, "stem_stride has no meaning"),
        ("shufflenet_v2_x0_5", {"norm": "layer"}, "norm must be one of batch, group, sync_batch, got 'layer'"),
        ("shufflenet_v2_x0_5", {"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ("shufflenet_v2_x0_5", {"in_channels": 0}, "in_channels must be >= 1, got 0"),
        ("squeezenet1_1", {}, "ends in no linear layer"),
        ("alexnet", {"small_images": True}, "small_images is not known to fit torchvision/alexnet"),
        ("alexnet", {"norm": "group"}, "norm must be batch for torchvision/alexnet, which has none to replace"),
    ],
)
def test_what_has_no_meaning_is_refused(name, setting, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_model(f"torchvision/{name}", **{"num_classes": 5, **setting})


def test_small_images_is_for_torchvision_alone():
    with pytest.raises(ValueError, match="small_images has no meaning for resnet8, only for torchvision/<name>"):
        build_model("resnet8", num_classes=5, small_images=True)


def test_an_unknown_name_is_told_with_the_nearest_when_it_is_built():
    assert "torchvision/efficientnetb0" in MODELS
    assert "torchvision/" not in MODELS
    with pytest.raises(
        RegistryError, match=r"(?s)torchvision has no classifier 'efficientnetb0'.*nearest: efficientnet_b0, "
    ):
        build_model("torchvision/efficientnetb0", num_classes=5)
    with pytest.raises(RegistryError, match="no classifier 'deeplabv3_resnet50'"):
        build_model("torchvision/deeplabv3_resnet50", num_classes=5)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Torch's folder of downloads, empty and without a network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, *rest, **more: refuse(url))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def refuse(url):
    raise OSError(f"no network for {url}")


def test_published_weights_are_never_downloaded_unasked(cache):
    with pytest.raises(
        CheckpointError, match="the weights DEFAULT of torchvision/resnet18 are not on this machine"
    ) as e:
        published_weights("torchvision/resnet18", "DEFAULT", download=False)
    assert f"put https://download.pytorch.org/models/resnet18-f37072fd.pth at {cache}/resnet18-f37072fd.pth" in str(
        e.value
    )
    with pytest.raises(CheckpointError, match=r"cannot be had from https.*no network for https"):
        published_weights("torchvision/resnet18", "DEFAULT", download=True)


def test_unknown_weights_list_the_known_ones(cache):
    with pytest.raises(CheckpointError, match="no weights BEST of torchvision/resnet18; known: IMAGENET1K_V1, DEFAULT"):
        published_weights("torchvision/resnet18", "BEST", download=False)


def test_weights_in_the_cache_become_the_teachers(cache):
    source = models.get_model("shufflenet_v2_x0_5", weights=None)
    url = models.get_model_weights("shufflenet_v2_x0_5")["DEFAULT"].url
    torch.save(source.state_dict(), cache / url.rpartition("/")[2])
    teacher = TeacherSpec(model=LIGHT, checkpoint="torchvision:DEFAULT")
    network = build_model(LIGHT, num_classes=1000)
    build.load_teacher(teacher, "torchvision:DEFAULT", network)
    assert torch.equal(network.fc.weight, source.fc.weight)
    with pytest.raises(
        CheckpointError, match=r"^teacher.checkpoint: torchvision:DEFAULT tells 1000 classes apart, the data set has 5$"
    ):
        build.load_teacher(teacher, "torchvision:DEFAULT", build_model(LIGHT, num_classes=5))
