"""Makes `sizes.json`, which tells the size of a network without building it: `python -m orchestrator.models.sizes`.

Parameters and multiply-adds are affine in the classes and in the channels of the images, so three numbers tell
them for every data set: those of no class and no channel, those of each class, and those of each channel.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from orchestrator.catalog import MODELS
from orchestrator.models.factory import build_model, flop_count, parameter_count

FILE = Path(__file__).with_name("sizes.json")
IMAGE_SIZES = (8, 28, 32, 64)
WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
STEM_STRIDES = (1, 2)
WIDE_RESNETS = tuple(
    f"wrn_{depth}_{widening}"
    for depth, widenings in (
        (10, (2,)),
        (16, (1, 2, 4, 8)),
        (22, (2, 4)),
        (28, (1, 2, 4, 10)),
        (34, (10,)),
        (40, (1, 2, 4)),
    )
    for widening in widenings
)


def entry(name: str) -> dict[str, Any]:
    """What the table has on a network: its own stem stride, and a row for each width and stem stride."""
    rows = {str(width): {str(stride): measured(name, width, stride) for stride in STEM_STRIDES} for width in WIDTHS}
    own = measured(name, 1.0, None)
    return {"stem_stride": next(stride for stride in STEM_STRIDES if rows["1.0"][str(stride)] == own), "widths": rows}


def measured(name: str, width: float, stem_stride: int | None) -> dict[str, Any]:
    """One row: the parameters, and the multiply-adds by the images' pixels, each without those it cannot take."""
    probes = {
        (classes, channels): _build(
            name, num_classes=classes, in_channels=channels, width=width, stem_stride=stem_stride
        )
        for classes, channels in ((1, 1), (2, 1), (1, 2))
    }
    multiply_adds = {}
    for size in IMAGE_SIZES:
        with suppress(ValueError):  # The images are too small.
            counts = [flop_count(model, (1, channels, size, size)) for (_, channels), model in probes.items()]
            multiply_adds[str(size)] = _affine(*counts)
    return {"parameters": _affine(*map(parameter_count, probes.values())), "multiply_adds": multiply_adds}


def _build(name: str, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, **settings)


def _affine(one: int, more_classes: int, more_channels: int) -> list[int]:
    of_class, of_channel = more_classes - one, more_channels - one
    return [one - of_class - of_channel, of_class, of_channel]


def names() -> list[str]:
    """The networks of this package that the table tells, without those of other packages."""
    listed = [name for name in MODELS if type(_build(name, num_classes=1)).__module__.startswith("orchestrator.")]
    return sorted([*listed, *WIDE_RESNETS])


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}:{json.dumps(entry(name), sort_keys=True, separators=(',', ':'))}" for name in names())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
