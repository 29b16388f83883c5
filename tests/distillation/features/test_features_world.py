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

from orchestrator import build, load_spec, names
from orchestrator.data import load_dataset
from orchestrator.spec.variants import variants
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


def _trained(world: World) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and state after an epoch of a whole run."""
    methods = [{"method": "fitnet"}, {"method": "rkd"}, {"method": "crd"}, {"method": "review", "norm": "group"}]
    content = {
        "name": "tiny",
        "data": {"dataset": "digits", "train_samples": 101},
        "teacher": {"model": "resnet14", "width": 0.5},
        "student": {"model": "resnet8", "width": 0.25, "norm": "group"},
        "distillation": {"features": methods},
        "training": {"epochs": 1, "batch_size": 32, "optimizer": {"lr": 0.01}, "precision": "float32"},
    }
    run, digits = variants(load_spec(content))[0].run, load_dataset("digits")
    splits, teacher = build.build_splits(run, digits, 0), build.build_teacher(run, digits)
    training = build.build_student_run(run, splits, teacher, world=world)
    return training.train_epoch(), training.state()


def _worker(rank: int, size: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    world = World(rank, size)
    torch.save({"losses": _results(world), "run": _trained(world)}, Path(folder) / f"{rank}.pt")
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
        torch.testing.assert_close(process["losses"][name], alone[name])


def test_two_processes_train_as_one(shared: list[dict[str, Any]]) -> None:
    metrics, state = _trained(World())
    for process in shared:
        together, state_together = process["run"]
        for name in (names.TRAIN_LOSS, *map(names.loss_metric, ("fitnet", "rkd", "crd", "review"))):
            assert together[name] == pytest.approx(metrics[name], rel=1e-3)
        for part in ("student", "features"):
            assert state_together[part].keys() == state[part].keys()
            torch.testing.assert_close(state_together[part], state[part], rtol=1e-3, atol=1e-4)
