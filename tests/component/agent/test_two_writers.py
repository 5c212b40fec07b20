"""The status of a job while it runs: how often it is written, and what others wrote meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime
from typing import Any

import pytest

from ararat.api import PodVolumeBackup
from ararat.kube import of
from ararat.kube.informer import Informer
from ararat.restic.models import BackupProgress, BackupRequest, BackupResult, OnBackupProgress
from tests.component.agent.engine import FakeEngine, for_ever
from tests.component.agent.world import World

pytestmark = pytest.mark.timeout(120)

_STEPS = 40
_EVERY = 1.0


class Moving(FakeEngine):
    """A restic that gets on ten times a second."""

    async def backup(
        self, request: BackupRequest, *, on_progress: OnBackupProgress | None = None
    ) -> BackupResult:
        assert on_progress is not None
        for step in range(1, _STEPS):
            on_progress(BackupProgress(total_bytes=_STEPS, bytes_done=step))
            await asyncio.sleep(0.1)
        return await super().backup(request, on_progress=on_progress)


async def job(world: World, name: str = "b1") -> None:
    uid = await world.pod("db-0")
    world.kubelet.empty_dir(uid, "data")
    await world.backup(name, "db-0", uid)


async def test_progress_is_written_now_and_then_and_at_the_end(world: World):
    written: dict[str, datetime] = {}
    watch = Informer(world.api, of(PodVolumeBackup), namespace=world.namespace)

    def changed(_: str, raw: dict[str, Any], __: dict[str, Any] | None) -> None:
        status = raw.get("status") or {}
        if status.get("phase") == "InProgress" and status.get("progress", {}).get("bytesDone"):
            written[status["heartbeatTime"]] = datetime.fromisoformat(status["heartbeatTime"])

    watch.on_change(changed)
    watching = asyncio.create_task(watch.run())
    await watch.synced()
    async with world.agent(Moving(), progress_seconds=_EVERY):
        await job(world)
        status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
    watching.cancel()
    times = sorted(written.values())
    pauses = [(late - early).total_seconds() for early, late in itertools.pairwise(times)]
    assert pauses, "nothing was written on the way"
    assert min(pauses) > 0.95 * _EVERY, pauses
    assert status["progress"]["bytesDone"] == status["progress"]["totalBytes"] == 100


async def test_what_somebody_else_decided_stands(world: World, engine: FakeEngine):
    """The controller gives a job up while its agent still runs it."""
    engine.on_backup = for_ever
    async with world.agent(engine):
        await job(world)
        await world.until(PodVolumeBackup, "b1", "InProgress")
        while not engine.running:
            await asyncio.sleep(0.02)
        await world.set_status(PodVolumeBackup, "b1", {"phase": "Failed", "reason": "NoAgent"})
        async with asyncio.timeout(30):
            while engine.running:
                await asyncio.sleep(0.02)
    status = await world.status(PodVolumeBackup, "b1")
    assert (status["phase"], status["reason"]) == ("Failed", "NoAgent")
    assert "snapshotID" not in status


async def test_what_somebody_else_added_stays(world: World, engine: FakeEngine):
    """A write that meets a newer version of the job is made again on top of it."""
    running, over = asyncio.Event(), asyncio.Event()

    async def until_told(request: BackupRequest) -> BackupResult:
        running.set()
        await over.wait()
        return await FakeEngine._back_up(request)

    engine.on_backup = until_told
    mark = {"type": "Seen", "status": "True", "reason": "Test", "message": "by another"}
    stamped = {**mark, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    async with world.agent(engine):
        await job(world)
        await running.wait()
        await world.set_status(PodVolumeBackup, "b1", {"conditions": [stamped]})
        over.set()
        status = await world.until(PodVolumeBackup, "b1", "Completed")
    assert [condition["type"] for condition in status["conditions"]] == ["Seen"]
    assert status["snapshotID"]
