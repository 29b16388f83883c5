"""A model's logits, loss, accuracy and calibration on labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from orchestrator.data import Images, normalise
from orchestrator.errors import OrchestratorError
from orchestrator.training.precision import Precision, autocast
from orchestrator.training.world import SINGLE, World

ECE_BINS = 15
"""Bins of confidence, equally wide, open below and closed above."""


class NonFiniteLogitsError(OrchestratorError):
    """A model's logits for some image are NaN or infinite."""


def predict_logits(
    model: nn.Module,
    images: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision = "float32",
) -> Tensor:
    """Logits, float32 [N, C] on `device`, of uint8 [N, C', H, W] images, without augmentation.

    The model, on `device`, is in eval mode meanwhile. Raises `NonFiniteLogitsError` naming the first image.
    """
    logits = _logits(model, images, mean, std, batch_size, device, precision)
    not_finite = _not_finite(logits)
    if not_finite.any():
        raise NonFiniteLogitsError(f"the logits of image {int(not_finite.nonzero()[0])} are NaN or infinite")
    return logits


@dataclass(frozen=True)
class Evaluation:
    """How a model does on labelled images."""

    loss: float
    """Mean cross entropy, in nats."""
    acc1: float
    """Top-1 accuracy, in percent."""
    ece: float
    """Expected calibration error, in percent."""
    classes: tuple[ClassCount, ...]
    """By class."""


class ClassCount(NamedTuple):
    """What became of the images of one class."""

    images: int
    correct: int
    predicted: int
    """Images of any class that the model takes for this one."""


def evaluate(
    model: nn.Module,
    data: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    batch_size: int,
    precision: Precision = "float32",
    world: World = SINGLE,
) -> Evaluation:
    """Loss, accuracy and calibration, of all processes together.

    Each process takes its share of `data`. Raises `NonFiniteLogitsError`, on all processes alike.
    """
    start, end = world.share(len(data))
    labels = data.labels[start:end].to(world.device)
    logits = _logits(model, data.images[start:end], mean, std, batch_size, world.device, precision)
    count = logits.shape[1]
    predicted = logits.argmax(1)
    correct = predicted == labels
    confidence = logits.double().softmax(1).amax(1)
    # NaN has no bin; it is refused below.
    bins = (confidence.nan_to_num(0) * ECE_BINS).ceil().long().sub(1).clamp(0, ECE_BINS - 1)
    gap = torch.bincount(bins, weights=correct.double() - confidence, minlength=ECE_BINS)
    tallies = [torch.bincount(group, minlength=count) for group in (labels, labels[correct], predicted)]
    sums = [F.cross_entropy(logits, labels, reduction="sum"), correct.sum(), _not_finite(logits).sum()]
    parts = [torch.stack([value.double() for value in sums]), gap, *(tally.double() for tally in tallies)]
    loss, right, not_finite, *rest = world.sum(torch.cat(parts)).tolist()
    if not_finite:
        raise NonFiniteLogitsError(f"{int(not_finite)} of {len(data)} images have NaN or infinite logits")
    gaps, by_class = rest[:ECE_BINS], [int(value) for value in rest[ECE_BINS:]]
    classes = zip(by_class[:count], by_class[count : 2 * count], by_class[2 * count :], strict=True)
    return Evaluation(
        loss=loss / len(data),
        acc1=100 * right / len(data),
        ece=100 * sum(map(abs, gaps)) / len(data),
        classes=tuple(ClassCount(*counts) for counts in classes),
    )


def _logits(
    model: nn.Module,
    images: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int,
    device: torch.device,
    precision: Precision,
) -> Tensor:
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(precision, device):
            batches = [model(normalise(batch.to(device), mean, std)).float() for batch in images.split(batch_size)]
    finally:
        model.train(was_training)
    return torch.cat(batches)


def _not_finite(logits: Tensor) -> Tensor:
    """bool [N]."""
    return ~logits.isfinite().all(dim=1)
