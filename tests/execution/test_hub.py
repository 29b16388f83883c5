"""The hub without Ray: who gets which order when, and what a trial is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.execution import hub as room
from orchestrator.execution.hub import OVER, Hub, Order
from orchestrator.execution.job import DIED, FAILURE, FATAL, INTERRUPTED

RESTARTS = 2
FIRST, SECOND = Order("job", 1), Order("job", 2)
G = "gang"


def played(scene: Callable[[Hub], Awaitable[None]]) -> None:
    async def play() -> None:
        hub = Hub(RESTARTS)
        await hub.open(G)
        async with asyncio.timeout(10):
            await scene(hub)

    asyncio.run(play())


async def given(hub: Hub, order: Order = FIRST) -> asyncio.Task[dict[str, Any]]:
    """A trial that waits for the order's answer."""
    task = asyncio.create_task(hub.order(G, order))
    await asyncio.sleep(0)
    return task


def test_every_worker_gets_every_order_once_and_the_first_answer_counts() -> None:
    async def scene(hub: Hub) -> None:
        generation = await hub.enlist(G, 2)
        waiting = [asyncio.create_task(hub.next(G, generation, 0)) for _ in range(2)]
        trial = await given(hub)
        assert [await worker for worker in waiting] == [(1, FIRST)] * 2
        await hub.answer(G, generation, 1, {"epoch": 1})
        await hub.answer(G, generation, 1, {"epoch": 99})
        assert await trial == {"epoch": 1}
        trial = await given(hub, SECOND)
        assert [await hub.next(G, generation, 1) for _ in range(2)] == [(2, SECOND)] * 2
        await hub.answer(G, generation, 2, {"epoch": 2})
        assert await trial == {"epoch": 2}

    played(scene)


def test_new_workers_get_the_open_order_and_old_ones_nothing() -> None:
    async def scene(hub: Hub) -> None:
        first = await hub.enlist(G, 2)
        trial = await given(hub)
        await hub.next(G, first, 0)
        left_over = asyncio.create_task(hub.next(G, first, 1))
        second = await hub.enlist(G, 2)
        assert await left_over is None
        assert await hub.next(G, second, 0) == (1, FIRST)
        await hub.answer(G, first, 1, {FAILURE: "late"}, in_step=False)
        assert not trial.done()
        await hub.answer(G, second, 1, {"epoch": 1})
        assert await trial == {"epoch": 1}
        trial = await given(hub, SECOND)
        assert await hub.next(G, second, 1) == (2, SECOND), "what an old group says does not end the new one"
        await hub.answer(G, second, 2, {"epoch": 2})
        await trial
        third = asyncio.create_task(hub.next(G, await hub.enlist(G, 2), 0))
        await asyncio.sleep(0.01)
        assert not third.done(), "an order that has its answer is not given again"
        third.cancel()

    played(scene)


@pytest.mark.parametrize(("sizes", "fails"), [([2] * 4, True), ([2, 1, 1, 1], True), ([1, 2, 2, 2], False)])
def test_an_epoch_whose_workers_die_again_and_again_fails_its_trial(sizes: list[int], fails: bool) -> None:
    async def scene(hub: Hub) -> None:
        assert len(sizes) == RESTARTS + 2
        trial = await given(hub)
        for size in sizes:
            generation = await hub.enlist(G, size)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hub.next(G, generation, 0), 0.05)
        # A group that has grown was started anew for that, and nothing had died.
        assert trial.done() is fails
        if fails:
            assert await trial == {FAILURE: "its workers died 3 times", FATAL: False, DIED: True, "done": True}
        trial.cancel()

    played(scene)


def test_workers_out_of_step_get_no_more_orders() -> None:
    async def scene(hub: Hub) -> None:
        generation = await hub.enlist(G, 2)
        trial = await given(hub)
        await hub.next(G, generation, 0)
        await hub.answer(G, generation, 1, {FAILURE: "why"}, in_step=False)
        assert await trial == {FAILURE: "why"}
        trial = await given(hub, SECOND)
        assert await hub.next(G, generation, 1) is None
        assert await hub.next(G, await hub.enlist(G, 2), 0) == (2, SECOND)
        trial.cancel()

    played(scene)


def test_no_two_open_gangs_have_the_same_mark() -> None:
    async def alive() -> None:
        await asyncio.sleep(0)

    async def play() -> None:
        hub, trial = Hub(RESTARTS, range(5, 7)), SimpleNamespace(alive=SimpleNamespace(remote=alive))
        assert [await hub.open("a"), await hub.open("b")] == [5, 6]
        third = asyncio.create_task(hub.open("c"))
        await asyncio.sleep(0.01)
        assert not third.done()
        await hub.close("a", "its trial ended", left=True)
        await hub.watch("a", trial)
        assert await asyncio.wait_for(third, 10) == 5

    asyncio.run(play())


def test_workers_that_cannot_begin_end_the_session() -> None:
    async def scene(hub: Hub) -> None:
        trial = await given(hub)
        await hub.refuse(G, "no GPU")
        assert await trial == {FAILURE: "no GPU", FATAL: True, "done": True}
        assert await hub.next(G, await hub.enlist(G, 2), 0) is None
        assert await hub.order(G, SECOND) == {OVER: "no GPU"}
        await hub.refuse("gone", "no GPU")

    played(scene)


def test_a_gang_that_has_ended_says_why() -> None:
    async def scene(hub: Hub) -> None:
        generation = await hub.enlist(G, 2)
        trial = await given(hub)
        await hub.close(G, "no place")
        await hub.close(G, "again")
        assert await trial == {OVER: "no place"}
        assert await hub.order(G, SECOND) == {OVER: "no place"}
        assert await hub.next(G, generation, 0) is None
        assert await hub.next("gone", 1, 0) is None
        assert OVER in await hub.order("gone", FIRST)

    played(scene)


def test_a_stop_lets_short_epochs_end_and_waits_for_workers_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "GRACE_S", 0.1)
    monkeypatch.setattr(room, "PATIENCE_S", 0.1)

    async def scene(hub: Hub) -> None:
        generation = await hub.enlist(G, 2)
        trial = await given(hub)
        await hub.next(G, generation, 0)
        stop = asyncio.create_task(hub.stop())
        await asyncio.sleep(0.01)
        await hub.answer(G, generation, 1, {"epoch": 1})
        assert await trial == {"epoch": 1}
        trial = await given(hub, SECOND)
        await hub.next(G, generation, 1)
        await hub.stopping()
        assert not trial.done()
        assert await trial == {INTERRUPTED: True}
        # Nobody has taken this one: there is nothing to wait for.
        assert await hub.order(G, FIRST) == {INTERRUPTED: True}
        await stop
        # What is complete is still saved.
        trial = await given(hub, Order("job", 2, save=True))
        assert await hub.next(G, generation, 3) == (4, Order("job", 2, save=True))
        await hub.answer(G, generation, 4, {})
        assert await trial == {}

    played(scene)


def test_the_actor_that_all_jobs_share_is_left_where_others_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def unasked(**_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(room, "list_jobs", unasked)
    assert not room._alone()
    for jobs, alone in ((["mine"], True), (["mine", "theirs"], False)):
        monkeypatch.setattr(room, "list_jobs", lambda filters, jobs=jobs: jobs)
        assert room._alone() is alone
