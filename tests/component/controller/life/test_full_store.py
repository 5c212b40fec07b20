"""A file system that is full to the last byte is made room on, and backups go on."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ararat.kube import KubeClient
from ararat.restic.models import RestoreRequest
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import Volume, World, eventually
from tests.component.controller.life.node import node_of
from tests.component.controller.life.test_maintenance import (
    PATIENCE,
    backup_of,
    maintained,
    until,
    volumes_repository,
)
from tests.component.controller.life.time_machine import Clock, outcome, repository, request

_MIB = 1 << 20
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def disk(work: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.fail("this test makes a mount: run it as root")
    path = work / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    """To the last byte, by somebody who shares the disk."""
    with path.open("wb", buffering=0) as file:
        piece = b"x" * _MIB
        while piece:
            try:
                file.write(piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece = piece[: len(piece) // 2]


def reserve(world: World) -> list[str]:
    return sorted(name for name in world.files() if name.startswith("maintenance/reserve-"))


async def test_a_full_disk_is_freed(
    api: KubeClient, work: Path, disk: Path, control_plane: ControlPlane
) -> None:
    world = World(api, work, store=disk / "store")
    await world.prepare()
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    kept = secrets.token_bytes(20 * _MIB)
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", secrets.token_bytes(30 * _MIB))
        await backup_of(world, "two", kept)
        clock.move(days=1, hours=1)
        await until(world, clock, lambda m: m.last_check_time, what="checked")
        assert len(reserve(world)) == 8
        assert not any(task["atOnce"] for task in node.ran)

        fill(disk / "somebody-else")
        assert shutil.disk_usage(disk).free == 0
        world.volumes["pod-db"] = Volume({"file": secrets.token_bytes(10 * _MIB)})
        await world.backup("three")

        async def failed() -> bool:
            backup = await world.get("three")
            return backup.status.phase == "Failed" and "full" in str(backup.status.message)

        await eventually(failed, what="a backup says that the store is full", within=PATIENCE)
        # What is full is pruned at once. As nothing can be freed yet, the reserve is there again,
        # but for a piece that its own small files may have taken room from.
        await until(
            world, clock, lambda m: m.last_prune_time and not m.running, what="pruned in vain"
        )
        left = len(reserve(world))
        assert left in (7, 8)
        fill(disk / "somebody-else-again")
        # Deleting makes room for its own files first.
        done = await outcome(world, await request(world, "one"))
        assert (done.status.phase, done.status.message) == ("Completed", "deleted")
        assert len(reserve(world)) == left - 1
        fill(disk / "somebody-else-once-more")

        clock.move(hours=1)
        found = await until(
            world,
            clock,
            lambda m: m.reclaimed_bytes > 29 * _MIB and not m.running,
            what="what nobody needs is gone at once",
        )
        assert found.status.phase == "Ready"
        at_once = [t for t in node.ran if t["atOnce"]]
        ours = [t for t in at_once if "volumes" in t["repository"]["directory"]]
        assert [task["maxRepackSize"] for task in ours] == ["0", "0"]
        assert reserve(world) == []
        await world.backup("four")
        await world.phase("Completed", name="four", within=PATIENCE)

        directory = str((await volumes_repository(world)).status.directory)
        async with repository(world, directory) as restic:
            assert (await restic.check(read_data_subset="100%")).ok
            (volume,) = [v for v in (await world.manifest("two")).volumes if v.snapshot_id]
            target = world.path / "restored"
            target.mkdir()
            await restic.restore(RestoreRequest(snapshot_id=str(volume.snapshot_id), target=target))
        assert (target / "file").read_bytes() == kept
