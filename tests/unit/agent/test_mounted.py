"""A volume is opened only where it is proven; fabricated tables around real directories."""

import asyncio
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.mounted import (
    OpenVolume,
    VolumeNotMounted,
    WrongMount,
    limited_on,
    open_volume,
    volume_opened,
)
from agent.mounts import Mount, MountTable, mount_id_of
from agent.volumes import CSI, VolumeSource

CLAIM = VolumeSource(kind="persistentVolumeClaim", places=((CSI, "pv", "mount"),), mounted=True)
EMPTY = VolumeSource(kind="emptyDir", places=(("kubernetes.io~empty-dir", "data"),), mounted=False)


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def directory(kubelet: Path, source: VolumeSource, which: int = 0) -> Path:
    path = kubelet.joinpath("pods", "u-1", "volumes", *source.places[which])
    path.mkdir(parents=True)
    return path


def id_of(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return mount_id_of(fd)
    finally:
        os.close(fd)


def mounted_at(path: Path, *, mount_id: int, fstype: str = "ext4") -> MountTable:
    """A table that says: ``path`` is a mount point, of a mount with this id."""
    entry = Mount(
        id=mount_id, parent=0, device=(8, 1), root="/", point=str(path),
        fstype=fstype, source="/dev/x", read_only=False,
    )  # fmt: skip
    return MountTable([entry])


def opened(kubelet: Path, source: VolumeSource, table: MountTable) -> OpenVolume:
    return open_volume(kubelet, "u-1", source, read=lambda: table)


def test_a_mounted_claim(kubelet: Path):
    path = directory(kubelet, CLAIM)
    volume = opened(kubelet, CLAIM, mounted_at(path, mount_id=id_of(path)))
    assert volume.path == path
    os.close(volume.fd)


def test_a_directory_that_is_not_mounted_is_the_nodes_disk(kubelet: Path):
    path = directory(kubelet, CLAIM)
    with pytest.raises(VolumeNotMounted, match="plain directory of the node's disk"):
        opened(kubelet, CLAIM, mounted_at(path.parent, mount_id=id_of(path)))


def test_a_mount_that_is_not_the_one_that_was_opened(kubelet: Path):
    path = directory(kubelet, CLAIM)
    with pytest.raises(VolumeNotMounted, match="while it was being opened"):
        opened(kubelet, CLAIM, mounted_at(path, mount_id=id_of(path) + 100_000))


def test_nothing_there(kubelet: Path):
    with pytest.raises(VolumeNotMounted, match="does not exist"):
        opened(kubelet, CLAIM, MountTable([]))


def test_a_link_in_its_place(kubelet: Path):
    base = kubelet / "pods/u-1/volumes" / CSI / "pv"
    base.mkdir(parents=True)
    (base / "mount").symlink_to("/etc")
    with pytest.raises(WrongMount, match="cannot be opened"):
        opened(kubelet, CLAIM, MountTable([]))


def test_two_candidates(kubelet: Path):
    source = VolumeSource(
        kind="azureDisk",
        places=(("kubernetes.io~azure-disk", "pv"), (CSI, "pv", "mount")),
        mounted=True,
    )
    directory(kubelet, source, 0)
    directory(kubelet, source, 1)
    with pytest.raises(WrongMount, match="both exist"):
        opened(kubelet, source, MountTable([]))


def test_a_disk_backed_empty_dir_is_a_plain_directory(kubelet: Path):
    path = directory(kubelet, EMPTY)
    volume = opened(kubelet, EMPTY, mounted_at(kubelet, mount_id=id_of(path)))
    os.close(volume.fd)
    with pytest.raises(WrongMount, match="should be a plain directory"):
        opened(kubelet, EMPTY, mounted_at(path, mount_id=id_of(path)))


def test_a_memory_empty_dir_is_tmpfs(kubelet: Path):
    source = VolumeSource(kind="emptyDir", places=EMPTY.places, mounted=True, fstype="tmpfs")
    path = directory(kubelet, source)
    with pytest.raises(WrongMount, match="should be tmpfs"):
        opened(kubelet, source, mounted_at(path, mount_id=id_of(path)))
    volume = opened(kubelet, source, mounted_at(path, mount_id=id_of(path), fstype="tmpfs"))
    os.close(volume.fd)


def test_confirmed_afterwards(kubelet: Path):
    path = directory(kubelet, CLAIM)
    good = mounted_at(path, mount_id=id_of(path))
    volume = opened(kubelet, CLAIM, good)
    volume.confirm(read=lambda: good)
    with pytest.raises(VolumeNotMounted, match="unmounted, or something else"):
        volume.confirm(read=lambda: MountTable([]))
    with pytest.raises(VolumeNotMounted, match="unmounted, or something else"):
        volume.confirm(read=lambda: mounted_at(path, mount_id=volume.mount.id + 1))
    path.rename(path.with_name("old"))
    path.mkdir()
    with pytest.raises(VolumeNotMounted, match="replaced"):
        volume.confirm(read=lambda: good)
    os.close(volume.fd)


async def test_waits_while_that_is_normal(kubelet: Path):
    said: list[str] = []

    def arrive(message: str) -> None:
        said.append(message)
        if len(said) == 1:
            directory(kubelet, EMPTY)

    async with volume_opened(kubelet, "u-1", EMPTY, wait_seconds=10, waiting=arrive) as volume:
        fd = volume.fd
        assert os.fstat(fd)
    assert "does not exist" in said[0]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_gives_up_when_the_time_is_over(kubelet: Path):
    with pytest.raises(VolumeNotMounted):
        async with volume_opened(kubelet, "u-1", EMPTY, wait_seconds=0.1):
            raise AssertionError("never entered")


async def test_a_late_call_never_meets_another_volume(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir(mode=0o700)
    other.mkdir(mode=0o700)
    pool, busy = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(pool)
    pool.submit(busy.wait)
    fd = os.open(mine, os.O_RDONLY)
    work = asyncio.ensure_future(limited_on(fd, os.fchmod, 0o777))
    await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait([work])
    os.close(fd)
    again = os.open(other, os.O_RDONLY)
    assert again == fd, "the number was given out again"
    busy.set()
    await asyncio.to_thread(lambda: None)
    os.close(again)
    assert stat.S_IMODE(other.stat().st_mode) == 0o700
    assert stat.S_IMODE(mine.stat().st_mode) == 0o777
