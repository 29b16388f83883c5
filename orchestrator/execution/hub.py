"""Where trials leave orders for their gangs, and gangs their answers; a small actor, one for a session.

It belongs to the driver, so that it outlives the processes of trials and of workers, and removes what a dead one
has left. Nobody polls: who has to wait, waits in a call. Where the hub itself dies, the session ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group
from ray.util.state import list_jobs
from ray.util.state.exception import RayStateApiException

from orchestrator.execution.job import DIED, FAILURE, FATAL, INTERRUPTED

OVER: Final = "over"
"""Key of an answer that no worker gave: why the gang has ended."""
GRACE_S = 3.0
"""After a stop, epochs that end within this time are completed; longer ones are left in the middle."""
PATIENCE_S = 3.0
"""Seconds that workers get, after that, to leave an epoch; what then still runs is not waited for."""
LEAVING_S = 20.0
"""Seconds that the session waits for its gangs to end."""
SWEEPS = 4
"""Times, a second apart, that a dead trial's places are looked for: what it started may outlive it so long."""
GANGS = 1024
"""Gangs of a session that are told apart by the memory, in bytes, that they ask Ray for.

Ray keeps the places of a dead trial's workers, does not tell whose they are, and lets nobody name them. An amount of
memory below 16 MiB, which Ray only counts, is the one mark that shows.
"""


@dataclass(frozen=True)
class Order:
    """What a gang is to do next. It can be given again to new workers, whatever the last ones had done of it."""

    job: str
    """The trial, as `Job.to_json` gives it; workers that have another one drop that."""
    epoch: int
    """Train until this many epochs are complete, and answer with the last one's metrics."""
    save: bool = False
    """Write a checkpoint of what is complete, instead of training; answered as soon as the first process has."""


@dataclass
class Gang:
    """What the hub knows of one gang."""

    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    generation: int = 0
    """Groups of workers so far: each starts anew after a death or a change of size."""
    size: int = 0
    working: bool = False
    """Whether the latest group takes orders."""
    taken: bool = False
    """Whether it has taken the order that is open."""
    turn: int = 0
    """Orders so far."""
    order: Order | None = None
    answer: dict[str, Any] | None = None
    deaths: int = 0
    """Groups of workers that died over the last order."""
    over: str | None = None
    """Why the gang has ended."""
    left: bool = False
    """Whether its workers have ended in good order."""
    mark: int = 0
    """Bytes of memory of each worker, by which its place is known."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """The orders and answers of a session's gangs, by the gang's key.

    An epoch is begun again after its workers died, `restarts` times before its trial fails.
    """

    def __init__(self, restarts: int, marks: range = range(1, GANGS)) -> None:
        self._restarts = restarts
        self._marks = marks
        self._gangs: dict[str, Gang] = {}
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    # What a trial calls.

    async def open(self, key: str) -> int:
        """Make a gang known; returns a mark that no other one has, which it waits for where all are taken."""
        while not (free := set(self._marks) - {gang.mark for gang in self._gangs.values()}):
            await asyncio.sleep(1)
        self._gangs[key] = Gang(mark=min(free))
        return self._gangs[key].mark

    async def order(self, key: str, order: Order) -> dict[str, Any]:
        """Give an order and wait for its answer: the result of an epoch, or what says why there is none.

        The answer has the key `FAILURE` for a failure of the trial itself, `INTERRUPTED` after a stop, and
        `OVER` where the gang has ended; to another gang the order can then be given again.
        """
        if (gang := self._gangs.get(key)) is None:
            return {OVER: "its workers ended"}
        async with gang.changed:
            gang.order, gang.answer, gang.taken, gang.deaths = order, None, False, 0
            gang.turn += 1
            gang.changed.notify_all()
        waiting = asyncio.ensure_future(self._until(gang, lambda: gang.answer is not None or gang.over is not None))
        hurry = asyncio.ensure_future(self._hurry.wait())
        if not order.save:
            await asyncio.wait((waiting, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() and (gang.taken or order.save):
            await asyncio.wait((waiting,), timeout=PATIENCE_S)
        for task in (waiting, hurry):
            task.cancel()
        if gang.answer is not None:
            return gang.answer
        return {INTERRUPTED: True} if gang.over is None else {OVER: gang.over}

    async def close(self, key: str, reason: str, *, left: bool = False) -> None:
        """End a gang: its workers are told when they next ask, and its open order is answered with the reason.

        `left` says that the workers have ended, and that nothing of the gang is there any more.
        """
        if (gang := self._gangs.get(key)) is not None:
            async with gang.changed:
                gang.over, gang.left = gang.over or reason, gang.left or left
                gang.changed.notify_all()

    async def refuse(self, key: str, reason: str) -> None:
        """A gang's workers cannot begin, nor could others: it ends, and whoever waits for it hears that none can."""
        if (gang := self._gangs.get(key)) is not None:
            async with gang.changed:
                gang.answer = gang.answer or {FAILURE: reason, FATAL: True, "done": True}
                gang.over = gang.over or reason
                gang.changed.notify_all()

    async def watch(self, key: str, trial: Any) -> None:
        """Hold a call to a trial's actor, which fails when that dies: what its gang has left then goes."""
        gang = self._gangs[key]
        try:
            while not gang.left:
                with contextlib.suppress(ActorUnavailableError):
                    await trial.alive.remote()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._until(gang, lambda: gang.left), timeout=1)
        except ActorDiedError:
            await self.close(key, "the trial's process died")
            for _ in range(SWEEPS):
                clear(range(gang.mark, gang.mark + 1))
                await asyncio.sleep(1)
        del self._gangs[key]
        gang.gone.set()

    # What workers call.

    async def enlist(self, key: str, size: int) -> int:
        """The first process of a new group of workers brings it in; returns the group's generation."""
        gang = self._gangs[key]
        async with gang.changed:
            grown = size > gang.size > 0
            if gang.order is not None and gang.answer is None and gang.taken and not grown:
                gang.deaths += 1
                if gang.deaths > self._restarts:
                    times = f" {gang.deaths} times" if gang.deaths > 1 else ""
                    gang.answer = {FAILURE: f"its workers died{times}", FATAL: False, DIED: True, "done": True}
            gang.generation += 1
            gang.size, gang.working, gang.taken = size, True, False
            gang.changed.notify_all()
            return gang.generation

    async def next(self, key: str, generation: int, turn: int) -> tuple[int, Order] | None:
        """Wait for an order after the one of this turn; None for a worker whose time is over."""
        gang = self._gangs.get(key)
        if gang is None:
            return None

        def dismissed() -> bool:
            return gang.over is not None or gang.generation != generation or not gang.working

        def called() -> bool:
            return gang.order is not None and gang.answer is None and gang.turn > turn

        await self._until(gang, lambda: dismissed() or called())
        if dismissed() or gang.order is None:
            return None
        gang.taken = True
        return gang.turn, gang.order

    async def answer(
        self, key: str, generation: int, turn: int, result: dict[str, Any], *, in_step: bool = True
    ) -> None:
        """Answer the order of a turn; the first answer counts, and none of a group that has been replaced.

        `in_step` is False where the workers may wait for one that has failed: the group then gets no more orders.
        """
        if (gang := self._gangs.get(key)) is None or gang.generation != generation:
            return
        async with gang.changed:
            if gang.turn == turn and gang.answer is None:
                gang.answer = result
            gang.working = gang.working and in_step
            gang.changed.notify_all()

    async def stopping(self) -> None:
        """Wait until an epoch that is not complete is to be left."""
        await self._hurry.wait()

    # What the driver calls.

    async def stop(self) -> None:
        """The session is interrupted."""
        if not self._stop.is_set():
            self._stop.set()
            await asyncio.sleep(GRACE_S)
            self._hurry.set()

    async def emptied(self) -> None:
        """Wait until every gang has ended, or died with its trial's actor."""
        for gang in list(self._gangs.values()):
            await gang.gone.wait()

    async def _until(self, gang: Gang, condition: Callable[[], bool]) -> None:
        async with gang.changed:
            await gang.changed.wait_for(condition)


