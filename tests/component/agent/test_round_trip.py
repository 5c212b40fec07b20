"""Backup and restore with everything real: API server, restic, a directory as store, mounts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from ararat.api import PodVolumeBackup, PodVolumeRestore
from tests.cluster.toolchain import system
from tests.component.agent.real import as_restore, claimed, locks, restics, working
from tests.component.agent.walker import differences, every_kind_of_file, features, walk
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("restic")]


@pytest.fixture
def world(real_world: World) -> World:
    system.ensure()  # mkfs.xfs
    return real_world


def on(world: World, pod: str, uid: str, kind: str) -> Path:
    """The claim's volume of that pod, with a file system of that kind."""
    path = world.kubelet.csi(uid, world.pv(pod), mount=False)
    world.kubelet.formatted(path, kind)
    return path


#: What ``features`` knows, all of which ``every_kind_of_file`` makes.
EVERY_FEATURE = 25


@pytest.mark.parametrize(("kind", "other"), [("ext4", "xfs"), ("xfs", "tmpfs"), ("tmpfs", "ext4")])
async def test_every_kind_of_file_comes_back(world: World, kind: str, other: str):
    """From one file system to another, by an independent walker."""
    uid = await world.pod("db-0", volume=await world.claim("db-0"))
    source = on(world, "db-0", uid, kind)
    every_kind_of_file(source)
    for name in ("socket", "deep/other socket"):
        os.mknod(source / name, stat.S_IFSOCK | 0o700)
    os.utime(source / "deep", ns=(1, 1_400_000_000_000_000_007))
    os.utime(source, ns=(1, 1_300_000_000_000_000_009))
    before = walk(source)
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=90)
        assert backup["incomplete"] is False
        target_uid = await world.pod("db-1", volume=await world.claim("db-1"), gated=True)
        target = on(world, "db-1", target_uid, other)
        level: dict[str, Any] = {"verify": "Full"} if other == "ext4" else {}
        await world.restore("r1", "db-1", target_uid, **as_restore(backup), **level)
        restore = await world.until(PodVolumeRestore, "r1", "Completed", seconds=90)
    # The only thing that does not come back, and it is said.
    assert backup["socketCount"] == 2
    assert sorted(backup["socketPaths"]) == ["deep/other socket", "socket"]
    assert "2 sockets were left out" in backup["message"]
    # Walked and counted by the agent, as the backup counted them.
    assert restore["verified"]["files"] == backup["summary"]["filesTotal"]
    assert restore["verified"]["bytes"] == backup["summary"]["bytesProcessed"]
    assert restore["verified"]["filesRead"] > 0
    after = walk(target)
    # What a new ext4 has in it by itself, on whichever side.
    for tree in (before, after):
        tree.pop(b"lost+found", None)
    assert differences(before, after) == []
    compared = features(before)
    print(f"{kind} to {other}: compared {len(before)} entries, the root among them:")
    print("\n".join(f"  {number:3} {feature}" for feature, number in sorted(compared.items())))
    assert len(compared) == EVERY_FEATURE, compared
    assert "message" not in restore
    assert locks(world) == []
    assert restics() == []
    assert os.listdir(world.config.scratch_dir) == []


async def test_between_kinds_of_volumes(world: World):
    """The same files from a CSI volume by way of memory, a disk of the node and a local volume to a
    CSI volume of another name: what kind a volume is, and its name, are not in what comes back."""
    uid, source = await claimed(world, "csi")
    (source / "deep").mkdir()
    (source / "deep/file").write_bytes(b"content")
    os.chown(source / "deep/file", 1234, 5678)
    source.chmod(0o2770)
    os.utime(source, ns=(1, 1_300_000_000_000_000_009))
    before = walk(source)

    async def memory() -> tuple[str, Path]:
        made = await world.pod("memory", volume={"emptyDir": {"medium": "Memory"}}, gated=True)
        path = world.kubelet.empty_dir(made, "data")
        world.kubelet.tmpfs(path)
        return made, path

    async def disk() -> tuple[str, Path]:
        made = await world.pod("disk", gated=True)
        return made, world.kubelet.empty_dir(made, "data")

    async def local() -> tuple[str, Path]:
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [world.node]}
        affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
        disk = {"local": {"path": "/mnt/disks/one"}, "nodeAffinity": affinity}
        volume = await world.claim("local", source=disk)
        made = await world.pod("local", volume=volume, gated=True)
        path = world.kubelet.volume(made, "kubernetes.io~local-volume", world.pv("local"))
        world.kubelet.bind(world.pv("local"), path)
        return made, path

    async def other() -> tuple[str, Path]:
        return await claimed(world, "renamed", gated=True)

    async with world.agent():
        for number, place in enumerate((memory, disk, local, other)):
            pod = ("csi", "memory", "disk", "local")[number]
            if number:  # its gate has let it go: it runs
                await world.pod_status(pod, {"phase": "Running"})
            await world.backup(f"b{number}", pod, uid)
            backup = await world.until(PodVolumeBackup, f"b{number}", "Completed", seconds=60)
            uid, path = await place()
            name = ("memory", "disk", "local", "renamed")[number]
            await world.restore(f"r{number}", name, uid, **as_restore(backup))
            await world.until(PodVolumeRestore, f"r{number}", "Completed", seconds=60)
            assert differences(before, walk(path)) == [], name


