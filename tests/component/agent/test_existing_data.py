"""New volumes that are not empty, and directories of the node; everything real but the kubelet."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from agent.droppings import DROPPINGS
from ararat.api import PodVolumeBackup, PodVolumeRestore
from tests.component.agent.real import as_restore, claimed
from tests.component.agent.walker import differences, walk
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("restic")]

DOCS = Path(__file__).parents[3] / "docs/agent.md"


@pytest.fixture
def world(real_world: World) -> World:
    return real_world


@pytest.fixture
def directory(world: World) -> Iterator[PurePosixPath]:
    """A directory of the node, mounted where the agent's container would have it."""
    path = world.path / "srv"
    path.mkdir()
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    yield PurePosixPath(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


def ended(status: dict[str, Any]) -> bool:
    return status.get("phase") in ("Completed", "Failed")


async def backed_up(world: World) -> tuple[Path, dict[str, Any]]:
    uid, source = await claimed(world, "db-0")
    (source / "both").write_text("from the backup")
    (source / ".zfs").mkdir()
    (source / ".zfs/mine").write_text("the user's own, whatever its name")
    await world.backup("b1", "db-0", uid)
    status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
    return source, as_restore(status)


async def into(world: World, name: str, spec: dict[str, Any], **more: Any) -> tuple[Path, Any]:
    """Restore into a volume that holds something already."""
    uid, target = await claimed(world, name, gated=True)
    (target / "both").write_text("was here before, and is longer")
    (target / "old").mkdir()
    (target / "old/file").write_text("was here before")
    for dropping in ("~snapshot", "$RECYCLE.BIN", "lost+found"):
        (target / dropping).mkdir()
    await world.restore(name, name, uid, **spec, **more)
    return target, await world.until(PodVolumeRestore, name, ended, seconds=60)


async def test_data_in_a_new_volume_is_refused_merged_or_replaced(world: World) -> None:
    async with world.agent():
        source, spec = await backed_up(world)
        target, status = await into(world, "refused", spec)
        assert (status["phase"], status["reason"]) == ("Failed", "VolumeNotEmpty")
        assert "--existing-data" in status["message"]
        assert (target / "both").read_text() == "was here before, and is longer"

        target, status = await into(world, "merged", spec, existingData="Merge")
        assert status["phase"] == "Completed", status
        assert (target / "both").read_text() == "from the backup"
        assert (target / "old/file").read_text() == "was here before"

        target, status = await into(world, "replaced", spec, existingData="Replace")
        assert status["phase"] == "Completed", status
        assert not (target / "old").exists()
        # The provider's stay; one that is in the backup is the user's and comes back.
        for dropping in ("~snapshot", "$RECYCLE.BIN", "lost+found"):
            (target / dropping).rmdir()
        wanted, found = walk(source), walk(target)
        wanted.pop(b"."), found.pop(b".")  # its times are those of what was just removed
        assert differences(wanted, found) == []


async def test_what_providers_drop_is_no_data_and_is_documented(world: World) -> None:
    documented = DOCS.read_text()
    async with world.agent():
        source, spec = await backed_up(world)
        uid, target = await claimed(world, "db-1", gated=True)
        for name in DROPPINGS - {".zfs"}:
            (target / name).mkdir()
        await world.restore("r1", "db-1", uid, **spec)
        status = await world.until(PodVolumeRestore, "r1", ended, seconds=60)
    assert status["phase"] == "Completed", status
    assert (target / "both").read_text() == (source / "both").read_text()
    assert [name for name in DROPPINGS if f"`{name}`" not in documented] == []


async def test_directories_of_the_node_where_the_administrator_listed_them(
    world: World, directory: PurePosixPath
) -> None:
    source, target = Path(directory, "pv-1"), Path(directory, "pv-2")
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("content")
    claim = await world.claim("db-0", source={"hostPath": {"path": str(source)}})
    uid = await world.pod("db-0", volume=claim)
    async with world.agent():
        await world.backup("b0", "db-0", uid)
        refused = await world.until(PodVolumeBackup, "b0", "Failed", seconds=60)
        assert refused["reason"] == "HostPath"
        assert "agent.hostPaths" in refused["message"]
    async with world.agent(host_paths=(directory,)):
        await world.backup("b1", "db-0", uid)
        status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
        inline = {"hostPath": {"path": str(directory / "pv-2")}}
        new = await world.pod("db-1", volume=inline, gated=True)
        await world.restore("r1", "db-1", new, **as_restore(status))
        await world.until(PodVolumeRestore, "r1", "Completed", seconds=60)
    assert differences(walk(source), walk(target)) == []


async def test_a_link_leads_to_no_other_directory_of_the_node(
    world: World, directory: PurePosixPath
) -> None:
    Path(directory, "out").symlink_to("/etc")
    outside = {"hostPath": {"path": str(directory / "out")}}
    unmounted = {"hostPath": {"path": "/usr/share"}}
    allowed = (directory, PurePosixPath("/usr/share"))
    async with world.agent(host_paths=allowed, retry_seconds=0.1, mount_wait_seconds=0.1):
        for name, volume, said in (("a", outside, "cannot be opened"), ("b", unmounted, "mounted")):
            uid = await world.pod(name, volume=volume)
            await world.backup(name, name, uid)
            status = await world.until(PodVolumeBackup, name, "Failed", seconds=60)
            assert (status["reason"], said in status["message"]) == ("VolumeNotMounted", True)


async def test_block_devices_are_refused(world: World) -> None:
    volume = await world.claim("db-0", mode="Block")
    uid = await world.pod("db-0", volume=volume, gated=True)
    world.kubelet.csi(uid, world.pv("db-0"))
    async with world.agent():
        await world.restore("r1", "db-0", uid)
        status = await world.until(PodVolumeRestore, "r1", "Failed", seconds=60)
        await world.pod_status("db-0", {"phase": "Running"})
        await world.backup("b1", "db-0", uid)
        also = await world.until(PodVolumeBackup, "b1", "Failed", seconds=60)
    assert status["reason"] == also["reason"] == "BlockMode"
