"""The processes that train one model together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from orchestrator.distillation.batch import ALONE, Workers
from orchestrator.errors import UsageError

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """This process's place among the `size` that share each batch.

    With a size above 1 the default group of torch.distributed must be set up, with the same size and rank.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank must be 0 to {self.size - 1}, not {self.rank}")

    def share(self, count: int) -> tuple[int, int]:
        """Start and end of this process's contiguous part of `count` things; parts differ by 1 at most.

        The first process has a part wherever there is anything: its running statistics are those that are kept.
        """
        return -(-count * self.rank // self.size), -(-count * (self.rank + 1) // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, as a new tensor (or `values` itself in a world of one)."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def gather(self, values: Tensor) -> Tensor:
        """`values` ([n, ...], n may differ) of all processes, one rank after the other."""
        if self.size == 1:
            return values
        lengths = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(values)], device=values.device))
        return _gather(values, [int(length) for length in lengths])

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`, anything that pickles, for all processes; what the others pass is not looked at."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, device=self.device)
        return values[0]

    def workers(self, count: int) -> Workers:
        """How a batch of `count` samples is spread over the processes, by `share`."""
        return ALONE if self.size == 1 else _Sharing(self, count)

    def part_workers(self, count: int) -> Workers:
        """How a part of a batch of `count` samples is spread, where the other parts have passes of their own.

        Its `share_of_mean` are addends of the whole batch's mean; `mean` and `gather`, which would need all parts
        at once, raise `UsageError`.
        """
        return _Part(self, count)

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers of rank 0: running statistics are each process's own until then."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


SINGLE = World()
"""One process on the CPU."""


class _Sharing(Workers):
    """A batch of `batch_size` samples that the processes of `world` share by `World.share`."""

    def __init__(self, world: World, batch_size: int) -> None:
        self.count = world.size
        self._world = world
        self._batch_size = batch_size

    def mean(self, values: Tensor) -> Tensor:
        return self._world.sum(values.detach().sum()) / self._batch_size

    def share_of_mean(self, values: Tensor) -> Tensor:
        return values.sum() * (self.count / self._batch_size)

    def gather(self, values: Tensor) -> Tensor:
        shares = [World(rank, self.count).share(self._batch_size) for rank in range(self.count)]
        gathered: Tensor = _Gather.apply(values, shares, self._world.rank)
        return gathered


class _Part(_Sharing):
    """A part of a batch whose other parts have their own passes: losses add up, and nothing else is known of them."""

    def mean(self, values: Tensor) -> Tensor:
        raise _whole_batch_needed()

    def gather(self, values: Tensor) -> Tensor:
        raise _whole_batch_needed()


def _whole_batch_needed() -> UsageError:
    return UsageError(
        "a loss or a temperature relates all samples of a batch to each other, and they come in parts",
        hint="set training.accumulation to 1; more workers share a batch without such a limit",
    )


class _Gather(torch.autograd.Function):
    """All processes' values; its backward needs no communication, because all have the same gradient to give."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, shares: list[tuple[int, int]], rank: int) -> Tensor:
        ctx.share, ctx.size = shares[rank], len(shares)
        return _gather(values, [end - start for start, end in shares])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        start, end = ctx.share
        return gradient[start:end] * ctx.size, None, None


def _gather(values: Tensor, counts: list[int]) -> Tensor:
    """`values` of all processes in the order of ranks; rank r has `counts[r]` of them."""
    padded = values.new_zeros(max(counts), *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
