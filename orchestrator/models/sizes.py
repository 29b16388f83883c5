"""Makes `sizes.json`, which tells the size of a network without building it: `python -m orchestrator.models.sizes`.

Parameters and multiply-adds are affine in the classes and in the channels of the images, so three numbers tell
them for every data set: those of no class and no channel, those of each class, and those of each channel.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from orchestrator.catalog import MODELS
from orchestrator.models.factory import build_model, flop_count, parameter_count

FILE = Path(__file__).with_name("sizes.json")
IMAGE_SIZES = (8, 28, 32, 64)
WIDE_RESNETS = ("wrn_16_1", "wrn_16_2", "wrn_16_4", "wrn_16_8", "wrn_28_2", "wrn_28_10", "wrn_40_1", "wrn_40_2")


def measured(name: str) -> dict[str, list[int] | dict[str, list[int]]]:
    """The entry of one network at width 1 and its own stem stride."""
    return {
        "parameters": _affine(partial(_count, name, None)),
        "multiply_adds": {str(size): _affine(partial(_count, name, size)) for size in IMAGE_SIZES},
    }


def _build(name: str, classes: int, channels: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, num_classes=classes, in_channels=channels)


def _count(name: str, size: int | None, classes: int, channels: int) -> int:
    model = _build(name, classes, channels)
    return parameter_count(model) if size is None else flop_count(model, (1, channels, size, size))


def _affine(count: Callable[[int, int], int]) -> list[int]:
    one, more_classes, more_channels = count(1, 1), count(2, 1), count(1, 2)
    of_class, of_channel = more_classes - one, more_channels - one
    return [one - of_class - of_channel, of_class, of_channel]


def names() -> list[str]:
    """The networks of this package that the table tells, without those of other packages."""
    listed = [name for name in MODELS if type(_build(name, 1, 1)).__module__.startswith("orchestrator.")]
    return sorted([*listed, *WIDE_RESNETS])


if __name__ == "__main__":
    table = {name: measured(name) for name in names()}
    rows = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items())
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
