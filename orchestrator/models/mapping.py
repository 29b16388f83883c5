"""Names of published checkpoints' tensors, told as the names of this package's networks.

`repdistiller`: the CIFAR networks of RepDistiller (github.com/HobbitLong/RepDistiller) and of the code that took
its names over, mdistiller among it. Its ResNet names are torchvision's too. Read one row as: a tensor whose whole
name matches the pattern has the name that the template gives. In a template `{block}` counts blocks over all stages
as our networks do, `{unit}` and `{part}` are a position in a sequence of threes (convolution, norm, ReLU) divided
by three and its rest, `{layer}` is a convolution's or norm's number less one, and `{kind}` is 0 for a convolution
and 1 for its norm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from torch import nn

from orchestrator.errors import CheckpointError
from orchestrator.models.mobilenet import MobileNetV2
from orchestrator.models.resnet import ResNet
from orchestrator.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from orchestrator.models.vgg import VGG
from orchestrator.models.wide_resnet import WideResNet

Row = tuple[str, str]

_TENSOR = r"(?P<tensor>\w+)"
_BLOCK = r"layer(?P<stage>\d)\.(?P<position>\d+)"

_RESNET: tuple[Row, ...] = (
    (rf"(?P<name>conv|bn)1\.{_TENSOR}", "stem.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?P<name>conv|bn)1\.{_TENSOR}", "stages.{block}.first.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?P<name>conv|bn)2\.{_TENSOR}", "stages.{block}.second.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?P<name>conv|bn)3\.{_TENSOR}", "stages.{block}.third.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?:downsample|shortcut)\.(?P<index>\d)\.{_TENSOR}", "stages.{block}.shortcut.{index}.{tensor}"),
    (rf"(?:fc|linear)\.{_TENSOR}", "head.{tensor}"),
)
_WIDE_BLOCK = r"block(?P<stage>\d)\.layer\.(?P<position>\d+)"
_WIDE_RESNET: tuple[Row, ...] = (
    (rf"conv1\.{_TENSOR}", "stem.{tensor}"),
    (rf"{_WIDE_BLOCK}\.bn1\.{_TENSOR}", "stages.{block}.first_norm.{tensor}"),
    (rf"{_WIDE_BLOCK}\.conv1\.{_TENSOR}", "stages.{block}.first.{tensor}"),
    (rf"{_WIDE_BLOCK}\.bn2\.{_TENSOR}", "stages.{block}.second_norm.{tensor}"),
    (rf"{_WIDE_BLOCK}\.conv2\.{_TENSOR}", "stages.{block}.second.{tensor}"),
    (rf"{_WIDE_BLOCK}\.convShortcut\.{_TENSOR}", "stages.{block}.shortcut.{tensor}"),
    (rf"bn1\.{_TENSOR}", "norm.{tensor}"),
    (rf"fc\.{_TENSOR}", "head.{tensor}"),
)
_VGG: tuple[Row, ...] = (
    (rf"block(?P<stage>\d)\.(?P<index>\d+)\.{_TENSOR}", "stages.{stage}.{unit}.{part}.{tensor}"),
    (rf"classifier\.{_TENSOR}", "head.{tensor}"),
)
_INVERTED = r"blocks\.(?P<stage>\d)\.(?P<position>\d+)\.conv"
_MOBILENET: tuple[Row, ...] = (
    (rf"conv1\.(?P<index>\d)\.{_TENSOR}", "stem.{index}.{tensor}"),
    (rf"{_INVERTED}\.(?P<index>[012])\.{_TENSOR}", "stages.{stage}.{position}.expand.{part}.{tensor}"),
    (rf"{_INVERTED}\.(?P<index>[345])\.{_TENSOR}", "stages.{stage}.{position}.filter.{part}.{tensor}"),
    (rf"{_INVERTED}\.(?P<index>[67])\.{_TENSOR}", "stages.{stage}.{position}.project.{part}.{tensor}"),
    (rf"conv2\.(?P<index>\d)\.{_TENSOR}", "last.{index}.{tensor}"),
    (rf"classifier\.0\.{_TENSOR}", "head.{tensor}"),
)
_SHUFFLENET_V1: tuple[Row, ...] = (
    (rf"(?P<name>conv|bn)1\.{_TENSOR}", "stem.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?P<name>conv|bn)1\.{_TENSOR}", "stages.{block}.narrow.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?P<name>conv|bn)2\.{_TENSOR}", "stages.{block}.filter.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?P<name>conv|bn)3\.{_TENSOR}", "stages.{block}.widen.{kind}.{tensor}"),
    (rf"linear\.{_TENSOR}", "head.{tensor}"),
)
_DOWN = r"layer(?P<stage>\d)\.(?P<position>0)"
_SHUFFLENET_V2: tuple[Row, ...] = (
    (rf"(?P<name>conv|bn)1\.{_TENSOR}", "stem.{kind}.{tensor}"),
    (rf"(?P<name>conv|bn)2\.{_TENSOR}", "last.{kind}.{tensor}"),
    (rf"{_DOWN}\.(?P<name>conv|bn)(?P<number>[12])\.{_TENSOR}", "stages.{block}.shortcut.{layer}.{kind}.{tensor}"),
    (rf"{_DOWN}\.(?P<name>conv|bn)3\.{_TENSOR}", "stages.{block}.branch.0.{kind}.{tensor}"),
    (rf"{_DOWN}\.(?P<name>conv|bn)4\.{_TENSOR}", "stages.{block}.branch.1.{kind}.{tensor}"),
    (rf"{_DOWN}\.(?P<name>conv|bn)5\.{_TENSOR}", "stages.{block}.branch.2.{kind}.{tensor}"),
    (rf"{_BLOCK}\.(?P<name>conv|bn)(?P<number>[123])\.{_TENSOR}", "stages.{block}.branch.{layer}.{kind}.{tensor}"),
    (rf"linear\.{_TENSOR}", "head.{tensor}"),
)

MAPPINGS: dict[str, dict[type[nn.Module], tuple[Row, ...]]] = {
    "repdistiller": {
        ResNet: _RESNET,
        WideResNet: _WIDE_RESNET,
        VGG: _VGG,
        MobileNetV2: _MOBILENET,
        ShuffleNetV1: _SHUFFLENET_V1,
        ShuffleNetV2: _SHUFFLENET_V2,
    },
}
"""By the mapping's name: the table of each family of networks."""


