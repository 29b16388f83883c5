"""What is known of a training batch beside its logits, and how it is spread over processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class Workers:
    """How a global batch is spread over processes; this base is one process that has all of it.

    Losses that look at single samples need `share_of_mean` alone. One that relates samples to each other
    gathers the global batch, so that it is the same loss however many processes share the batch. Each call
    may communicate: every process makes the same calls, in the same order, whatever its samples are.

    B_local samples are this process's, B_global those of all processes together; a process may have none of a batch.
    """

    count: int = 1
    """Processes that share the batch."""

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` [B_local] over the global batch: a scalar, without gradient, equal on all processes."""
        return values.detach().mean()

    def share_of_mean(self, values: Tensor) -> Tensor:
        """This process's addend of the global mean of `values` [B_local], times `count`; carries gradient.

        The mean of the results over processes is the mean of the values over the global batch, also where
        the processes' shares differ in size. So gradients that are averaged over processes, as
        DistributedDataParallel does, are the gradient of the global mean. Scalar.
        """
        return values.mean()

    def gather(self, values: Tensor) -> Tensor:
        """`values` [B_local, ...] of all processes as [B_global, ...], in the order of the global batch.

        Carries gradient to this process's values: where every process computes the same scalar from the
        result, gradients that are averaged over processes are those of one process with the whole batch.
        """
        return values


ALONE = Workers()
"""One process."""


@dataclass(frozen=True)
class Mix:
    """Labels of images that are each blended from two (mixup, CutMix).

    The batch's `target` is the first label. Where both labels are equal, or `share` is 1, the image counts as
    one that is not mixed.
    """

    partner: Tensor
    """int64 [B], the second label."""
    share: Tensor
    """Float [B] in [0, 1], the weight of the first label; the second has the rest."""

    def main_label(self, target: Tensor) -> Tensor:
        """int64 [B]: the label with the larger share, the first where they are equal; `target` is the first."""
        return torch.where(self.share >= 0.5, target, self.partner)


@dataclass(frozen=True)
class Batch:
    """One process's part of a training batch of B samples."""

    target: Tensor
    """int64 [B], labels; with `mix`, the first of two."""
    indices: Tensor
    """int64 [B], positions of the samples in the training set."""
    epoch: int
    """Completed epochs: 0 in the first."""
    seed: int
    """The run's, for whatever a loss draws at random: with `epoch` and `indices` it gives the same again."""
    mix: Mix | None = None
    """None where each image has one label."""
    workers: Workers = ALONE
