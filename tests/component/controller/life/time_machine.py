"""Moving a world's clock, and looking at what stands then."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from ararat.api import DeleteBackupRequest, Schedule
from ararat.api.base import utcnow
from ararat.kube import of
from ararat.kube.errors import ApiNotFound
from ararat.restic.commands import Restic
from ararat.restic.models import Access, LockOwner
from ararat.restic.session import open_repository
from tests.component.controller.backup.world import BACKUPS, World, eventually

SCHEDULES, REQUESTS = of(Schedule), of(DeleteBackupRequest)


class Clock:
    """Stands still until it is moved."""

    def __init__(self, world: World) -> None:
        self.now = utcnow()
        world.clock = lambda: self.now

    def move(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now


async def backups(world: World) -> dict[str, str]:
    """Name → phase."""
    found = world.api.list(BACKUPS, namespace=world.namespace)
    return {
        raw["metadata"]["name"]: (raw.get("status") or {}).get("phase", "New")
        async for raw in found
    }


async def nudge(world: World, rt: Any, name: str, clock: Clock) -> None:
    """Have an object looked at again: no event announces that a test moved the clock."""
    annotations = {"test/time": f"{clock.now.isoformat()} {secrets.token_hex(4)}"}
    await world.patch(rt, name, {"metadata": {"annotations": annotations}})


async def schedule(world: World, name: str = "nightly") -> Schedule:
    return Schedule.parse(await world.api.get(SCHEDULES, name, namespace=world.namespace))


async def request(world: World, backup: str, **spec: Any) -> str:
    name = f"delete-{backup}"
    await world.create(REQUESTS, name, world.namespace, spec={"backup": backup, **spec})
    return name


async def outcome(world: World, name: str) -> DeleteBackupRequest:
    """The request, once it has ended."""

    async def look() -> DeleteBackupRequest | None:
        raw = await world.api.get(REQUESTS, name, namespace=world.namespace)
        found = DeleteBackupRequest.parse(raw)
        return found if found.status.phase.terminal else None

    return await eventually(look, what=f"{name} has ended")


async def exists(world: World, rt: Any, name: str) -> bool:
    try:
        await world.api.get(rt, name, namespace=world.namespace)
    except ApiNotFound:
        return False
    return True


@asynccontextmanager
async def repository(
    world: World, directory: str, access: Access = Access.APPEND_ONLY
) -> AsyncIterator[Restic]:
    async with open_repository(
        store=world.store,
        directory=directory,
        password=await world.password(directory.removeprefix("repositories/")),
        access=access,
        owner=LockOwner("test", "test", "test", "test"),
        cache_dir=None,
        scratch_dir=world.path / "scratch",
    ) as restic:
        yield restic


async def directories(world: World) -> list[str]:
    """Of the repositories that current.json names."""
    return sorted(
        [r.status.directory for r in await world.repositories() if r.status.directory is not None]
    )
