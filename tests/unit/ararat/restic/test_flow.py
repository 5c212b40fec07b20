from __future__ import annotations

import asyncio

import pytest

from ararat.blob.pace import Counter, Pace, shared_pace
from ararat.restic.flow import Buffers, shared_flow


async def test_units_are_lent_in_order_of_arrival() -> None:
    counter = Counter(10)
    order: list[str] = []

    async def use(name: str, amount: int, seconds: float) -> None:
        async with counter.hold(amount):
            order.append(name)
            assert counter.used <= 10
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        for name, amount in (("a", 6), ("b", 6), ("c", 1), ("d", 9)):
            group.create_task(use(name, amount, 0.01))
    assert order == ["a", "b", "c", "d"]
    assert counter.used == 0


async def test_more_than_there_is_goes_alone() -> None:
    counter = Counter(10)
    async with counter.hold(50):
        waiting = asyncio.create_task(_touch(counter, 1))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def _touch(counter: Counter, amount: int) -> None:
    async with counter.hold(amount):
        pass


@pytest.mark.parametrize("grant_first", [False, True])
async def test_whoever_gives_up_waiting_holds_nothing(grant_first: bool) -> None:
    counter = Counter(2)
    holder = counter.hold(2)
    await holder.__aenter__()
    waiting = asyncio.create_task(_touch(counter, 2))
    behind = asyncio.create_task(_touch(counter, 1))
    await asyncio.sleep(0)
    if grant_first:
        await holder.__aexit__(None, None, None)
    waiting.cancel()
    if not grant_first:
        await holder.__aexit__(None, None, None)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await behind
    assert counter.used == 0


async def test_a_pace_is_halved_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ararat.blob.pace._RECOVERY_SECONDS", 0.01)
    pace = Pace(8)
    async with pace.hold(1), pace.hold(1), pace.hold(1), pace.hold(1):
        for _ in range(4):  # of one burst
            pace.slow_down()
        assert pace.capacity == 2
    async with pace.hold(1), pace.hold(1):
        pace.slow_down()
        assert pace.capacity == 1
    for _ in range(5):
        pace.slow_down()
    assert pace.capacity == 1
    await asyncio.sleep(0.3)
    assert pace.capacity == 8


async def test_one_flow_per_process() -> None:
    flow = shared_flow(budget=5)
    assert flow is shared_flow(budget=9)
    assert flow.requests is shared_pace()


def test_a_buffer_is_used_again_and_never_changes_what_was_handed_out() -> None:
    buffers = Buffers()

    def body(fill: bytes, size: int) -> bytes:
        with buffers.lend() as buffer:
            for _ in range(size):
                buffer.write(fill * 1000)
            buffer.truncate()
            return buffer.getvalue()

    kept = [body(fill, size) for fill, size in ((b"a", 5), (b"b", 9), (b"c", 2), (b"d", 9))]
    assert [(set(one), len(one)) for one in kept] == [
        (set(b"a"), 5000),
        (set(b"b"), 9000),
        (set(b"c"), 2000),
        (set(b"d"), 9000),
    ]
    with buffers.lend() as first, buffers.lend() as second:
        assert first is not second
    with buffers.lend() as again:
        assert again in (first, second)
    buffers.drop()
    with buffers.lend() as fresh:
        assert fresh not in (first, second)
