"""Contrastive representation distillation (Tian et al., 2020)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features.base import DefaultLayers, FeatureLoss, Setup
from orchestrator.distillation.features.draws import draw
from orchestrator.distillation.features.shapes import channels, pooled

_SMALLEST = 1e-7


class Contrastive(FeatureLoss):
    """-mean_x [ log h(x, x) + sum_n log(1 - h(x, n)) ], once for each network against the other's memory.

    h(x, y) = P / (P + K / N) with P = exp(z_x . m_y / temperature) / Z (equations 10 to 19): z_x is the linear
    embedding of a network's features, of length 1, m_y that of sample y in the other network's memory. N are the
    training samples, K the negatives: samples of other classes, drawn anew in every epoch from the run's seed and
    the sample's index alone, so that they do not depend on how samples are spread over batches and workers. Z is
    set by the first batch and stays. After each batch the memories move towards its embeddings.

    Maps are averaged over places first. One layer only.

    Args:
        dim: values of an embedding.
        negatives: K; at most as many as every sample has samples of other classes.
        temperature: > 0.
        momentum: share of its old value that a sample's memory keeps, in [0, 1).

    Raises:
        ValueError: an option is out of its range, there is more than one layer, or the labels are missing or
            all the same.
    """

    default_layers: ClassVar[DefaultLayers] = "embedding"
    memory_student: Tensor
    memory_teacher: Tensor
    normaliser_student: Tensor
    normaliser_teacher: Tensor
    by_class: Tensor
    class_start: Tensor
    class_size: Tensor
    labels: Tensor

    def __init__(
        self,
        setup: Setup,
        *,
        dim: int = 128,
        negatives: int = 1024,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__(setup)
        if dim < 1 or negatives < 1:
            raise ValueError(f"dim and negatives must be 1 or above, got {dim} and {negatives}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be finite and > 0, got {temperature}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if len(setup.pairs) > 1:
            raise ValueError(f"contrastive distillation takes one layer, got {len(setup.pairs)}")
        if setup.labels is None:
            raise ValueError("contrastive distillation needs the labels of the training samples")
        sizes = torch.bincount(setup.labels)
        samples = len(setup.labels)
        most = samples - int(sizes.max())
        if most == 0:
            raise ValueError("contrastive distillation needs training samples of two classes or more")
        self.negatives = min(negatives, most)
        self.temperature = temperature
        self.momentum = momentum
        self.embed_student = nn.Linear(channels(setup.student[0]), dim)
        self.embed_teacher = nn.Linear(channels(setup.teacher[0]), dim)
        # A cube's uniform values of this size have an expected squared length of 1.
        for side in ("student", "teacher"):
            self.register_buffer(f"memory_{side}", (2 * torch.rand(samples, dim) - 1) * math.sqrt(3 / dim))
            self.register_buffer(f"normaliser_{side}", torch.zeros(()))
        self.register_buffer("by_class", setup.labels.argsort(stable=True), persistent=False)
        self.register_buffer("class_start", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("class_size", sizes, persistent=False)
        self.register_buffer("labels", setup.labels.clone(), persistent=False)

    def compute(self, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
        z_student = functional.normalize(self.embed_student(pooled(student[0])), dim=1)
        z_teacher = functional.normalize(self.embed_teacher(pooled(teacher[0])), dim=1)
        # The positive comes first.
        others = torch.cat([batch.indices[:, None], self.draw_negatives(batch)], 1)
        per_sample = self._contrast(z_student, self.memory_teacher, self.normaliser_student, others, batch)
        per_sample = per_sample + self._contrast(z_teacher, self.memory_student, self.normaliser_teacher, others, batch)
        with torch.no_grad():
            indices = batch.workers.gather(batch.indices)
            for memory, z in ((self.memory_student, z_student), (self.memory_teacher, z_teacher)):
                self._remember(memory, indices, batch.workers.gather(z.detach()))
        return batch.workers.share_of_mean(per_sample)

    def draw_negatives(self, batch: Batch) -> Tensor:
        """int64 [B, K]: for each sample others of different classes, with repeats."""
        own = self.labels[batch.indices]
        start, size = self.class_start[own][:, None], self.class_size[own][:, None]
        place = draw(batch.seed, batch.epoch, batch.indices, self.negatives, len(self.labels) - size)
        return self.by_class[torch.where(place < start, place, place + size)]

    def _contrast(self, z: Tensor, memory: Tensor, normaliser: Tensor, others: Tensor, batch: Batch) -> Tensor:
        """[B]: the loss of embeddings z [B, dim] against the rows `others` [B, 1 + K] of the memory."""
        rows = memory[others].to(z.dtype)
        scores = (rows @ z[:, :, None]).squeeze(2) / self.temperature
        with torch.no_grad():
            estimate = batch.workers.mean(scores.exp().mean(1)) * len(memory)
            normaliser.copy_(torch.where(normaliser > 0, normaliser, estimate))
        log_p = scores - normaliser.log()
        noise = self.negatives / len(memory)
        log_total = (log_p.exp() + noise + _SMALLEST).log()
        return -(log_p[:, 0] - log_total[:, 0]) - (math.log(noise) - log_total[:, 1:]).sum(1)

    def _remember(self, memory: Tensor, indices: Tensor, z: Tensor) -> None:
        moved = self.momentum * memory[indices] + (1 - self.momentum) * z.to(memory.dtype)
        memory.index_copy_(0, indices, functional.normalize(moved, dim=1))
