"""Gangs and their workers where Ray has no part in it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator.execution.cluster import quiet_settings
from orchestrator.spec.resources import ResourcesSpec

quiet_settings()
pytest.importorskip("ray")

from ray.exceptions import ActorDiedError  # noqa: E402

from orchestrator.errors import ResourceError  # noqa: E402
from orchestrator.execution import gang as room  # noqa: E402
from orchestrator.execution import worker  # noqa: E402
from orchestrator.execution.hub import Order  # noqa: E402
from orchestrator.execution.job import FAILURE, FATAL  # noqa: E402


class Closing:
    """A hub's `close`, which a gang calls at its end."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.close = SimpleNamespace(remote=lambda key, reason, left: self.reasons.append(reason))


@pytest.fixture
def gang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> room.Gang:
    monkeypatch.setattr(room.ray, "get", lambda value: value)
    made = room.Gang(room.terms(ResourcesSpec(num_workers=2), "hub", tmp_path))
    made._hub = Closing()
    return made


def test_a_gang_that_cannot_even_be_made_ends_with_the_reason(gang: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr("ray.train.torch.TorchTrainer.__init__", refused)
    gang._run("key", 1)
    assert gang._hub.reasons == ["the workers could not be kept running: no such argument"]


def test_a_gang_without_a_place_says_so(gang: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    def unplaced() -> None:
        raise WorkerGroupStartupTimeoutError(2)

    monkeypatch.setattr(gang, "_trainer", lambda key, mark: SimpleNamespace(fit=unplaced))
    gang._run("key", 1)
    assert gang._hub.reasons == ["there is no place for 2 workers of 1 CPU each any more"]
    assert gang._unplaced


def test_without_its_hub_a_gang_ends_the_session(gang: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> None:
        raise ValueError("no actor of this name")

    def died(*_: Any, **__: Any) -> None:
        raise ActorDiedError

    told = {FAILURE: room.HUB_DIED, FATAL: True, "done": True}
    monkeypatch.setattr(room.ray, "get_actor", gone)
    assert gang.carry_out(Order("job", 1)) == told
    gang._thread = threading.Thread(target=died)
    gang._hub = SimpleNamespace(order=SimpleNamespace(remote=died), close=SimpleNamespace(remote=died))
    assert gang.carry_out(Order("job", 1)) == told
    monkeypatch.setattr(gang, "_end", lambda: None)
    gang.close()


def test_workers_that_cannot_use_their_gpus_say_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    hub = SimpleNamespace(refuse=SimpleNamespace(remote=lambda gang, reason: told.append((gang, reason))))
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 2)
    monkeypatch.setattr(worker.ray, "get_actor", lambda name: hub)
    monkeypatch.setattr(worker.ray, "get", lambda value: value)
    monkeypatch.setattr(worker.ray, "get_gpu_ids", lambda: [0])
    monkeypatch.setattr(worker.train, "get_context", lambda: context)
    monkeypatch.setattr(worker, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="gpus_per_worker"):
        worker.work({"hub": "hub", "gang": "mine", "threads": torch.get_num_threads()})
    assert [gang for gang, _ in told] == ["mine"]
    assert "resources.gpus_per_worker" in told[0][1]


def test_a_worker_computes_float32_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    context = SimpleNamespace(get_world_rank=lambda: 1, get_world_size=lambda: 2)
    monkeypatch.setattr(worker.train, "get_context", lambda: context)
    monkeypatch.setattr(worker, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(worker.ray, "get_gpu_ids", list)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    try:
        world = worker._world(1)
        assert not torch.backends.cudnn.allow_tf32
        assert (world.rank, world.size, torch.get_num_threads()) == (1, 2, 1)
    finally:
        torch.set_num_threads(threads)
