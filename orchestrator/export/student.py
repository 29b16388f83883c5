"""A trained student with its normalisation inside, as everyone who was given it uses it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from orchestrator.errors import CheckpointError
from orchestrator.export.blueprint import KEY, Blueprint, Format
from orchestrator.models import build_model
from orchestrator.training.checkpoint import load_weights


class Student(nn.Module):
    """Images, float32 [B, C, H, W] of 0 to 1, to logits, float32 [B, classes]; softmax makes them probabilities.

    Pixels are divided by 255 and nothing else: the mean and the deviation of the training images are subtracted and
    divided by in here.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, blueprint: Blueprint) -> None:
        super().__init__()
        self.network = network
        self.blueprint = blueprint
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (blueprint.mean, blueprint.std))
        self.register_buffer("scale", (1 / std).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images * self.scale + self.shift)
        return logits


def load_student(path: str | Path) -> Student:
    """The student in a safetensors file of ours, or in a folder that `orchestrator export` has written, in eval mode.

    Its `blueprint` tells classes and image size. Raises `CheckpointError` where the file cannot be read, or is not of
    a student; `RegistryError` where its network is of a package that is not installed.
    """
    file = Path(path)
    if file.is_dir():
        file = file / Format.SAFETENSORS.file
    blueprint = read_blueprint(file)
    try:
        network = build_model(
            num_classes=len(blueprint.classes), in_channels=blueprint.image[0], **dict(blueprint.network)
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: its network cannot be built: {error}") from error
    load_weights(file, network)
    return Student(network, blueprint).eval()


def read_blueprint(file: Path) -> Blueprint:
    """What a safetensors file tells of its student; raises `CheckpointError`."""
    try:
        with safe_open(file, framework="pt") as content:
            return Blueprint.from_text((content.metadata() or {}).get(KEY), file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors: {error}") from error
