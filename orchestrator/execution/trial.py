"""The Tune trainables: each runs one trial after the other in the same actor, alone or with a gang of workers.

A trial that fails reports so as its last result instead of raising: its actor, and what that has loaded, goes
on to serve the next trial. Only the death of the process is left to Ray, and a process that cannot go on: Tune
replaces one that raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.errors import OrchestratorError, first_line
from orchestrator.execution.failing import breaks_gpu, failed
from orchestrator.execution.gang import Gang, terms
from orchestrator.execution.hub import Order, serving_hub
from orchestrator.execution.job import DESCRIBED, FAILURE, INTERRUPTED, Job
from orchestrator.spec.resources import ResourcesSpec

if TYPE_CHECKING:
    from orchestrator.execution.session import Session

HEAD_NODE = "node:__internal_head__"
"""Ray's resource that the node of its control plane has, once."""


class DistillationTrainable(tune.Trainable):
    """One trial of an experiment; `reset_config` takes the next one, and keeps data and teacher loaded."""

    _session: Session | None = None

    def setup(self, config: dict[str, Any]) -> None:
        # The driver imports this module too, and does without torch.
        from orchestrator.execution.cache import Cache
        from orchestrator.training.process import prepare_process

        prepare_process(config["threads"])
        self._cache = Cache()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._job = Job.from_json(new_config["job"])
        self._drop()
        return True

    def step(self) -> dict[str, Any]:
        try:
            result = self._train()
        except Exception as error:
            result = failed(error, self._job.folder)
            if breaks_gpu(error):
                self._session = None
                # Without its type, which the driver would need torch to read.
                raise OrchestratorError(first_line(error)) from None
        if result["done"]:
            self._drop()
        return result

    def _train(self) -> dict[str, Any]:
        """Train the next epoch; its metrics."""
        from orchestrator.execution.device import granted_device
        from orchestrator.execution.session import Session
        from orchestrator.training import World

        session = self._session
        first = session is None
        if session is None:
            session = self._session = Session(self._job, self._cache, World(device=granted_device()))
        # A process that was killed may have got to where the trial waits, and not have told it.
        metrics: dict[str, Any] = {**(session.last_epoch() if session.done else session.train_epoch())}
        if first:
            metrics[DESCRIBED] = session.described
        return {**metrics, "done": session.done}

    def _drop(self) -> None:
        """Let the last trial go, and its memory with it: others may share the GPU."""
        import torch

        self._session = None
        torch.cuda.empty_cache()

    def cleanup(self) -> None:
        """The actor ends: keep what an interrupted trial has trained."""
        if self._session is not None and not self._session.done:
            self._session.save()
        self._cache.close()


class GangTrainable(tune.Trainable):
    """One trial of an experiment on a gang of workers, which goes on to serve the next one."""

    def setup(self, config: dict[str, Any]) -> None:
        self._gang = Gang(config["gang"])
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._job = new_config["job"]
        self._epoch: int | None = None
        self._done = False
        return True

    def alive(self) -> None:
        """Nothing: that it can be called is what the hub wants to know."""

    def step(self) -> dict[str, Any]:
        described: dict[str, Any] = {}
        if self._epoch is None:
            opened = self._ask(epoch=0)
            if "epoch" not in opened:
                return opened
            self._epoch = opened["epoch"]
            described[DESCRIBED] = opened[DESCRIBED]
        result = self._ask(epoch=self._epoch + 1)
        if "epoch" not in result:
            return result
        self._epoch = result["epoch"]
        self._done = result["done"]
        return {**result, **described}

    def _ask(self, epoch: int) -> dict[str, Any]:
        answer = self._gang.carry_out(Order(self._job, epoch))
        self._done = FAILURE in answer or INTERRUPTED in answer
        return answer

    def cleanup(self) -> None:
        """The actor ends: keep what an interrupted trial has trained, and dismiss the workers."""
        if self._epoch and not self._done:
            self._gang.carry_out(Order(self._job, self._epoch, save=True))
        self._gang.close()


@dataclass(frozen=True)
class Actors:
    """What runs a session's trials."""

    trainable: Any
    """The class for Tune, with its resources."""
    gang: dict[str, Any] | None = None
    """What a trial's configuration has under "gang"."""
    stop: Callable[[], object] = lambda: None
    """Tells that the session is interrupted."""


@contextmanager
def actors_for(resources: ResourcesSpec, storage: str, restarts: int) -> Iterator[Actors]:
    """What runs trials of these resources meanwhile.

    `storage` is a path or URI for Ray Train's own files, `restarts` as `Hub` has it.
    """
    if resources.workers == (1, 1):
        taken = {"cpu": resources.cpus_per_worker, "gpu": resources.gpus_per_worker, **resources.custom_resources}
        yield Actors(_needing(DistillationTrainable, taken))
        return
    # The workers' resources are Ray Train's to take. A trial's own actor needs none; it stays where Ray's control
    # plane is, so that the loss of any other node costs it no more than its workers.
    trainable = _needing(GangTrainable, tune.PlacementGroupFactory([{HEAD_NODE: 0.001}]))
    with serving_hub(restarts) as (name, hub):
        yield Actors(trainable, terms(resources, name, storage), hub.stop.remote)


def _needing(trainable: type[tune.Trainable], resources: dict[str, float] | tune.PlacementGroupFactory) -> Any:
    """The class with its resources, by its own name wherever Ray shows its processes; Tune wraps it in another one."""
    wrapped = tune.with_resources(trainable, resources)
    wrapped.__qualname__ = trainable.__qualname__
    return wrapped