async def test_the_second_backup_reads_only_what_changed(world: World):
    uid, source = await claimed(world, "db-0")
    for number in range(50):
        (source / f"file-{number}").write_bytes(os.urandom(10_000))
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        first = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
        (source / "file-7").write_bytes(b"changed")
        await world.backup("b2", "db-0", uid)
        second = await world.until(PodVolumeBackup, "b2", "Completed", seconds=60)
    assert first["summary"]["filesNew"] == 50
    assert second["summary"]["parent"] == first["snapshotID"]
    assert second["summary"]["filesUnmodified"] == 49
    assert second["summary"]["bytesStored"] < first["summary"]["bytesStored"] / 10


async def test_what_is_left_out_stays_out_and_is_said(world: World):
    """By the Backup and annotations (both in the job), by the volume itself, and as a cache."""
    uid, source = await claimed(world, "db-0")
    for path in ("kept", "a.tmp", "log/b", "scratch/c", "deep/cache/d"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    signature = "Signature: 8a477f597d28d172789f06886806bc55\n"
    (source / "deep/cache/CACHEDIR.TAG").write_text(signature)
    (source / ".araratignore").write_text("# not worth it\nscratch/\n[broken\n")
    async with world.agent():
        await world.backup("b1", "db-0", uid, excludes=["*.tmp", "/log"], excludeCaches=True)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
        target_uid, target = await claimed(world, "db-1", gated=True)
        await world.restore("r1", "db-1", target_uid, **as_restore(backup))
        await world.until(PodVolumeRestore, "r1", "Completed", seconds=60)
    assert backup["excludes"] == ["*.tmp", "/log", "scratch/", "CACHEDIR.TAG"]
    assert "[broken" in backup["message"]
    restored = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert restored - {".araratignore", "deep/cache/CACHEDIR.TAG"} == {"kept"}


async def test_an_empty_volume_restores_to_an_empty_one(world: World):
    uid, source = await claimed(world, "db-0")
    os.chown(source, 1000, 2000)
    source.chmod(0o2770)
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
        assert backup["empty"]
        target_uid, target = await claimed(world, "db-1", gated=True)
        await world.restore("r1", "db-1", target_uid, empty=True, root=backup["root"])
        await world.until(PodVolumeRestore, "r1", "Completed", seconds=60)
    assert differences(walk(source), walk(target)) == []


#: MiB that take restic a second and more, also where nothing else runs.
_BIG = 240
_FILES = _BIG // 8


async def big(world: World, pod: str = "db-0", size: int = _BIG) -> tuple[str, Path]:
    """A volume that takes restic a few seconds."""
    uid, source = await claimed(world, pod)

    def fill() -> None:
        for number in range(size // 8):
            (source / f"file-{number}").write_bytes(os.urandom(8 << 20))

    await asyncio.to_thread(fill)
    return uid, source


async def under_way(world: World) -> None:
    async with asyncio.timeout(90):
        while not working() or not locks(world):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)


async def test_a_cancelled_backup_leaves_no_lock_and_no_process(world: World):
    uid, _ = await big(world)
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        await under_way(world)
        begun = time.monotonic()
        await world.set_spec(PodVolumeBackup, "b1", {"cancel": True})
        while restics():
            await asyncio.sleep(0.02)
        took = time.monotonic() - begun
        await world.until(PodVolumeBackup, "b1", "Cancelled")
    assert took < 2
    assert locks(world) == []


async def test_a_volume_that_is_unmounted_half_way_is_no_small_snapshot(world: World):
    """restic itself sees nothing of it: it stands in what was mounted, and ends well."""
    uid, source = await big(world)
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        await under_way(world)
        world.kubelet.unmount(source)
        status = await world.until(
            PodVolumeBackup, "b1", lambda s: bool(s.get("attempts")), seconds=90
        )
        assert status["reason"] == "VolumeNotMounted"
        status = await world.until(PodVolumeBackup, "b1", "Failed", seconds=90)
    assert status["reason"] == "VolumeNotMounted"
    assert "snapshotID" not in status
    assert locks(world) == []


async def test_a_killed_restic_is_run_again(world: World):
    uid, source = await big(world)
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        await under_way(world)
        for pid in working():
            os.kill(pid, signal.SIGKILL)
        status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=90)
        assert any(c["reason"] == "Killed" for c in status["conditions"])
        target_uid, target = await claimed(world, "db-1", gated=True)
        await world.restore("r1", "db-1", target_uid, **as_restore(status))
        await world.until(PodVolumeRestore, "r1", "Completed", seconds=90)
    assert differences(walk(source), walk(target)) == []
    assert locks(world) == []


