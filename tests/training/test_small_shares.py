"""Four processes that share batches of fewer samples than they are, and take over from other numbers of processes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from training_runs import DISTILL, images, make_run, network, without_times

from orchestrator import build, load_spec
from orchestrator.catalog import FEATURE_LOSSES
from orchestrator.data import Augmentation, load_dataset
from orchestrator.data.mixing import Mixing
from orchestrator.distillation.correlation import Correlation
from orchestrator.distillation.criterion import Criterion
from orchestrator.spec.variants import variants
from orchestrator.training import Interrupted, TrainingData, World

SIZE = 4
TINY = TrainingData(images(6), images(3, seed=1), (0.3,), (0.2,), Augmentation(1, True))
"""Six images to train on, in batches of four and of two; three to validate on."""
MIXED = TrainingData(TINY.train, TINY.val, TINY.mean, TINY.std, Augmentation(1, True, mixing=Mixing(0.5, 0.5, 1.0)))
RELATED = Criterion(0.3, 0.7, DISTILL.temperature, DISTILL.adjustment, Correlation(10, 10), standardize=True)


def _run(world: World, norm: str = "group", data: TrainingData = TINY, **settings: Any) -> Any:
    criterion = settings.pop("criterion", DISTILL)
    return make_run(
        network(norm=norm),
        criterion,
        epochs=3,
        batch_size=4,
        data=data,
        teacher=network(seed=5),
        world=world,
        **settings,
    )


def _history(run: Any) -> tuple[list[dict[str, float]], dict[str, Any]]:
    history = []
    while not run.done:
        history.append(without_times(run.train_epoch()))
    return history, run.state()


def _featured(world: World) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """An epoch with every feature loss, in batches of three images and one of two."""
    methods = [{"method": method, **({"norm": "group"} if method == "review" else {})} for method in FEATURE_LOSSES]
    content = {
        "name": "tiny",
        "data": {"dataset": "digits", "train_samples": 11, "validation_fraction": 0.02},
        "teacher": {"model": "resnet14", "width": 0.5, "norm": "group"},
        "student": {"model": "resnet8", "width": 0.25, "norm": "group"},
        "distillation": {"features": methods},
        "training": {"epochs": 1, "batch_size": 3, "optimizer": {"lr": 0.0001}, "precision": "float32"},
    }
    run, digits = variants(load_spec(content))[0].run, load_dataset("digits")
    splits, teacher = build.build_splits(run, digits, 0), build.build_teacher(run, digits)
    return _history(build.build_student_run(run, splits, teacher, world=world))


def _all(world: World) -> dict[str, Any]:
    results = {
        "group": _history(_run(world)),
        "sync_batch": _history(_run(world, norm="sync_batch")),
        "mixed": _history(_run(world, data=MIXED)),
        "related": _history(_run(world, criterion=RELATED)),
        "featured": _featured(world),
    }
    resumed = _run(world)
    resumed.restore(_after_one_epoch())
    results["resumed"] = _history(resumed)
    return results


def _after_one_epoch() -> dict[str, Any]:
    """The state that a single process leaves."""
    run = _run(World())
    run.train_epoch()
    return dict(run.state())


def _left_at(world: World) -> int:
    """The step at which training was left when the first process alone was told to stop."""
    polls = 0

    def asked() -> bool:
        nonlocal polls
        polls += 1
        return polls == 3

    steps = 0
    student = network()
    data = TrainingData(images(60), TINY.val, TINY.mean, TINY.std, Augmentation(0, False))
    run = make_run(student, epochs=1, batch_size=1, data=data, world=world, should_stop=asked)

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    student.register_forward_pre_hook(count)
    with pytest.raises(Interrupted):
        run.train_epoch()
    assert polls == (3 if world.rank == 0 else 0)
    return steps


def _worker(rank: int, size: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    world = World(rank, size)
    batch_norm = _history(_run(world, norm="batch"))
    result = {"all": _all(world), "batch": batch_norm, "left": _left_at(world), "told": world.broadcast([rank, "text"])}
    dist.destroy_process_group()
    result["shrunk"] = _shrinking(rank, folder)
    torch.save(result, Path(folder) / f"{rank}.pt")


def _shrinking(rank: int, folder: str) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """What a process sees of a run whose epochs have four processes, two, and one."""
    history: list[dict[str, float]] = []
    state: dict[str, Any] = {}
    for size in (4, 2, 1):
        if rank >= size:
            break
        dist.init_process_group("gloo", init_method=f"file://{folder}/of-{size}", rank=rank, world_size=size)
        run = _run(World(rank, size))
        if state:
            run.restore(state)
        history.append(without_times(run.train_epoch()))
        state = run.state()
        dist.destroy_process_group()
    return history, state


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("small")
    multiprocessing.spawn(_worker, (SIZE, str(folder)), nprocs=SIZE)
    return [torch.load(folder / f"{rank}.pt") for rank in range(SIZE)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return _all(World())


@pytest.mark.parametrize("name", ["group", "sync_batch", "mixed", "related", "featured", "resumed"])
def test_processes_without_a_sample_change_nothing(name: str, shared: Any, alone: dict[str, Any]) -> None:
    history, state = alone[name]
    for process in shared:
        together, state_together = process["all"][name]
        assert together == [pytest.approx(epoch, rel=1e-3, abs=1e-4) for epoch in history]
        torch.testing.assert_close(state_together["student"], state["student"], rtol=1e-3, atol=1e-4)


def test_resuming_is_continuing(alone: dict[str, Any]) -> None:
    assert alone["resumed"][0] == alone["group"][0][1:]


def test_a_run_goes_on_with_fewer_processes_each_time(shared: Any, alone: dict[str, Any]) -> None:
    (whole, ended), (history, state) = alone["group"], shared[0]["shrunk"]
    assert history == [pytest.approx(epoch, rel=1e-3, abs=1e-4) for epoch in whole]
    assert [len(process["shrunk"][0]) for process in shared] == [3, 2, 1, 1]
    torch.testing.assert_close(state["student"], ended["student"], rtol=1e-3, atol=1e-4)


def test_batch_norms_of_each_process_stay_finite_and_end_as_the_first_ones(shared: Any) -> None:
    first = shared[0]["batch"][1]["student"]
    assert all(value.isfinite().all() for value in first.values())
    # They are those of a process that had images.
    assert all(value > 0 for name, value in first.items() if name.endswith("num_batches_tracked"))
    for process in shared[1:]:
        assert all(torch.equal(value, process["batch"][1]["student"][name]) for name, value in first.items())


def test_all_processes_leave_an_epoch_at_the_same_step(shared: Any) -> None:
    assert len({process["left"] for process in shared}) == 1


def test_what_the_first_process_has_is_told_to_all(shared: Any) -> None:
    assert [process["told"] for process in shared] == [[0, "text"]] * SIZE
