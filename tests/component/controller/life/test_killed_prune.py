"""A prune that the kernel kills, and one whose repository has lost what backups name."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import Volume, World, eventually
from tests.component.controller.life.node import node_of
from tests.component.controller.life.test_maintenance import (
    PATIENCE,
    REPOSITORIES,
    backup_of,
    maintained,
    packs,
    until,
    volumes_repository,
)
from tests.component.controller.life.time_machine import Clock, nudge, outcome, repository, request

pytestmark = pytest.mark.timeout(900)


async def test_its_lock_goes_with_it_and_it_is_tried_again(
    world: World, control_plane: ControlPlane
) -> None:
    """As soon as restic's lock is in the repository: first the kernel kills restic in a cgroup that
    has no more memory, then everything in it is killed at once."""
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", secrets.token_bytes(3_000_000))
        await backup_of(world, "two", secrets.token_bytes(1_000_000))
        directory = str((await volumes_repository(world)).status.directory)
        assert (await outcome(world, await request(world, "one"))).status.phase == "Completed"
        locks = world.store_path / directory / "locks"

        async def swept() -> bool:
            return not locks.is_dir() or not any(locks.iterdir())

        for failures, later in ((1, {"days": 7, "hours": 1}), (2, {"hours": 1})):
            node.harm = "starve" if failures == 1 else "kill"
            clock.move(**later)

            def failed(state: Any, wanted: int = failures) -> bool:
                return bool(state.failures == wanted)

            found = await until(world, clock, failed, what="killed")
            state = found.status.maintenance
            assert state is not None
            assert state.last is not None
            assert (state.last.action, state.last.reason) == ("Prune", "OutOfMemory")
            assert "maintenance.resources.limits.memory" in state.last.message
            # Only the first by the kernel.
            assert [killed > 0 for killed in node.starved] == [True, False][:failures]
            await eventually(swept, what="its lock is gone", within=PATIENCE)
        clock.move(hours=2)
        done = await until(
            world, clock, lambda m: m.last_prune_time and not m.running, what="pruned in the end"
        )
        assert done.status.maintenance is not None
        assert done.status.maintenance.failures == 0
        async with repository(world, directory) as restic:
            assert (await restic.check(read_data_subset="100%")).ok


async def test_a_snapshot_lost_since_the_last_look_stops_the_prune(
    world: World, control_plane: ControlPlane
) -> None:
    """The program looks itself, before it removes anything."""
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", secrets.token_bytes(1_000_000))
        directory = str((await volumes_repository(world)).status.directory)
        (volume,) = [v for v in (await world.manifest("one")).volumes if v.snapshot_id]
        lost = world.store_path / directory / "snapshots" / str(volume.snapshot_id)
        node.start.clear()
        clock.move(days=7, hours=1)
        await until(world, clock, lambda m: m.running, what="the prune is begun")
        before = packs(world, directory)
        lost.unlink()
        node.start.set()
        found = await until(
            world, clock, lambda m: m.last and m.last.reason == "SnapshotsMissing", what="refused"
        )
        assert found.status.phase == "Damaged"
        assert packs(world, directory) == before


async def test_more_names_than_a_secret_holds_are_looked_at_before(
    world: World, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun when one of them was lost since the survey."""
    monkeypatch.setattr("controller.maintenance.runs.PROMISED_LIMIT", 0)
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", secrets.token_bytes(1_000_000))
        (volume,) = [v for v in (await world.manifest("one")).volumes if v.snapshot_id]
        hold = asyncio.Event()
        world.volumes["pod-db"] = Volume({"file": b"two"}, hold=hold)
        await world.backup("two")
        await world.phase("InProgress", name="two", within=PATIENCE)
        clock.move(days=7, hours=1)
        await until(world, clock, lambda m: m.survey_time and m.waits_for, what="it waits")
        lost = world.store_path / volume.directory / "snapshots" / str(volume.snapshot_id)
        content = lost.read_bytes()
        lost.unlink()
        hold.set()
        await world.phase("Completed", name="two", within=PATIENCE)

        async def damaged() -> bool:
            await nudge(world, REPOSITORIES, (await volumes_repository(world)).name, clock)
            return (await volumes_repository(world)).status.phase == "Damaged"

        await eventually(damaged, what="it is Damaged", within=PATIENCE)
        assert "pod-db/data" in str((await volumes_repository(world)).status.message)
        mine = [t for t in node.ran if t["repository"]["directory"] == volume.directory]
        assert [t for t in mine if t["action"] == "Prune"] == []
        lost.write_bytes(content)
        clock.move(hours=2)
        done = await until(world, clock, lambda m: m.last_prune_time, what="pruned in the end")
        assert done.status.phase == "Ready"
