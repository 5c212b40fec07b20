from __future__ import annotations

import asyncio

import pytest

from ararat.concurrency import for_each, stop
from ararat.errors import Conflict, NotFound


async def test_all_are_worked_on_and_never_too_many_at_once() -> None:
    running, most, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await for_each(range(50), work, at_once=4)
    assert sorted(done) == list(range(50))
    assert most == 4


async def test_nothing_to_do() -> None:
    async def work(_: int) -> None:
        raise AssertionError

    await for_each([], work, at_once=1)


async def test_the_first_error_ends_the_others_and_comes_out_as_it_is() -> None:
    ended: list[str] = []

    async def work(item: int) -> None:
        if item == 3:
            raise Conflict("three")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(str(item))
            raise

    with pytest.raises(Conflict, match="three"):
        await for_each(range(4), work, at_once=10)
    assert ended == ["0", "1", "2"]


async def test_items_behind_an_error_are_not_begun() -> None:
    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        raise NotFound(str(item))

    with pytest.raises(NotFound, match="0"):
        await for_each(range(100), work, at_once=1)
    assert begun == [0]


async def test_being_cancelled_wins_over_an_error_on_the_way_out() -> None:
    """Else the caller takes the error for an answer and goes on working."""
    started = asyncio.Event()

    async def work(_: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise NotFound("while ending") from None

    task = asyncio.create_task(for_each([1], work, at_once=1))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_timeout_around_it_stays_a_timeout() -> None:
    async def work(_: int) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await for_each([1, 2], work, at_once=2)


async def test_what_runs_beside_is_ended_and_its_error_comes_out() -> None:
    await stop(asyncio.create_task(asyncio.sleep(3600)))

    async def fails() -> None:
        raise Conflict("beside")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    with pytest.raises(Conflict, match="beside"):
        await stop(task)


async def test_who_is_cancelled_while_it_ends_something_is_cancelled() -> None:
    ending = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await ending.wait()

    beside = asyncio.create_task(slow())
    await asyncio.sleep(0)
    caller = asyncio.create_task(stop(beside))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    ending.set()
    await asyncio.wait([caller, beside])
    assert caller.cancelled()