def mapped_names(names: Iterable[str], mapping: str, model: nn.Module) -> dict[str, str]:
    """The model's name for each published name; one that no row knows is kept as it is.

    Raises `ValueError` for an unknown mapping, `CheckpointError` where it has no table for the model's family.
    """
    if mapping not in MAPPINGS:
        raise ValueError(f"key_mapping must be one of {', '.join(MAPPINGS)}, got {mapping!r}")
    rows = MAPPINGS[mapping].get(type(model))
    if rows is None:
        known = ", ".join(family.__name__ for family in MAPPINGS[mapping])
        raise CheckpointError(f"key_mapping {mapping} has names for {known}, and not for {type(model).__name__}")
    starts = [0, *(int(layer.rpartition(".")[2]) + 1 for layer in cast(tuple[str, ...], model.feature_layers))]
    return {name: _mapped(name, rows, starts) for name in names}


def _mapped(name: str, rows: tuple[Row, ...], starts: list[int]) -> str:
    for pattern, template in rows:
        if (match := re.fullmatch(pattern, name)) is None:
            continue
        found = match.groupdict()
        index = int(found.get("index") or 0)
        values = {
            **found,
            "unit": index // 3,
            "part": index % 3,
            "kind": int(found.get("name") == "bn"),
            "layer": int(found.get("number") or 1) - 1,
        }
        if "{block}" in template:
            stage = int(found["stage"]) - 1
            if not 0 <= stage < len(starts) - 1:
                return name
            values["block"] = starts[stage] + int(found["position"])
        return template.format(**values)
    return name
