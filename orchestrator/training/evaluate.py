"""A model's logits, loss and accuracy on labelled images."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from orchestrator.data import Images, normalise
from orchestrator.errors import OrchestratorError
from orchestrator.training.precision import Precision, autocast
from orchestrator.training.world import SINGLE, World


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


def evaluate(
    model: nn.Module,
    data: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    batch_size: int,
    precision: Precision = "float32",
    world: World = SINGLE,
) -> tuple[float, float]:
    """Mean cross entropy and top-1 accuracy in percent, of all processes together.

    Each process takes its share of `data`. Raises `NonFiniteLogitsError`, on all processes alike.
    """
    start, end = world.share(len(data))
    labels = data.labels[start:end].to(world.device)
    logits = _logits(model, data.images[start:end], mean, std, batch_size, world.device, precision)
    sums = torch.stack(
        [
            F.cross_entropy(logits, labels, reduction="sum").double(),
            (logits.argmax(1) == labels).sum().double(),
            _not_finite(logits).sum().double(),
        ]
    )
    loss, correct, not_finite = world.sum(sums).tolist()
    if not_finite:
        raise NonFiniteLogitsError(f"{int(not_finite)} of {len(data)} images have NaN or infinite logits")
    return loss / len(data), 100 * correct / len(data)


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
        with torch.no_grad(), autocast(precision, device):
            batches = [model(normalise(batch.to(device), mean, std)).float() for batch in images.split(batch_size)]
    finally:
        model.train(was_training)
    return torch.cat(batches)


def _not_finite(logits: Tensor) -> Tensor:
    """bool [N]."""
    return ~logits.isfinite().all(dim=1)