async def test_a_shutdown_hands_back_and_the_next_agent_finishes(world: World):
    uid, _ = await big(world)
    async with world.agent() as first:
        await world.backup("b1", "db-0", uid)
        await under_way(world)
        begun = time.monotonic()
        await first.stop()
        assert time.monotonic() - begun < world.config.shutdown_seconds
    assert (await world.status(PodVolumeBackup, "b1"))["phase"] == "New"
    assert locks(world) == []
    assert restics() == []
    async with world.agent():
        status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=90)
    assert status["attempts"] == 0


async def test_a_restore_that_was_interrupted_is_finished(world: World):
    uid, source = await big(world)
    async with world.agent() as first:
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=90)
        target_uid, target = await claimed(world, "db-1", gated=True)
        await world.restore("r1", "db-1", target_uid, **as_restore(backup))
        while not any(target.iterdir()):
            await asyncio.sleep(0.02)
        await first.stop()
    status = await world.status(PodVolumeRestore, "r1")
    assert (status["phase"], status["wrote"]) == ("New", True)
    assert world.kubelet.answer(target_uid)["phase"] != "Completed"
    (target / "left over").write_text("by the interrupted run")
    for number in range(12):  # what a run that had got further would have finished
        shutil.copy2(source / f"file-{number}", target)
    async with world.agent():
        status = await world.until(PodVolumeRestore, "r1", "Completed", seconds=90)
    assert differences(walk(source), walk(target)) == []
    assert status["progress"]["filesDone"] == status["progress"]["totalFiles"] == _FILES
    assert status["progress"]["bytesDone"] == _FILES * (8 << 20)
    assert status["summary"]["filesTotal"] == _FILES
    assert status["summary"]["filesRestored"] <= _FILES - 12


async def test_a_full_volume_says_so(world: World):
    uid, _ = await big(world, size=40)
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
        target_uid = await world.pod("db-1", volume={"emptyDir": {"medium": "Memory"}}, gated=True)
        target = world.kubelet.empty_dir(target_uid, "data")
        world.kubelet.tmpfs(target, options="size=8m")
        await world.restore("r1", "db-1", target_uid, **as_restore(backup))
        status = await world.until(PodVolumeRestore, "r1", "Failed", seconds=60)
    assert status["reason"] == "OutOfSpace"
    assert "40.0 MiB are needed" in status["message"]


async def test_a_wrong_password_is_said(world: World):
    world.repository["passwordSecret"] = "wrong"
    await world.secret("wrong", "f" * 64)
    uid, source = await claimed(world, "db-0")
    (source / "file").write_text("x")
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        status = await world.until(PodVolumeBackup, "b1", "Failed", seconds=60)
    assert status["reason"] == "WrongPassword"
    assert "f" * 64 not in status["message"]


async def test_a_cancelled_restore_leaves_no_lock_and_no_process(world: World):
    """Nor does it open the gate over a part of the data."""
    uid, _ = await big(world)
    async with world.agent():
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=90)
        target_uid, target = await claimed(world, "db-1", gated=True)
        await world.restore("r1", "db-1", target_uid, **as_restore(backup))
        while not any(target.iterdir()):
            await asyncio.sleep(0.02)
        begun = time.monotonic()
        await world.set_spec(PodVolumeRestore, "r1", {"cancel": True})
        while restics():
            await asyncio.sleep(0.02)
        took = time.monotonic() - begun
        status = await world.until(PodVolumeRestore, "r1", "Cancelled")
        async with asyncio.timeout(30):
            while (answer := world.kubelet.answer(target_uid))["phase"] != "Failed":
                await asyncio.sleep(0.05)
    assert took < 10
    assert locks(world) == []
    assert status["message"] == "Cancelled; the volume holds a part of its data."
    assert answer["message"].startswith(status["message"])
