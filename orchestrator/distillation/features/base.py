"""What every feature loss shares: how it is made, called, and what it may rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from orchestrator.distillation._logits import at_least_float32
from orchestrator.distillation.batch import Batch
from orchestrator.distillation.warmup import risen

Shape = tuple[int, ...]
"""Of one sample's features: (C, H, W) of a map, (D,) of a vector."""

DefaultLayers = Literal["stages", "stages_and_embedding", "middle", "last", "embedding"]


@dataclass(frozen=True)
class Setup:
    """What a loss is built for; raises `ValueError` when the layers do not pair or a shape cannot be used."""

    student: Sequence[Shape]
    """One shape a layer, shallow to deep."""
    teacher: Sequence[Shape]
    labels: Tensor | None = None
    """int64 [N], of the training images in the data set's order; only losses with a memory of samples need them."""

    def __post_init__(self) -> None:
        if len(self.student) != len(self.teacher) or not self.student:
            raise ValueError(
                f"every layer of the student needs one of the teacher, got {len(self.student)} and {len(self.teacher)}"
            )
        for shape in (*self.student, *self.teacher):
            if len(shape) not in (1, 3) or min(shape) < 1:
                raise ValueError(f"features must be vectors (D,) or maps (C, H, W), got {tuple(shape)}")

    @property
    def pairs(self) -> list[tuple[Shape, Shape]]:
        return list(zip(self.student, self.teacher, strict=True))


class FeatureLoss(nn.Module, ABC):
    """A loss between features of student and teacher.

    It is a module, for connectors that bring the student's features to the teacher's shape: their parameters train
    with the student and are no part of it. Buffers hold what a loss remembers between batches; every worker must
    come to the same. A connector acts on the worker's own samples, before anything is gathered.

    The training loop calls it once a batch. Subclasses take a `Setup` first and their own options by keyword, and
    give `compute`.
    """

    default_layers: ClassVar[DefaultLayers] = "stages"
    """Layers where none are named: the ends of all stages, the middle or last one's, the classifier's input."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self._shapes = [*setup.student, *setup.teacher]

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], batch: Batch) -> Tensor:
        """The loss of the global batch, unweighted.

        Args:
            student: one tensor a layer, [B, *shape] with this worker's B samples; carry gradient.
            teacher: likewise; constants.
            batch: whose samples these are.

        Returns:
            Scalar, float32 or float64; see `Workers` for what each worker holds of it.

        Raises:
            ValueError: the shapes are not those of the setup.
        """
        given = [tuple(features.shape[1:]) for features in (*student, *teacher)]
        if given != [tuple(shape) for shape in self._shapes]:
            raise ValueError(f"{type(self).__name__} was built for features {self._shapes}, got {given}")
        with torch.autocast(student[0].device.type, enabled=False):
            return self.compute(
                [at_least_float32(features) for features in student],
                [at_least_float32(features.detach()) for features in teacher],
                batch,
            )

    @abstractmethod
    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        """As `forward`, of checked float32 features and outside autocast."""


@dataclass(frozen=True)
class FeatureTerm:
    """One feature loss in the training of a student."""

    method: str
    """Its name in logs."""
    loss: FeatureLoss
    weight: float
    """Factor of the loss in the total, > 0."""
    layers: tuple[str, ...]
    """Names of the student's layers, for `models.taps.Tap`; `teacher_layers` of the teacher's."""
    teacher_layers: tuple[str, ...]
    warmup_epochs: float = 0.0
    """Epochs over which the weight rises from 0."""

    def weight_at(self, progress: float) -> float:
        """The weight after `progress` epochs, fractions included."""
        return self.weight * risen(progress, self.warmup_epochs)
