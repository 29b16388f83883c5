"""What each worker of a gang does: take orders from the hub and carry them out, in step with the others."""

from __future__ import annotations

import contextlib
from typing import Any

import ray
import torch
from ray import train
from ray.exceptions import RayActorError
from ray.train.torch import get_device
from torch import distributed as dist

from orchestrator.errors import DivergenceError, first_line
from orchestrator.execution.cache import Cache
from orchestrator.execution.device import granted_device
from orchestrator.execution.failing import failed
from orchestrator.execution.hub import Order
from orchestrator.execution.job import DESCRIBED, INTERRUPTED, Job
from orchestrator.execution.session import Session
from orchestrator.training import Interrupted, World
from orchestrator.training.process import prepare_process

_LOST_PEER = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
"""Words of the errors that a process gets when another one dies, where their type does not tell."""


def work(config: dict[str, Any]) -> None:
    """Carry out orders until there are no more; runs in every worker of a Ray Train run."""
    # Where the hub has died there is nobody to work for.
    with contextlib.suppress(RayActorError):
        hub = ray.get_actor(config["hub"])
        try:
            worker = Worker(hub, config["gang"], _world(config["threads"]))
        except Exception as error:
            # It would fail again and again, in new workers too.
            ray.get(hub.refuse.remote(config["gang"], f"a worker could not begin: {first_line(error)}"))
            raise
        worker.serve()


def _world(threads: int) -> World:
    prepare_process(threads)
    context = train.get_context()
    # Workers of a node see each other's GPUs.
    return World(context.get_world_rank(), context.get_world_size(), granted_device(get_device()))


class Worker:
    """One process of a gang."""

    def __init__(self, hub: Any, gang: str, world: World) -> None:
        self._hub = hub
        self._gang = gang
        self._world = world
        self._generation = 0
        self._cache = Cache()
        self._session: Session | None = None
        self._stopping = hub.stopping.remote()

    def serve(self) -> None:
        """Carry out orders until the hub has no more for this worker."""
        enlisted = None
        if self._world.rank == 0:
            enlisted = ray.get(self._hub.enlist.remote(self._gang, self._world.size))
        self._generation = self._world.broadcast(enlisted)
        turn = 0
        while (called := ray.get(self._hub.next.remote(self._gang, self._generation, turn))) is not None:
            turn, order = called
            self._serve(turn, order)
        self._cache.close()

    def _serve(self, turn: int, order: Order) -> None:
        try:
            result = self._carry_out(turn, order)
        except Interrupted:
            # What was trained of the epoch cannot be taken back.
            self._session, result = None, {INTERRUPTED: True}
        except DivergenceError as error:
            self._session, result = None, self._failed(error, order)
        except Exception as error:
            # The others may wait for this process: Ray Train starts all of them anew. Where one has died, they
            # go on with the order; its trial has not failed.
            if not _lost_peer(error):
                self._answer(turn, self._failed(error, order), in_step=False)
            raise
        if self._session is None:
            # Others may share the GPU.
            torch.cuda.empty_cache()
        if result is not None and self._world.rank == 0:
            self._answer(turn, result)

    def _carry_out(self, turn: int, order: Order) -> dict[str, Any] | None:
        """The answer, of which the first process's counts; None where another one has given it."""
        job = Job.from_json(order.job)
        if self._session is None or self._session.job != job:
            # What the last trial held goes before the next one's comes.
            self._session = None
            torch.cuda.empty_cache()
            if order.save:
                return {}
            if not self._load(turn, order, job):
                return None
            self._session = Session(job, self._cache, self._world, self._asked_to_stop)
        session = self._session
        if order.save:
            session.save()
            return {}
        if order.epoch == 0:
            return {"epoch": session.training.epoch, DESCRIBED: session.described}
        result: dict[str, Any] = {}
        while session.training.epoch < order.epoch and not session.done:
            result = {**session.train_epoch()}
        # Those before have answered the epoch that the checkpoint holds, or have died before they could.
        result = {**(result or session.last_epoch()), "done": session.done}
        if session.done:
            self._session = None
        return result

    def _load(self, turn: int, order: Order, job: Job) -> bool:
        """Load data and teacher, which can fail in one process alone; whether all processes have them."""
        problem = None
        try:
            self._cache.load(job)
        except Exception as error:
            problem = error
            self._answer(turn, self._failed(error, order))
        failures = self._world.sum(torch.tensor([int(problem is not None)], device=self._world.device))
        return not failures.item()

    def _failed(self, error: Exception, order: Order) -> dict[str, Any]:
        return failed(error, Job.from_json(order.job).folder)

    def _answer(self, turn: int, result: dict[str, Any], *, in_step: bool = True) -> None:
        ray.get(self._hub.answer.remote(self._gang, self._generation, turn, result, in_step=in_step))

    def _asked_to_stop(self) -> bool:
        return bool(ray.wait([self._stopping], timeout=0)[0])


def _lost_peer(error: Exception) -> bool:
    """Whether a process has lost another one, or the hub, and nothing is wrong with itself."""
    if isinstance(error, (dist.DistError, RayActorError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST_PEER)
