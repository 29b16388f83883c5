import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from training_runs import DISTILL, make_run, network, training_data, without_times

from orchestrator import names
from orchestrator.data import Augmentation
from orchestrator.distillation.correlation import Correlation
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.decoupled import DecoupledKD
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.errors import DivergenceError
from orchestrator.training import World, evaluate

EPOCHS = 2


IN_PARTS = Criterion(0.3, 0.7, ConstantTemperature(4), DISTILL.adjustment)
LOSSES = {"dkd": DecoupledKD(), "dist": Correlation(10, 10)}


def _train(
    world: World,
    lr: float = 0.05,
    norm: str = "group",
    criterion: Criterion = DISTILL,
    epochs: int = EPOCHS,
    **settings: Any,
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    run = make_run(
        network(norm=norm),
        criterion,
        lr=lr,
        epochs=epochs,
        teacher=network(seed=5),
        data=training_data(augmentation=Augmentation(1, True)),
        world=world,
        settings=settings,
    )
    return [without_times(run.train_epoch()) for _ in range(epochs)], run.state()


def _gradient_through_workers(world: World) -> dict[str, Any]:
    """What `Workers` gives for five samples, and the gradient as DistributedDataParallel averages it."""
    weight = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    inputs = torch.arange(15, dtype=torch.float64).view(5, 3).sin()
    start, end = world.share(5)
    workers = world.workers(5)
    outputs = inputs[start:end] * weight
    gathered = workers.gather(outputs)
    share = workers.share_of_mean(outputs.square().sum(1))
    (share + (gathered @ gathered.T).exp().sum()).backward()
    assert weight.grad is not None
    return {
        "count": workers.count,
        "mean": workers.mean(outputs.sum(1)),
        "gathered": gathered.detach(),
        "share of mean": world.sum(share.detach()) / world.size,
        "gradient": world.sum(weight.grad) / world.size,
    }


def _train_by_losses(world: World) -> dict[str, Any]:
    """History and student for each logit loss, with standardised logits."""
    trained = {}
    for name, loss in LOSSES.items():
        criterion = Criterion(0.3, 0.7, DISTILL.temperature, DISTILL.adjustment, loss, standardize=True)
        history, state = _train(world, criterion=criterion, epochs=1)
        trained[name] = history, state["student"]
    return trained


def _worker(rank: int, size: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    world = World(rank, size)
    history, state = _train(world)
    try:
        _train(world, lr=1e30)
    except DivergenceError as error:
        diverged = (error.epoch, error.step)
    gathered = world.gather(torch.arange(rank + 1) + 10 * rank)
    result = {"history": history, "state": state, "diverged": diverged, "gathered": gathered.tolist()}
    result["workers"] = _gradient_through_workers(world)
    result["losses"] = _train_by_losses(world)
    result["parts"] = _train(world, criterion=IN_PARTS, accumulation=3)
    result["batch_norm"] = _train(world, norm="batch")
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(_worker, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["history"] == second["history"]
    assert first["diverged"] == second["diverged"]
    assert first["gathered"] == second["gathered"] == [0, 10, 11]

    _assert_validation_is_of_the_saved_weights([first["batch_norm"], second["batch_norm"]])

    assert first["workers"].pop("count") == second["workers"].pop("count") == 2
    alone = _gradient_through_workers(World())
    for name, value in first["workers"].items():
        torch.testing.assert_close(value, alone[name])
        assert torch.equal(value, second["workers"][name])

    _assert_same_training_by_losses(first["losses"], _train_by_losses(World()))
    _assert_same_training([first["parts"], second["parts"]], *_train(World(), criterion=IN_PARTS))
    _assert_same_training([(one["history"], one["state"]) for one in (first, second)], *_train(World()))


def _assert_same_training(several: list[Any], history: list[dict[str, float]], state: dict[str, Any]) -> None:
    (of_first, first), (_, second) = several
    for together, alone in zip(of_first, history, strict=True):
        assert together == pytest.approx(alone, rel=1e-3)
    assert first["student"].keys() == state["student"].keys()
    for name, weight in state["student"].items():
        torch.testing.assert_close(first["student"][name], weight, rtol=1e-3, atol=1e-4)
        assert torch.equal(first["student"][name], second["student"][name])


def _assert_same_training_by_losses(several: dict[str, Any], alone: dict[str, Any]) -> None:
    for name, (history, student) in alone.items():
        for together, single in zip(several[name][0], history, strict=True):
            assert together == pytest.approx(single, rel=1e-3)
        torch.testing.assert_close(several[name][1], student, rtol=1e-3, atol=1e-4)


def _assert_validation_is_of_the_saved_weights(results: list[Any]) -> None:
    """Each process has batch statistics of its own; validation and the state must have rank 0's."""
    (history, state), (_, other) = results
    assert all(torch.equal(value, other["student"][name]) for name, value in state["student"].items())
    student, data = network(norm="batch"), training_data()
    student.load_state_dict(state["student"])
    seen = evaluate(student, data.val, data.mean, data.std, batch_size=40)
    assert (history[-1][names.VAL_LOSS], history[-1][names.VAL_ACC1]) == pytest.approx((seen.loss, seen.acc1))


def test_shares_are_contiguous_and_complete() -> None:
    for count, size in ((7, 3), (64, 4), (2, 3), (1, 4), (0, 2)):
        shares = [World(rank, size).share(count) for rank in range(size)]
        assert shares[0][1] >= min(count, 1)
        assert [i for start, end in shares for i in range(start, end)] == list(range(count))
        assert max(end - start for start, end in shares) - min(end - start for start, end in shares) <= 1


def test_the_rank_must_fit_the_size() -> None:
    with pytest.raises(ValueError, match="rank must be 0 to 1, not 2"):
        World(2, 2)
