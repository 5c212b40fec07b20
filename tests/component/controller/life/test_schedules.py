"""Schedules, retention and pins, with the clock moved by hand."""

from __future__ import annotations

import asyncio

from ararat.restic.models import RestoreRequest
from tests.component.controller.backup.world import BACKUPS, World, eventually
from tests.component.controller.life.time_machine import (
    SCHEDULES,
    Clock,
    backups,
    exists,
    nudge,
    repository,
    schedule,
)


async def test_nights_come_and_go(world: World) -> None:
    """A backup each night, three kept; those kept restore, and the repositories are whole."""
    clock = Clock(world)
    await world.workload_of("db")
    spec = {
        "cron": "@daily-random",
        "timeZone": "Europe/Berlin",
        "template": {"includedNamespaces": [world.workload]},
        "retention": {"keepDaily": 3},
    }
    contents: dict[str, bytes] = {}
    async with world.running():
        await world.create(SCHEDULES, "nightly", world.namespace, spec=spec)

        async def known() -> bool:
            return (await schedule(world)).status.next_run_time is not None

        await eventually(known, what="the schedule says when it is due")
        assert await backups(world) == {}
        expression = (await schedule(world)).status.expression
        for night in range(6):
            due = (await schedule(world)).status.next_run_time
            assert due is not None
            name = f"nightly-{due:%Y%m%d%H%M%S}"
            contents[name] = f"night {night}".encode() * 500
            world.volumes["pod-db"].files["file"] = contents[name]
            clock.now = due
            clock.move(seconds=20)
            await nudge(world, SCHEDULES, "nightly", clock)

            async def made(name: str = name) -> bool:
                return (await backups(world)).get(name) == "Completed"

            await eventually(made, what=f"{name} is made")

            async def shown(name: str = name) -> bool:
                status = (await schedule(world)).status
                return (
                    status.last_completed is not None
                    and status.last_completed.name == name
                    and status.next_run_time is not None
                    and status.next_run_time > clock.now
                )

            await eventually(shown, what="the schedule shows it, and the next one")
        kept = sorted(contents)[-3:]

        async def settled() -> bool:
            return sorted(await backups(world)) == kept

        await eventually(settled, what="three are left")
        assert (await schedule(world)).status.expression == expression
    assert {name.split("/")[1] for name in world.files() if "/" in name} == set(kept)
    for name in kept:
        manifest = await world.manifest(name)
        assert manifest.spec.schedule == "nightly"
        (volume,) = [v for v in manifest.volumes if v.snapshot_id]
        target = world.path / f"restored-{name}"
        target.mkdir()
        async with repository(world, volume.directory) as restic:
            await restic.restore(RestoreRequest(snapshot_id=str(volume.snapshot_id), target=target))
            assert (await restic.check(read_data_subset="100%")).ok
            assert len(await restic.snapshots()) == 3
        assert (target / "file").read_bytes() == contents[name]


async def test_overlap_pause_and_what_is_missed(world: World) -> None:
    clock = Clock(world)
    await world.workload_of("db")
    hold = world.volumes["pod-db"].hold = asyncio.Event()
    spec = {"cron": "0 * * * *", "template": {"includedNamespaces": [world.workload]}}

    async def missed(count: int) -> None:
        async def look() -> bool:
            return (await schedule(world)).status.missed == count

        await eventually(look, what=f"{count} runs were left out")

    async with world.agents():
        async with world.leader():
            await world.create(SCHEDULES, "nightly", world.namespace, spec=spec)

            async def looked() -> bool:
                return (await schedule(world)).status.considered_time is not None

            await eventually(looked, what="the schedule is looked at")
            clock.move(hours=1)
            await nudge(world, SCHEDULES, "nightly", clock)

            async def one() -> bool:
                return list((await backups(world)).values()) == ["InProgress"]

            await eventually(one, what="the first runs")
            clock.move(hours=1)
            await nudge(world, SCHEDULES, "nightly", clock)
            await missed(1)
            assert len(await backups(world)) == 1
            hold.set()

            async def done() -> bool:
                return list((await backups(world)).values()) == ["Completed"]

            await eventually(done, what="the first has ended")
        # Nobody leads for three hours: one is made up for.
        clock.move(hours=3)
        async with world.leader():

            async def two() -> bool:
                return list((await backups(world)).values()) == ["Completed"] * 2

            await eventually(two, what="one is made up for")
            await missed(3)
            await world.patch(SCHEDULES, "nightly", {"spec": {"paused": True}})

            async def paused() -> bool:
                found = await schedule(world)
                return found.status.phase == "Paused" and found.status.next_run_time is None

            await eventually(paused, what="it rests")
            clock.move(hours=2)
            await world.patch(SCHEDULES, "nightly", {"spec": {"paused": False}})

            async def awake() -> bool:
                return (await schedule(world)).status.phase == "Enabled"

            await eventually(awake, what="it goes on")
            assert len(await backups(world)) == 2
            await world.patch(SCHEDULES, "nightly", {"spec": {"cron": "61 * * * *"}})

            async def invalid() -> bool:
                found = (await schedule(world)).status
                return found.phase == "Invalid" and "cron expression" in (found.message or "")

            await eventually(invalid, what="it says that it is invalid")


async def test_ttl_and_pins_outlive_the_object(world: World) -> None:
    clock = Clock(world)
    await world.workload_of("db")
    async with world.running():
        await world.backup("old")
        await world.phase("Completed", name="old")
        await world.patch(BACKUPS, "old", {"spec": {"pinned": True}})
        await world.backup("short", ttl="2d")
        await world.phase("Completed", name="short")

        async def kept() -> bool:
            return (await world.get("old")).status.pinned

        await eventually(kept, what="the pin is in the location")
        assert "backups/old/pinned.json" in world.files()
        clock.move(days=3)
        await nudge(world, BACKUPS, "short", clock)
        await world.gone(BACKUPS, "short")
        # Somebody removes the object: sync brings it back, pinned as it was.
        await world.settled("old")
        uid = (await world.get("old")).uid
        await world.api.delete(BACKUPS, "old", namespace=world.namespace)
        clock.move(days=300)

        async def back() -> bool:
            if not await exists(world, BACKUPS, "old"):
                return False
            found = await world.get("old")
            return found.uid != uid and found.status.pinned and found.spec.pinned

        await eventually(back, what="it is back, and pinned")
        await nudge(world, BACKUPS, "old", clock)
        await world.patch(BACKUPS, "old", {"spec": {"pinned": False}})
        await world.gone(BACKUPS, "old")

        async def empty() -> bool:
            return world.files() == {"location.json"}

        await eventually(empty, what="nothing is left in the location")
