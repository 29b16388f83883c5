"""Two processes that share a batch compute the losses, gradients and memories of one."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from feature_cases import CASES, Case, batch
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.training import World

INDICES = [3, 14, 1, 7, 10, 19, 0]
EXACT = [case for case in CASES if str(case) != "review"]
"""All but those whose norm is of each worker's samples."""


class _Both(nn.Module):
    """A linear student of each layer's features, and the loss of what it puts out."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        torch.manual_seed(3)
        student, _ = case.features(1)
        self.scales = nn.ParameterList(torch.rand_like(features[0]) for features in student)
        self.loss = case.make()

    def forward(self, world: World) -> torch.Tensor:
        start, end = world.share(len(INDICES))
        student, teacher = self.given
        return self.loss(
            [features[start:end] * scale for features, scale in zip(student, self.scales, strict=True)],
            [features[start:end] for features in teacher],
            batch(INDICES[start:end], workers=world.workers(len(INDICES))),
        )


def _results(world: World) -> dict[str, Any]:
    results = {}
    for case in EXACT:
        both = _Both(case)
        wrapped = DistributedDataParallel(both, broadcast_buffers=False) if world.size > 1 else both
        losses = []
        for step in range(2):
            both.zero_grad()
            both.given = case.features(len(INDICES), seed=step)
            loss = wrapped(world)
            loss.backward()
            losses.append(world.sum(loss.detach()) / world.size)
        results[str(case)] = {
            "losses": torch.stack(losses),
            "gradients": {name: parameter.grad for name, parameter in both.named_parameters()},
            "buffers": dict(both.named_buffers()),
        }
    return results


def _worker(rank: int, size: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    torch.save(_results(World(rank, size)), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("world")
    multiprocessing.spawn(_worker, (2, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return _results(World())


@pytest.mark.parametrize("name", map(str, EXACT))
def test_two_processes_give_the_result_of_one(name: str, shared: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    assert alone[name]["gradients"]
    for process in shared:
        torch.testing.assert_close(process[name], alone[name])
