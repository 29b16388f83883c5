"""The processes that train one model together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

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
        """Start and end of this process's contiguous part of `count` things; parts differ by 1 at most."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

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
        parts: list[Tensor] = [values] * self.size
        lengths = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in parts]
        dist.all_gather(lengths, torch.tensor([len(values)], device=values.device))
        counts = [int(length) for length in lengths]
        padded = values.new_zeros(max(counts), *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers of rank 0: running statistics are each process's own until then."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


SINGLE = World()
"""One process on the CPU."""
