"""How large a network is, told from a table without building it, so without torch."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from orchestrator.catalog import DATASET_FACTS
from orchestrator.spec.data import DataSpec
from orchestrator.spec.model import ModelSpec


class ModelSize(NamedTuple):
    """The size of a network for images of one shape."""

    parameters: int
    """Values in its weights and norms."""
    flops: int
    """Multiply-adds of its convolutions and linear layer for one image, forward."""


def model_size(model: ModelSpec, in_channels: int, image_size: int, num_classes: int) -> ModelSize | None:
    """The size of a built-in network, or None where the table does not tell it.

    Args:
        model: told at widths 0.125, 0.25, 0.5, 1 and 2, with its own stem stride, 1 or 2.
        in_channels, image_size: of the images; those of 8, 28, 32 and 64 pixels are in the table.
        num_classes: of the data set.
    """
    network = _table().get(model.model)
    if network is None:
        return None
    stride = network["stem_stride"] if model.stem_stride is None else model.stem_stride
    row = network["widths"].get(str(float(model.width)), {}).get(str(stride))
    if row is None or str(image_size) not in row["multiply_adds"]:
        return None
    # Both are affine in the classes and channels; see `orchestrator.models.sizes`, which makes the table.
    parameters, flops = (
        base + num_classes * of_class + in_channels * of_channel
        for base, of_class, of_channel in (row["parameters"], row["multiply_adds"][str(image_size)])
    )
    return ModelSize(parameters, flops)


def size_in(model: ModelSpec, data: DataSpec) -> ModelSize | None:
    """The size of a network for a data set, or None where that or the network is not known well enough."""
    facts = DATASET_FACTS.get(data.dataset)
    if facts is None:
        return None
    return model_size(model, facts.channels, data.image_size or facts.pixels, len(data.classes or ()) or facts.classes)


@cache
def _table() -> dict[str, Any]:
    text = resources.files("orchestrator").joinpath("models", "sizes.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
