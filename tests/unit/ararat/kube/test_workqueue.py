from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from ararat.errors import InvalidSpec, Retryable
from ararat.kube import TooManyRequests, WorkQueue, run_workers

from .virtual import now, settle, virtual


@virtual
async def test_a_key_added_twice_is_worked_on_once():
    queue = WorkQueue()
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


@virtual
async def test_a_key_added_while_it_is_worked_on_waits_until_that_is_done():
    queue = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


@virtual
async def test_of_several_dates_the_earliest_counts():
    queue = WorkQueue()
    start = now()
    queue.add_after("a", 10)
    queue.add_after("a", 3)
    queue.add_after("a", 30)
    assert await queue.get() == "a"
    assert now() - start == pytest.approx(3, abs=0.01)
    queue.done("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await queue.get()


@virtual
async def test_adding_now_replaces_a_date():
    queue = WorkQueue()
    queue.add_after("a", 10)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    await asyncio.sleep(20)
    assert len(queue) == 0


@virtual
async def test_a_date_that_comes_while_the_key_is_worked_on_is_kept():
    queue = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add_after("a", 1)
    await asyncio.sleep(2)
    queue.done("a")
    assert await queue.get() == "a"


@virtual
async def test_back_off_doubles_up_to_its_cap_and_is_forgotten():
    queue = WorkQueue(first=1, cap=60)
    waits = [queue.retry("a") for _ in range(12)]
    for failures, wait in enumerate(waits):
        exact = min(60, 2.0**failures)
        assert exact * 0.5 <= wait <= min(60, exact * 1.5)
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.retry("a") <= 1.5


@virtual
async def test_back_off_survives_any_number_of_failures():
    queue = WorkQueue(first=1, cap=60)
    for _ in range(2000):
        wait = queue.retry("a")
    assert 30 <= wait <= 60


@virtual
async def test_a_cancelled_waiter_passes_its_key_on():
    queue = WorkQueue()
    got: list[str] = []

    async def take() -> None:
        got.append(await queue.get())

    async with asyncio.TaskGroup() as group:
        first = group.create_task(take())
        group.create_task(take())
        await settle()
        queue.add("a")  # wakes the first waiter …
        first.cancel()  # … which is cancelled before it can run
    assert got == ["a"]


class Scripted:
    """Answers each look with the next step of its script."""

    def __init__(self, *steps: Exception | float | None) -> None:
        self.steps = list(steps)
        self.looks: list[float] = []
        self.at_once = 0
        self.most_at_once = 0
        self.hold: Callable[[], Awaitable[None]] | None = None

    async def reconcile(self, key: str) -> float | None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.looks.append(now())
        try:
            if self.hold:
                await self.hold()
            step = self.steps.pop(0) if self.steps else None
            if isinstance(step, Exception):
                raise step
            return step
        finally:
            self.at_once -= 1


async def work(queue: WorkQueue, reconciler: Scripted, *, seconds: float, workers: int = 3) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await run_workers(queue, reconciler, workers=workers)


@virtual
async def test_one_key_is_never_in_two_hands():
    queue, reconciler = WorkQueue(), Scripted()

    async def hold() -> None:
        queue.add("a")
        await asyncio.sleep(1)

    reconciler.hold = hold
    queue.add("a")
    await work(queue, reconciler, seconds=10)
    assert len(reconciler.looks) == 10
    assert reconciler.most_at_once == 1


@virtual
async def test_different_keys_are_worked_on_together():
    queue, reconciler = WorkQueue(), Scripted()
    reconciler.hold = lambda: asyncio.sleep(1)
    for key in "abcdef":
        queue.add(key)
    await work(queue, reconciler, seconds=1.5)
    assert reconciler.most_at_once == 3


@virtual
async def test_a_look_that_asks_for_another_gets_it():
    queue, reconciler = WorkQueue(), Scripted(30.0, None)
    queue.add("a")
    await work(queue, reconciler, seconds=600)
    first, second = reconciler.looks
    assert second - first == pytest.approx(30, abs=0.01)


@virtual
async def test_every_error_backs_off_and_none_ends_the_workers(caplog: pytest.LogCaptureFixture):
    queue = WorkQueue(first=1, cap=60)
    reconciler = Scripted(
        Retryable("the server is away"), InvalidSpec("no such class"), KeyError("bug"), None
    )
    queue.add("a")
    with caplog.at_level(logging.WARNING):
        await work(queue, reconciler, seconds=600)
    gaps = [b - a for a, b in pairwise(reconciler.looks)]
    assert len(gaps) == 3
    assert 0.5 <= gaps[0] <= 1.5
    assert 1 <= gaps[1] <= 3
    assert 2 <= gaps[2] <= 6
    assert queue.failures("a") == 0


@virtual
async def test_the_servers_wish_to_stay_away_is_respected():
    error = TooManyRequests("slow down")
    error.retry_after = 45
    queue, reconciler = WorkQueue(first=1), Scripted(error, None)
    queue.add("a")
    await work(queue, reconciler, seconds=100)
    assert reconciler.looks[1] - reconciler.looks[0] >= 45


@virtual
async def test_cancelling_the_workers_leaves_no_key_busy():
    queue, reconciler = WorkQueue(), Scripted()
    reconciler.hold = lambda: asyncio.sleep(3600)
    queue.add("a")
    await work(queue, reconciler, seconds=1)
    queue.add("a")
    assert await queue.get() == "a"


@virtual
async def test_a_cancellation_that_a_reconciler_loses_ends_the_workers_all_the_same():
    class Loses:
        async def reconcile(self, key: str) -> float | None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return 1.0
            return None

    queue = WorkQueue()
    queue.add("a")
    running = asyncio.create_task(run_workers(queue, Loses(), workers=2))
    await asyncio.sleep(1)
    running.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([running])
    assert running.cancelled()
