"""A gang: one Ray Train run whose workers train trial after trial, seen from the trial's actor."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError

from orchestrator.errors import first_line
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.hub import OVER, Order
from orchestrator.execution.job import FAILURE, FATAL
from orchestrator.spec.resources import ResourcesSpec

PLACEMENT_TRIES = 30
"""Times that Ray Train looks for places for the workers, each for RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S."""
WORKER_LOSSES = 10
"""Times that a gang has its workers started anew."""
RESTARTS = 2
"""Times that an order is given to new workers where a gang has ended over it."""
END_S = 6.0
"""Seconds that workers get to end; Ray kills a trial's actor that takes 10 s to end, and all that it has started."""


HUB_DIED = "the process that passes orders to the workers was killed: run the same command again to go on"
NETWORK = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Variables of the driver that workers get: which network they talk through, where a node has several."""


@dataclass(frozen=True)
class Terms:
    """What a gang is made of; plain data."""

    hub: str
    """The hub's name."""
    workers: tuple[int, int]
    """At least and at most."""
    cpus: int
    """Of each worker; `gpus` and `custom`, Ray's custom resources, likewise."""
    gpus: float
    custom: dict[str, float]
    placement: str
    """A placement strategy of Ray: PACK or SPREAD."""
    storage: str
    """Folder for Ray Train's own files."""
    environment: dict[str, str]
    """Variables that the workers get."""


class Gang:
    """The workers of one trial's actor; they are started when the first order is given."""

    def __init__(self, terms: dict[str, Any]) -> None:
        # What Ray Train reads, it reads in this process; on a cluster that was joined it has not been set yet.
        quiet_settings()
        self._terms = Terms(**terms)
        self._hub: Any = None
        self._key = ""
        self._thread: threading.Thread | None = None
        self._unplaced = False

    def carry_out(self, order: Order) -> dict[str, Any]:
        """Give an order and wait for its answer; a gang that has ended meanwhile is replaced."""
        try:
            return self._carried_out(order)
        except RayActorError:
            # The workers, too, end without the hub.
            return {FAILURE: HUB_DIED, FATAL: True, "done": True}

    def _carried_out(self, order: Order) -> dict[str, Any]:
        for _ in range(RESTARTS + 1):
            if self._thread is None:
                if order.save:
                    return {}
                self._start()
            answer: dict[str, Any] = ray.get(self._hub.order.remote(self._key, order))
            if OVER not in answer:
                return answer
            self._end()
            if self._unplaced:
                break
        # Nothing of this is the trial's doing: the others would fare alike.
        return {FAILURE: answer[OVER], FATAL: True, "done": True}

    def close(self) -> None:
        """End the workers, and wait for them."""
        if self._thread is not None:
            with contextlib.suppress(RayActorError):
                ray.get(self._hub.close.remote(self._key, "its trial ended"))
            self._end()

    def _start(self) -> None:
        try:
            self._hub = ray.get_actor(self._terms.hub)
        except ValueError:
            raise ActorDiedError from None
        self._key = uuid.uuid4().hex
        mark = ray.get(self._hub.open.remote(self._key))
        self._hub.watch.remote(self._key, ray.get_runtime_context().current_actor)
        self._thread = threading.Thread(target=self._run, args=(self._key, mark), name="gang", daemon=True)
        self._thread.start()

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.join(END_S)
        self._thread = None

    def _run(self, key: str, mark: int) -> None:
        """Run the workers to their end, in a thread of its own."""
        reason = "its workers ended"
        try:
            self._trainer(key, mark).fit()
        except Exception as error:
            cause = getattr(error, "controller_failure", error)
            # Ray does not export this error.
            self._unplaced = type(cause).__name__ == "WorkerGroupStartupTimeoutError"
            reason = f"the workers could not be kept running: {first_line(cause)}"
            if self._unplaced:
                mine = self._terms
                each = f"{mine.cpus} CPU" + (f" and {mine.gpus:g} GPU" if mine.gpus else "")
                reason = f"there is no place for {mine.workers[0]} workers of {each} each any more"
        finally:
            with contextlib.suppress(RayActorError):
                ray.get(self._hub.close.remote(key, reason, left=True))

    def _trainer(self, key: str, mark: int) -> Any:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

        from orchestrator.execution.worker import work

        class Trainer(TorchTrainer):
            """Without Ray Train's cleaner of placement groups; the hub removes them.

            The cleaner asks the Ray that was started last on its machine whether the trainer is alive, and removes the
            workers of one that is not known there.
            """

            def _create_default_callbacks(self) -> list[Any]:
                made = super()._create_default_callbacks()
                return [each for each in made if not isinstance(each, PlacementGroupCleanerCallback)]

        mine = self._terms
        low, high = mine.workers
        each = {"CPU": mine.cpus, "memory": mark, **({"GPU": mine.gpus} if mine.gpus else {}), **mine.custom}
        return Trainer(
            work,
            train_loop_config={"hub": mine.hub, "gang": key, "threads": mine.cpus},
            # NCCL refuses two processes on one GPU.
            torch_config=TorchConfig(backend="nccl" if mine.gpus >= 1 else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=high if low == high else (low, high),
                use_gpu=mine.gpus > 0,
                resources_per_worker=each,
                placement_strategy=mine.placement,
            ),
            run_config=RunConfig(
                name=key,
                storage_path=mine.storage,
                # The hub counts how often workers died over one epoch; a gang that ends is replaced.
                failure_config=FailureConfig(max_failures=WORKER_LOSSES, controller_failure_limit=PLACEMENT_TRIES),
                worker_runtime_env={"env_vars": mine.environment} if mine.environment else None,
            ),
        )


def terms(resources: ResourcesSpec, hub: str, storage: str) -> dict[str, Any]:
    """`Terms` as plain data, for trials of these resources; `storage` is a path or URI that all nodes know."""
    return asdict(
        Terms(
            hub=hub,
            workers=resources.workers,
            cpus=resources.cpus_per_worker,
            gpus=resources.gpus_per_worker,
            custom=resources.custom_resources,
            placement=resources.placement.upper(),
            storage=storage,
            environment={name: os.environ[name] for name in NETWORK if name in os.environ},
        )
    )
