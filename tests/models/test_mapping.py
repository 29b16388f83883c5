"""Published names: each family's table against a network written with those names and the bare functions of torch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from orchestrator.catalog import MODELS
from orchestrator.errors import CheckpointError
from orchestrator.models import build_model
from orchestrator.models.mapping import MAPPINGS, mapped_names
from orchestrator.spec.model import TeacherSpec

CLASSES = 6
NORM = ("weight", "bias", "running_mean", "running_var")


class Reference:
    """Runs a network from its published state dict alone; taking a tensor counts as its use."""

    def __init__(self, state):
        self.state = state
        self.used = {name for name in state if name.endswith("num_batches_tracked")}

    def get(self, name):
        self.used.add(name)
        return self.state.get(name)

    def conv(self, x, name, stride=1):
        weight, bias = self.get(f"{name}.weight"), self.state.get(f"{name}.bias")
        if bias is not None:
            self.used.add(f"{name}.bias")
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2, groups=groups)

    def norm(self, x, name):
        weight, bias, mean, variance = (self.get(f"{name}.{tensor}")[:, None, None] for tensor in NORM)
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def linear(self, x, name):
        return x.mean((2, 3)) @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def cn(self, x, number, prefix="", stride=1):
        return self.norm(self.conv(x, f"{prefix}conv{number}", stride), f"{prefix}bn{number}")

    def blocks(self, stem):
        position = 0
        while any(name.startswith(f"{stem}.{position}.") for name in self.state):
            yield position, f"{stem}.{position}."
            position += 1

    def resnet(self, x):
        x = self.cn(x, 1).relu()
        for stage in range(1, 5):
            for position, block in self.blocks(f"layer{stage}"):
                stride = 2 if stage > 1 and position == 0 else 1
                deep = f"{block}conv3.weight" in self.state
                out = self.cn(x, 1, block, 1 if deep else stride).relu()
                out = self.cn(out, 2, block, stride if deep else 1)
                if deep:
                    out = self.cn(out.relu(), 3, block)
                for side in ("downsample", "shortcut"):
                    if f"{block}{side}.0.weight" in self.state:
                        x = self.norm(self.conv(x, f"{block}{side}.0", stride), f"{block}{side}.1")
                x = (out + x).relu()
        return self.linear(x, "fc" if "fc.weight" in self.state else "linear")

    def wide_resnet(self, x):
        x = self.conv(x, "conv1")
        for stage in (1, 2, 3):
            for position, block in self.blocks(f"block{stage}.layer"):
                stride = 2 if stage > 1 and position == 0 else 1
                active = self.norm(x, f"{block}bn1").relu()
                out = self.norm(self.conv(active, f"{block}conv1", stride), f"{block}bn2").relu()
                out = self.conv(out, f"{block}conv2")
                widens = f"{block}convShortcut.weight" in self.state
                x = out + (self.conv(active, f"{block}convShortcut", stride) if widens else x)
        return self.linear(self.norm(x, "bn1").relu(), "fc")

    def vgg(self, x):
        for stage in range(5):
            if 0 < stage < 4:
                x = F.max_pool2d(x, 2)
            for layer in range(0, 12, 3):
                if f"block{stage}.{layer}.weight" in self.state:
                    x = self.norm(self.conv(x, f"block{stage}.{layer}"), f"block{stage}.{layer + 1}").relu()
        return self.linear(x, "classifier")

    def mobilenet(self, x):
        x = self.norm(self.conv(x, "conv1.0", 2), "conv1.1").relu()
        for stage in range(7):
            for position, block in self.blocks(f"blocks.{stage}"):
                stride = 2 if stage in (2, 3, 5) and position == 0 else 1
                out = self.norm(self.conv(x, f"{block}conv.0"), f"{block}conv.1").relu()
                out = self.norm(self.conv(out, f"{block}conv.3", stride), f"{block}conv.4").relu()
                out = self.norm(self.conv(out, f"{block}conv.6"), f"{block}conv.7")
                x = out + x if x.shape == out.shape else out
        return self.linear(self.norm(self.conv(x, "conv2.0"), "conv2.1").relu(), "classifier.0")

    def shufflenet_v1(self, x):
        x = self.cn(x, 1).relu()
        for stage in (1, 2, 3):
            for position, block in self.blocks(f"layer{stage}"):
                out = self.cn(x, 1, block).relu()
                out = shuffled(out, 1 if stage == 1 and position == 0 else 3)
                out = self.cn(self.cn(out, 2, block, 1 if position else 2).relu(), 3, block)
                x = (out + x if position else torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1)).relu()
        return self.linear(x, "linear")

    def shufflenet_v2(self, x):
        x = self.cn(x, 1).relu()
        for stage in (1, 2, 3):
            for position, block in self.blocks(f"layer{stage}"):
                if position:
                    left, right = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]
                    right = self.cn(self.cn(self.cn(right, 1, block).relu(), 2, block), 3, block).relu()
                else:
                    left = self.cn(self.cn(x, 1, block, 2), 2, block).relu()
                    right = self.cn(self.cn(self.cn(x, 3, block).relu(), 4, block, 2), 5, block).relu()
                x = shuffled(torch.cat([left, right], 1), 2)
        return self.linear(self.cn(x, 2).relu(), "linear")


def shuffled(x, groups):
    batch, channels, height, width = x.shape
    grouped = x.view(batch, groups, channels // groups, height, width)
    return torch.stack([grouped[:, i % groups, i // groups] for i in range(channels)], 1)


def published(model, kind):
    """The published name of every tensor of our network, derived from its modules' order in the published code."""
    names = {}

    def put(ours, theirs):
        for name in model.state_dict():
            if name.startswith(f"{ours}."):
                names[name] = theirs + name.removeprefix(ours)

    def put_pair(ours, number, prefix=""):
        put(f"{ours}.0", f"{prefix}conv{number}")
        put(f"{ours}.1", f"{prefix}bn{number}")

    put("head", {"vgg": "classifier", "mobilenet": "classifier.0", "torchvision": "fc"}.get(kind, "linear"))
    if kind in ("resnet", "wide_resnet"):
        put("head", "fc")
    ends = [int(layer.split(".")[1]) for layer in model.feature_layers]
    place = {}
    for block in range(ends[-1] + 1):
        stage = sum(block > end for end in ends)
        place[block] = (stage + 1, block - ([-1, *ends][stage] + 1))
    if kind == "vgg":
        for stage, layers in enumerate(model.stages):
            for layer in range(len(layers)):
                put(f"stages.{stage}.{layer}.0", f"block{stage}.{3 * layer}")
                put(f"stages.{stage}.{layer}.1", f"block{stage}.{3 * layer + 1}")
        return names
    if kind == "mobilenet":
        for ours, theirs in (("stem", "conv1"), ("last", "conv2")):
            put(ours, theirs)
        for stage, row in enumerate(model.stages):
            for block in range(len(row)):
                for at, part in ((0, "expand"), (3, "filter"), (6, "project")):
                    put(f"stages.{stage}.{block}.{part}.0", f"blocks.{stage}.{block}.conv.{at}")
                    put(f"stages.{stage}.{block}.{part}.1", f"blocks.{stage}.{block}.conv.{at + 1}")
        return names
    if kind == "wide_resnet":
        put("stem", "conv1")
        put("norm", "bn1")
        for block, (stage, position) in place.items():
            for ours, theirs in (
                ("first_norm", "bn1"),
                ("first", "conv1"),
                ("second_norm", "bn2"),
                ("second", "conv2"),
                ("shortcut", "convShortcut"),
            ):
                put(f"stages.{block}.{ours}", f"block{stage}.layer.{position}.{theirs}")
        return names
    put_pair("stem", 1)
    put_pair("last", 2)
    for block, (stage, position) in place.items():
        ours, theirs = f"stages.{block}.", f"layer{stage}.{position}."
        for number, part in enumerate(("first", "second", "third"), 1):
            put_pair(ours + part, number, theirs)
        for number, part in enumerate(("narrow", "filter", "widen"), 1):
            put_pair(ours + part, number, theirs)
        if kind == "shufflenet_v2":
            for layer in (0, 1):
                put_pair(f"{ours}shortcut.{layer}", layer + 1, theirs)
            for layer in (0, 1, 2):
                put_pair(f"{ours}branch.{layer}", layer + (1 if position else 3), theirs)
        else:
            put(f"{ours}shortcut", theirs + ("shortcut" if kind == "resnetv2" else "downsample"))
    return names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet14", "resnet"),
        ("resnet8x4", "resnet"),
        ("resnet18", "resnetv2"),
        ("resnet50", "resnetv2"),
        ("resnet50", "torchvision"),
        ("wrn_16_1", "wide_resnet"),
        ("wrn_16_2", "wide_resnet"),
        ("vgg8", "vgg"),
        ("vgg19", "vgg"),
        ("mobilenet_v2", "mobilenet"),
        ("shufflenet_v1", "shufflenet_v1"),
        ("shufflenet_v2", "shufflenet_v2"),
    ],
)
def test_published_names_give_the_published_networks_logits(name, kind):
    torch.manual_seed(0)
    model = build_model(name, num_classes=CLASSES, width=0.25)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(std=0.1)
    names = published(model, kind)
    ours = model.state_dict()
    assert names.keys() == ours.keys()
    state = {names[name]: tensor for name, tensor in ours.items()}
    assert mapped_names(state, "repdistiller", model) == {theirs: mine for mine, theirs in names.items()}

    reference = Reference(state)
    images = torch.randn(2, 3, 32, 32)
    run = {"resnetv2": "resnet", "torchvision": "resnet"}.get(kind, kind)
    logits = getattr(reference, run)(images)
    assert reference.used == set(state)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), logits, rtol=1e-3, atol=1e-4)


def test_every_family_has_a_table():
    for name in (*MODELS, "wrn_10_1"):
        with torch.device("meta"):
            model = build_model(name, num_classes=3, width=0.25)
        assert mapped_names(["unknown.weight", "layer9.0.conv1.weight"], "repdistiller", model) == {
            "unknown.weight": "unknown.weight",
            "layer9.0.conv1.weight": "layer9.0.conv1.weight",
        }


def test_another_network_has_no_table():
    with pytest.raises(CheckpointError, match=r"key_mapping repdistiller has names for ResNet, .* and not for Linear"):
        mapped_names(["fc.weight"], "repdistiller", nn.Linear(2, 2))


def test_the_spec_knows_the_mappings():
    for name in MAPPINGS:
        assert TeacherSpec(model="resnet8", checkpoint="t.pt", key_mapping=name).key_mapping == name
