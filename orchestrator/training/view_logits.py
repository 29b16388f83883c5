"""What a frozen teacher answers to all training images of one view."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.data import normalise
from orchestrator.data.views import View
from orchestrator.models.folding import folded
from orchestrator.training.loop import TrainingData
from orchestrator.training.precision import Precision, autocast

BATCH = 256
"""Images at a time; always the same, so that the answers do not depend on a run's batches."""


def view_logits(
    teacher: nn.Module, data: TrainingData, view: View, *, precision: Precision, device: torch.device
) -> Tensor:
    """The teacher's logits, float32 [N, C] on `device`, of every training image as `TrainingRun` shows it in that view.

    The teacher, on `device`, is put in eval mode and channels_last, as a run does with it.
    """
    train = data.train.to(device)
    example = torch.zeros(1, *train.images.shape[1:], device=device)
    teacher = folded(teacher.eval().to(memory_format=torch.channels_last), example)
    batches = []
    with torch.no_grad(), autocast(precision, device):
        for indices in torch.arange(len(train), device=device).split(BATCH):
            images, _ = data.augmentation.batch(train, indices, seed=view.seed, view=view.number)
            batches.append(teacher(normalise(images, data.mean, data.std)).float())
    return torch.cat(batches)
