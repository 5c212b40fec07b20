"""A prune that the kernel kills, and one whose repository has lost what backups name."""

from __future__ import annotations

import secrets

import pytest

from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import World, eventually
from tests.component.controller.life.node import node_of
from tests.component.controller.life.test_maintenance import (
    PATIENCE,
    backup_of,
    maintained,
    packs,
    until,
    volumes_repository,
)
from tests.component.controller.life.time_machine import Clock, outcome, repository, request

pytestmark = pytest.mark.timeout(900)


async def test_its_lock_goes_with_it_and_it_is_tried_again(
    world: World, control_plane: ControlPlane
) -> None:
    """Killed with restic, as the kernel does it, as soon as restic's lock is in the repository."""
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", secrets.token_bytes(3_000_000))
        await backup_of(world, "two", secrets.token_bytes(1_000_000))
        directory = str((await volumes_repository(world)).status.directory)
        assert (await outcome(world, await request(world, "one"))).status.phase == "Completed"
        locks = world.store_path / directory / "locks"
        left: list[str] = []

        def locked() -> bool:
            left[:] = [path.name for path in locks.iterdir()] if locks.is_dir() else []
            return bool(left)

        node.kill_when = locked
        clock.move(days=7, hours=1)
        found = await until(
            world, clock, lambda m: m.last and m.last.reason == "OutOfMemory", what="killed"
        )
        state = found.status.maintenance
        assert state is not None
        assert state.last is not None
        assert "maintenance.resources.limits.memory" in state.last.message
        assert state.failures == 1
        assert left, "restic's lock was in the repository when it was killed"

        async def swept() -> bool:
            return not locks.is_dir() or not any(locks.iterdir())

        await eventually(swept, what="its lock is gone", within=PATIENCE)
        clock.move(hours=1)
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