@contextmanager
def serving_hub(restarts: int) -> Iterator[tuple[str, Any]]:
    """A hub on this node, under the name by which others find it; at the end the gangs have left nothing behind."""
    name, node = f"orchestrator-{uuid.uuid4().hex}", ray.get_runtime_context().get_node_id()
    shared = _coordinator() is not None
    first = 1 + GANGS * secrets.randbelow(2**14)
    marks = range(first, first + GANGS)
    # Many workers wait in it, each with two calls.
    hub = (
        ray.remote(Hub)
        .options(name=name, num_cpus=0, max_concurrency=10_000, label_selector={"ray.io/node-id": node})
        .remote(restarts, marks)
    )
    try:
        yield name, hub
    finally:
        with contextlib.suppress(RayError):
            ray.get(hub.emptied.remote(), timeout=LEAVING_S)
        ray.kill(hub)
        clear(marks)
        if not shared and (coordinator := _coordinator()) is not None and _alone():
            ray.kill(coordinator)


def clear(marks: range) -> None:
    """Remove the placement groups whose workers have these marks; processes in them end."""
    for key, group in placement_group_table().items():
        if group["state"] != "REMOVED" and int(group["bundles"][0].get("memory", 0)) in marks:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(key)))


def _coordinator() -> Any:
    """What Ray Train leaves on a cluster: an actor of Ray's that all jobs share; None where there is none."""
    try:
        return ray.get_actor("AutoscalingCoordinator", namespace="AutoscalingCoordinator")
    except ValueError:
        return None


def _alone() -> bool:
    """Whether it is certain that no other job runs on the cluster."""
    try:
        return len(list_jobs(filters=[("status", "=", "RUNNING")])) <= 1
    except (RayStateApiException, ConnectionError):
        # A Ray without a dashboard cannot be asked.
        return False
