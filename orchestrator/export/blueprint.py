"""What a student's weights need beside them: how the network is built, what it takes, and what its outputs mean.

It lies in the weights' own file, so that one file is all that a student consists of. Only the standard library is
needed to read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from orchestrator.errors import CheckpointError

KEY: Final = "blueprint"
"""Under which it is kept, in the metadata of a file."""


class Format(StrEnum):
    """How a student is written."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"

    @property
    def file(self) -> str:
        """The name of its file in an exported folder."""
        return f"model{_SUFFIXES[self]}"


_SUFFIXES = {Format.SAFETENSORS: ".safetensors", Format.TORCH_EXPORT: ".pt2", Format.ONNX: ".onnx"}


def format_of(path: Path) -> Format | None:
    """The format of a file, by its name; None where it is none of ours."""
    return next((format for format, suffix in _SUFFIXES.items() if path.suffix == suffix), None)


@dataclass(frozen=True)
class Blueprint:
    """All about a student but its weights."""

    network: Mapping[str, Any]
    """The keyword arguments of `models.build_model`, but for the numbers of channels and classes."""
    dataset: str
    """Its registered name."""
    classes: tuple[str, ...]
    """The name of each class, in the order of the logits."""
    image: tuple[int, int, int]
    """Channels, height and width of an image."""
    mean: tuple[float, ...]
    """By channel, what is subtracted from pixels scaled to 0..1."""
    std: tuple[float, ...]
    """By channel, what they are divided by then."""
    image_size: int | None = None
    """Pixels that the shorter side of image files was resized to, the centre then taken; None: they were not."""

    def to_text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | None, source: object) -> Self:
        """Read what `to_text` wrote; raises `CheckpointError`, with `source` as where it is from."""
        if text is None:
            raise CheckpointError(
                f"{source} does not tell what its network takes and how it is built",
                hint="it is of an earlier version, or of another program; students that are trained now tell it",
            )
        try:
            content = json.loads(text)
            made = cls(
                dict(content["network"]),
                str(content["dataset"]),
                tuple(map(str, content["classes"])),
                tuple(map(int, content["image"])),  # type: ignore[arg-type]
                tuple(map(float, content["mean"])),
                tuple(map(float, content["std"])),
                content["image_size"] and int(content["image_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source}: its blueprint cannot be read: {error!r}") from error
        channels = len(made.mean)
        if not (len(made.image) == 3 and min(made.image) > 0 and made.image[0] == channels == len(made.std) > 0):
            raise CheckpointError(f"{source}: its blueprint contradicts itself about the images: {made.image}")
        if not made.classes or min(made.std) <= 0:
            raise CheckpointError(f"{source}: its blueprint has no classes, or a deviation that is not above 0")
        return made

    @property
    def takes(self) -> str:
        """The images in words."""
        channels, height, width = self.image
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
        return f"{kind} images of {width} x {height} pixels"
