"""Normalisation layers by name.

- `batch`: statistics of this worker's batch, so results depend on how many workers share a batch.
- `group`: statistics of each sample alone (Wu and He, "Group Normalization", 2018).
- `sync_batch`: statistics of the global batch, summed over the workers at every layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

NORMS = ("batch", "group", "sync_batch")
MAX_GROUPS = 8


def make_norm(norm: str, channels: int) -> nn.Module:
    """The layer for [B, channels, H, W]; raises `ValueError` for a name not in `NORMS`.

    `group` uses as many groups, up to `MAX_GROUPS`, as divide the channels evenly.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        groups = max(count for count in range(1, MAX_GROUPS + 1) if channels % count == 0)
        return nn.GroupNorm(groups, channels)
    if norm == "sync_batch":
        return SyncBatchNorm(channels)
    raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the global batch, on any device; a worker's part of it may be empty.

    torch's own refuses CPU tensors, and DistributedDataParallel a network on the CPU that has any. Without a
    process group, and in eval mode, it is plain batch norm.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, input: Tensor) -> Tensor:
        if self.training and distributed.is_available() and distributed.is_initialized():
            return self._over_workers(input)
        return super().forward(input)

    def _over_workers(self, input: Tensor) -> Tensor:
        values = input.to(self.weight.dtype)
        over = (0, 2, 3)
        local = values.new_tensor([values.numel() / values.shape[1]])
        total: Tensor = _SumOverWorkers.apply(torch.cat([values.sum(over), local]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = values - mean[:, None, None]
        squares: Tensor = _SumOverWorkers.apply(centred.square().sum(over))
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(squares / (count - 1), self.momentum)
        scale = self.weight * (squares / count + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class _SumOverWorkers(torch.autograd.Function):
    """All-reduce with a gradient: each worker's loss depends on every worker's summand."""

    @staticmethod
    def forward(ctx: Any, summand: Tensor) -> Tensor:
        total = summand.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total
