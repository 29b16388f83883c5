"""Every feature loss on small features, for the tests of this folder and for spawned processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from orchestrator.catalog import FEATURE_LOSSES
from orchestrator.distillation.batch import ALONE, Batch, Workers
from orchestrator.distillation.features import FeatureLoss, Setup, Shape

SAMPLES, CLASSES = 20, 3
LABELS = torch.arange(SAMPLES) % CLASSES


@dataclass(frozen=True)
class Case:
    method: str
    student: Sequence[Shape] = ((2, 4, 4), (3, 2, 2))
    teacher: Sequence[Shape] = ((3, 4, 4), (4, 2, 2))
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, dtype: torch.dtype = torch.float64) -> FeatureLoss:
        torch.manual_seed(0)
        loss: FeatureLoss = FEATURE_LOSSES[self.method](Setup(self.student, self.teacher, LABELS), **self.options).to(
            dtype
        )
        return loss

    def features(
        self, size: int, dtype: torch.dtype = torch.float64, seed: int = 1
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Of student and teacher, `size` samples of both."""
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (
            [torch.randn(size, *shape, generator=generator, dtype=dtype) for shape in shapes]
            for shapes in (self.student, self.teacher)
        )
        return student, teacher

    def __str__(self) -> str:
        return "-".join([self.method, *map(str, self.options.values())])


ONE_VECTOR = {"student": ((3,),), "teacher": ((4,),)}
CASES = [
    Case("fitnet"),
    Case("attention_transfer"),
    Case("nst"),
    Case("sp"),
    Case("rkd", **ONE_VECTOR),
    Case("pkt", **ONE_VECTOR),
    Case("vid"),
    Case("crd", **ONE_VECTOR, options={"dim": 5, "negatives": 6}),
    Case("review", student=((2, 4, 4), (3, 2, 2), (3,)), teacher=((3, 4, 4), (4, 2, 2), (5,))),
    Case("review", student=((2, 4, 4), (3, 2, 2)), teacher=((3, 4, 4), (4, 2, 2)), options={"norm": "group"}),
]
METHODS = {case.method: case for case in reversed(CASES)}


def batch(indices: Sequence[int], epoch: int = 0, seed: int = 0, workers: Workers = ALONE) -> Batch:
    at = torch.tensor(indices)
    return Batch(LABELS[at], at, epoch, seed, workers=workers)
