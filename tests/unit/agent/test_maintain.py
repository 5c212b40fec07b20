"""Maintenance keeps to its window."""

from __future__ import annotations

import asyncio

from agent.maintain import within
from ararat.maintenance import MaintenanceResult

DONE = MaintenanceResult(good=True, message="pruned")


async def test_what_is_not_done_in_its_window_ends_in_order() -> None:
    ended: list[str] = []

    async def prune() -> MaintenanceResult:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("its lock is removed")
        return DONE

    result = await within(0.01, prune())
    assert (result.good, result.reason) == (False, "WindowOver")
    assert "maintenance.window" in result.message
    assert ended


async def test_without_a_window_and_with_a_long_one() -> None:
    async def prune() -> MaintenanceResult:
        return DONE

    assert await within(0, prune()) == DONE
    assert await within(3600, prune()) == DONE
