"""Jobs of hooked pods: Held, Reserved, released; against a real API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.restic.models import BackupRequest, BackupResult, RestoreRequest, RestoreResult
from tests.component.agent.engine import SNAPSHOT, FakeEngine
from tests.component.agent.world import World

pytestmark = pytest.mark.timeout(180)
WAIT = 60.0


class Brake:
    """A restic that reads until it is let go."""

    def __init__(self, engine: FakeEngine) -> None:
        self.started: list[str] = []
        self.ended: set[str] = set()
        engine.on_backup = self._read

    async def _read(self, request: BackupRequest) -> BackupResult:
        self.started.append(request.host)
        while request.host not in self.ended:
            await asyncio.sleep(0.02)
        return BackupResult(snapshot_id=SNAPSHOT)

    async def until_started(self, *hosts: str) -> None:
        async with asyncio.timeout(WAIT):
            while not set(hosts) <= set(self.started):
                await asyncio.sleep(0.02)


@pytest.fixture
def brake(engine: FakeEngine) -> Brake:
    return Brake(engine)


async def group(world: World, name: str, *members: str) -> None:
    """All of a group's jobs, as close together as the controller makes them."""
    await asyncio.gather(*(job(world, member, name) for member in members))


async def job(world: World, name: str, group: str = "", *, hold: bool = True) -> None:
    """A job of a pod of its own: what counts here is the group."""
    uid = await world.pod(name)
    world.kubelet.empty_dir(uid, "data")
    more: dict[str, Any] = {"hold": True, "group": group} if hold else {}
    await world.backup(name, name, uid, host=name, **more)


async def until(world: World, phase: str, *names: str) -> list[dict[str, Any]]:
    return [await world.until(PodVolumeBackup, name, phase, seconds=WAIT) for name in names]


async def release(world: World, *names: str) -> None:
    for name in names:
        await world.set_spec(PodVolumeBackup, name, {"hold": False})


async def test_a_group_waits_gets_its_slots_and_runs_in_them(
    world: World, engine: FakeEngine, brake: Brake
):
    async with world.agent(engine, group_settle_seconds=4.0) as running:
        await job(world, "busy", hold=False)
        await brake.until_started("busy")
        await group(world, "web-0", "a", "b", "c")
        await until(world, "Held", "a", "b", "c")
        versions = [
            (await world.raw(PodVolumeBackup, n))["metadata"]["resourceVersion"] for n in "abc"
        ]
        await job(world, "behind", hold=False)
        await world.until(
            PodVolumeBackup, "behind", lambda s: "free slot" in s.get("message", ""), seconds=WAIT
        )
        # Held is written once, and one free slot of the two is nobody's.
        again = [
            (await world.raw(PodVolumeBackup, n))["metadata"]["resourceVersion"] for n in "abc"
        ]
        assert versions == again
        brake.ended.add("busy")
        for status in await until(world, "Reserved", "a", "b", "c"):
            assert status["reservedTime"]
        assert brake.started == ["busy"]
        await running.counts("ararat_agent_reserved_jobs", 3)
        await release(world, "a", "b", "c")
        async with asyncio.timeout(WAIT):
            while len(brake.started) < 3:
                await asyncio.sleep(0.02)
        first = brake.started[1]
        brake.ended.add(first)
        await until(world, "Completed", first)
        await brake.until_started("a", "b", "c")
        assert "behind" not in brake.started
        brake.ended.update("abc")
        await until(world, "Completed", "a", "b", "c")
        await brake.until_started("behind")
        brake.ended.add("behind")
        await until(world, "Completed", "behind")
    assert engine.most == 2


async def test_a_restart_keeps_reservations_before_everything_else(
    world: World, engine: FakeEngine, brake: Brake
):
    async with world.agent(engine) as first:
        await group(world, "web-0", "a", "b")
        await until(world, "Reserved", "a", "b")
        await first.kill()
    await job(world, "older", hold=False)
    async with world.agent(engine):
        await world.until(
            PodVolumeBackup, "older", lambda s: "free slot" in s.get("message", ""), seconds=WAIT
        )
        assert brake.started == []
        await until(world, "Reserved", "a", "b")
        await release(world, "a", "b")
        await brake.until_started("a", "b")
        brake.ended.update(("a", "b", "older"))
        await until(world, "Completed", "a", "b", "older")


async def test_cancel_reaches_held_and_reserved_jobs_and_frees_their_slots(
    world: World, engine: FakeEngine, brake: Brake
):
    async with world.agent(engine):
        await group(world, "web-0", "a", "b")
        await until(world, "Reserved", "a", "b")
        await job(world, "c", "web-1")
        await until(world, "Held", "c")
        for name in ("a", "b"):
            await world.set_spec(PodVolumeBackup, name, {"cancel": True})
        await until(world, "Cancelled", "a", "b")
        await until(world, "Reserved", "c")
        await world.set_spec(PodVolumeBackup, "c", {"cancel": True})
        await until(world, "Cancelled", "c")
    assert brake.started == []


async def test_slots_that_nobody_comes_for_are_given_back(
    world: World, engine: FakeEngine, brake: Brake
):
    brake.ended.add("waiting")
    async with world.agent(engine, concurrency=1, reserve_seconds=3.0):
        await job(world, "a", "web-0")
        await until(world, "Reserved", "a")
        await job(world, "waiting", hold=False)
        status = await world.until(
            PodVolumeBackup, "a", lambda s: s.get("reason") == "ReservationExpired", seconds=WAIT
        )
        assert "not released within 3 s" in status["message"]
        await until(world, "Completed", "waiting")
        # It queues again, behind the others, and is not lost.
        await until(world, "Reserved", "a")
        await release(world, "a")
        brake.ended.add("a")
        await until(world, "Completed", "a")


async def test_two_groups_and_a_restore_do_not_wait_for_each_other(
    world: World, engine: FakeEngine, brake: Brake
):
    async def restore(_: RestoreRequest) -> RestoreResult:
        return RestoreResult()

    engine.on_restore = restore
    async with world.agent(engine):
        # As the controller makes them: one after the other, of several pods at once.
        for member, of in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b")):
            await job(world, member, of)
        uid = await world.pod("db-0", gated=True)
        world.kubelet.empty_dir(uid, "data")
        await world.restore("r", "db-0", uid)
        brake.ended.update(("a1", "a2", "b1", "b2"))
        left = {"a": ("a1", "a2"), "b": ("b1", "b2")}
        async with asyncio.timeout(WAIT):
            while left:
                for name, members in list(left.items()):
                    phases = [
                        (await world.status(PodVolumeBackup, m)).get("phase") for m in members
                    ]
                    if phases == ["Reserved", "Reserved"]:
                        await release(world, *members)
                        del left[name]
                await asyncio.sleep(0.05)
        await until(world, "Completed", "a1", "a2", "b1", "b2")
        await world.until(PodVolumeRestore, "r", "Completed", seconds=WAIT)
