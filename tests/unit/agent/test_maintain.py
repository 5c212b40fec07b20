"""Maintenance keeps to its window."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.maintain import within
from ararat.api.repository import MaintenanceAction
from ararat.maintenance import MaintenanceResult, MaintenanceTask

DONE = MaintenanceResult(good=True, message="pruned")


def task(action: MaintenanceAction, window: float) -> MaintenanceTask:
    """Without validation: a window of whole seconds would be waited for."""
    fields: dict[str, Any] = {"action": action, "window_seconds": window}
    return MaintenanceTask.model_construct(**fields)


@pytest.mark.parametrize(
    ("action", "set_by"),
    [
        (MaintenanceAction.PRUNE, True),
        (MaintenanceAction.CHECK, True),
        (MaintenanceAction.REENCRYPT, False),
    ],
)
async def test_what_is_not_done_in_its_window_ends_in_order(
    action: MaintenanceAction, set_by: bool
) -> None:
    ended: list[str] = []

    async def work() -> MaintenanceResult:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("its lock is removed")
        return DONE

    result = await within(task(action, 0.01), work())
    assert (result.good, result.reason) == (False, "WindowOver")
    # A setting is named only where it is the one that counts.
    assert ("maintenance.window" in result.message) is set_by
    assert ended


async def test_without_a_window_and_with_a_long_one() -> None:
    async def prune() -> MaintenanceResult:
        return DONE

    assert await within(task(MaintenanceAction.PRUNE, 0), prune()) == DONE
    assert await within(task(MaintenanceAction.PRUNE, 3600), prune()) == DONE
