"""Small runs for the tests of the training room; importable by spawned processes."""

from typing import Any

import torch
from torch import nn

from orchestrator.data import Augmentation, Images
from orchestrator.distillation.adjustment import ProbabilityShift
from orchestrator.distillation.criterion import Criterion, CriterionOutput
from orchestrator.distillation.temperature import FLSWTemperature
from orchestrator.models import build_model
from orchestrator.training import TrainingData, TrainingRun, TrainingSettings
from orchestrator.training.optim import constant, sgd

CLASSES = 4
CE_ONLY = Criterion(1.0, 0.0, FLSWTemperature(4, 20, 1, 1, 12), ProbabilityShift())
DISTILL = Criterion(0.3, 0.7, FLSWTemperature(4, 20, 1, 1, 8), ProbabilityShift())


class NanAt(Criterion):
    """Cross entropy that turns NaN at one call, counted from 1."""

    def __init__(self, call: int) -> None:
        super().__init__(1.0, 0.0, CE_ONLY.temperature, CE_ONLY.adjustment)
        self.left = call

    def __call__(self, *args: Any, **kwargs: Any) -> CriterionOutput:
        self.left -= 1
        output = super().__call__(*args, **kwargs)
        return (
            CriterionOutput(output.total * float("nan"), output.loss_ce, output.loss_kd) if self.left == 0 else output
        )


def images(count: int, seed: int = 0) -> Images:
    """Noise with a bright quadrant that is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    pixels = torch.randint(0, 120, (count, 1, 8, 8), generator=generator)
    for pixel, label in zip(pixels, labels.tolist(), strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        pixel[:, row : row + 4, column : column + 4] += 60
    return Images(pixels.to(torch.uint8), labels)


def network(seed: int = 0, norm: str = "group") -> nn.Module:
    torch.manual_seed(seed)
    return build_model("resnet8", num_classes=CLASSES, in_channels=1, width=0.25, norm=norm)


def training_data(count: int = 101, augmentation: Augmentation | None = None) -> TrainingData:
    return TrainingData(
        train=images(count),
        val=images(40, seed=1),
        mean=(0.3,),
        std=(0.2,),
        augmentation=Augmentation(0, False) if augmentation is None else augmentation,
    )


def make_run(
    student: nn.Module | None = None,
    criterion: Criterion = CE_ONLY,
    *,
    lr: float = 0.05,
    epochs: int = 4,
    batch_size: int = 32,
    settings: dict[str, Any] | None = None,
    data: TrainingData | None = None,
    **kwargs: Any,
) -> TrainingRun:
    student = network() if student is None else student
    return TrainingRun(
        student,
        criterion,
        kwargs.pop("optimizer", None) or sgd(student.parameters(), lr=lr, weight_decay=1e-4),
        kwargs.pop("schedule", constant(epochs)),
        TrainingSettings(epochs=epochs, batch_size=batch_size, seed=3, **(settings or {})),
        training_data() if data is None else data,
        **kwargs,
    )


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if not key.startswith(("time/", "throughput/"))}
