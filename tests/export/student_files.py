"""Students as trials leave them, without anything having been trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from orchestrator.export.blueprint import KEY, Blueprint
from orchestrator.models import build_model
from orchestrator.training import save_weights

BLUEPRINT = Blueprint(
    network={"name": "resnet8", "width": 0.25, "norm": "batch", "stem_stride": None, "small_images": False},
    dataset="digits",
    classes=tuple("0123456789"),
    image=(1, 8, 8),
    mean=(0.3,),
    std=(0.25,),
)


def save_student(path: Path, **changes: Any) -> Blueprint:
    """Weights at random, batch norms with statistics as training leaves them, and what they have to be told with."""
    blueprint = replace(BLUEPRINT, **changes)
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build_model(
            num_classes=len(blueprint.classes), in_channels=blueprint.image[0], **dict(blueprint.network)
        )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    save_weights(path, network, {"trial": "kd-final-0", KEY: blueprint.to_text()})
    return blueprint
