"""Whether what was written gives what the student gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.data.augment import normalise
from orchestrator.errors import OrchestratorError
from orchestrator.export.blueprint import Blueprint
from orchestrator.export.student import Student

BATCHES = (1, 3, 60)
"""Sizes of the batches that are compared: one, which exporters like to fix, and others."""
TOLERANCE = 1e-4
"""Largest difference of two logits, by the largest logit: float32 in another order of summation differs by 1e-6."""
_SEED = 0


@dataclass(frozen=True)
class Check:
    """How far the logits of an exported file are from those of the student as it was trained."""

    images: int
    difference: float
    """Largest absolute difference of two logits."""
    largest: float
    """Largest absolute logit of the student."""
    same_class: int
    """Images whose top class is the same."""

    def __str__(self) -> str:
        return (
            f"largest difference of {self.images} images' logits {self.difference:.1e} (logits up to "
            f"{self.largest:.3g}), same class for {self.same_class}"
        )


def check(student: Student, logits: Callable[[Tensor], Tensor], name: object) -> Check:
    """Compare with the student's network as trials evaluate it, on images of noise; `name` is told in errors.

    Raises `OrchestratorError` where logits differ by more than `TOLERANCE`, or a batch's size is refused.
    """
    images = noise(student.blueprint, sum(BATCHES))
    blueprint = student.blueprint
    with torch.inference_mode():
        expected = student.network(normalise(images, blueprint.mean, blueprint.std))
        try:
            found = torch.cat([logits(batch.float() / 255) for batch in images.split(list(BATCHES))])
        except Exception as error:  # of whichever library runs it
            raise OrchestratorError(f"{name} cannot be run: {error}") from error
    difference = float((found - expected).abs().max())
    largest = float(expected.abs().max())
    if not difference <= TOLERANCE * max(largest, 1.0):
        raise OrchestratorError(
            f"{name} does not give what the student gives: logits of up to {largest:.3g} differ by {difference:.2g}",
            hint="do not use it; please report it with the versions that `orchestrator --version` tells",
        )
    same = int((found.argmax(1) == expected.argmax(1)).sum())
    return Check(len(images), difference, largest, same)


def noise(blueprint: Blueprint, count: int) -> Tensor:
    """Images of noise, uint8 [count, C, H, W], always the same."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randint(0, 256, (count, *blueprint.image), dtype=torch.uint8, generator=generator)
