"""The account of bytes that all requests of a process share."""

from __future__ import annotations

import asyncio

import pytest

from ararat.restic.rate import Rate


def never() -> bool:
    return False


async def test_no_limit_waits_for_nothing() -> None:
    async with asyncio.timeout(5):
        for _ in range(100):
            await Rate(0).take(1 << 40, gone=never)


async def test_whoever_comes_first_is_let_through_at_once_and_paid_for_by_the_next() -> None:
    rate, loop = Rate(1000), asyncio.get_running_loop()
    began = loop.time()
    order: list[int] = []

    async def one(number: int) -> None:
        await rate.take(300, gone=never)
        order.append(number)

    await rate.take(300, gone=never)
    assert loop.time() - began < 0.25
    await asyncio.gather(*map(one, range(3)))
    assert loop.time() - began >= 0.9
    assert order == [0, 1, 2]


async def test_time_in_which_nobody_came_is_not_saved_up() -> None:
    rate, loop = Rate(1000), asyncio.get_running_loop()
    await asyncio.sleep(0.3)
    began = loop.time()
    for _ in range(3):
        await rate.take(200, gone=never)
    assert loop.time() - began >= 0.4


async def test_who_has_gone_pays_nothing() -> None:
    rate, loop = Rate(100), asyncio.get_running_loop()
    await rate.take(100, gone=never)
    began = loop.time()
    leaving = [asyncio.create_task(rate.take(1 << 40, gone=lambda: True)) for _ in range(3)]
    await rate.take(1, gone=never)
    assert 0.9 <= loop.time() - began < 30
    for task in leaving:
        with pytest.raises(ConnectionResetError):
            await task


async def test_a_cancelled_wait_lets_the_next_one_go() -> None:
    rate = Rate(10)
    await rate.take(3, gone=never)
    waiting = asyncio.create_task(rate.take(1 << 40, gone=never))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(30):
        await rate.take(1, gone=never)
