"""What each level of checking finds on a disk that kept other bytes than it was given.

The disk is a file of ours under a real ext4; once everything restored was flushed to it, one block
is changed behind the file system's back. Memory still holds what was written.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.flush import flush
from agent.verify import SAMPLE_BYTES
from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.restic.commands import Restic
from ararat.restic.models import OnRestoreProgress, RestoreRequest, RestoreResult
from ararat.restic.session import open_repository
from tests.component.agent.real import as_restore, claimed
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("restic")]

_BLOCK = 4096
#: A small file, and one that is larger than all that a sample reads: most of it is a hole.
_SMALL, _LARGE = "small", "large"


@pytest.fixture
def world(real_world: World) -> World:
    return real_world


class LyingDisk:
    """Stands between the agent and restic, and changes the disk after the first restore."""

    def __init__(self, image: Path, lie: bytes) -> None:
        self._image, self._lie = image, lie
        self.lied = 0

    @asynccontextmanager
    async def __call__(self, **arguments: Any) -> AsyncIterator[Restic]:
        async with open_repository(**arguments) as restic:
            restore = restic.restore

            async def and_lie(
                request: RestoreRequest, *, on_progress: OnRestoreProgress | None = None
            ) -> RestoreResult:
                result = await restore(request, on_progress=on_progress)
                assert isinstance(request.target, int)
                await asyncio.to_thread(flush, request.target)
                if not self.lied:
                    self.lied = await asyncio.to_thread(self._change)
                return result

            restic.restore = and_lie  # type: ignore[method-assign]
            yield restic

    def _change(self) -> int:
        """Every place on the disk where these bytes are; how many there were."""
        found = 0
        with self._image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as disk:
            while (at := disk.find(self._lie)) >= 0:
                disk[at : at + len(self._lie)] = bytes(len(self._lie))
                found += 1
            disk.flush()
        return found


@pytest.mark.parametrize(
    ("level", "where", "found"),
    [
        ("None", _SMALL, False),
        ("Sample", _SMALL, True),
        ("Sample", _LARGE, False),
        ("Full", _LARGE, True),
    ],
)
async def test_a_disk_that_kept_other_bytes(world: World, level: str, where: str, found: bool):
    blocks = {name: os.urandom(_BLOCK) for name in (_SMALL, _LARGE)}
    uid, source = await claimed(world, "db-0")
    for name, block in blocks.items():
        (source / name).write_bytes(block)
    os.truncate(source / _LARGE, SAMPLE_BYTES + _BLOCK)
    new = await world.pod("db-1", volume=await world.claim("db-1"), gated=True)
    target = world.kubelet.csi(new, world.pv("db-1"), mount=False)
    world.kubelet.formatted(target, "ext4")
    disk = LyingDisk(world.kubelet.image(target), blocks[where])
    async with world.agent(disk, retry_seconds=0.1):
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=90)
        await world.restore("r1", "db-1", new, **as_restore(backup), verify=level)
        status = await world.until(PodVolumeRestore, "r1", "Completed", seconds=90)
    assert disk.lied == 1
    causes = [(each["reason"], each["message"]) for each in status.get("conditions") or []]
    kept = _from_disk(target / where)
    if found:
        # Said, and mended by the next attempt.
        assert [reason for reason, _ in causes] == ["ContentDiffers"]
        assert f"the first: /{where}" in causes[0][1]
        assert kept == blocks[where]
    else:
        assert (causes, kept) == ([], bytes(_BLOCK))
    assert ("verified" in status) == (level != "None")


def _from_disk(file: Path) -> bytes:
    """Its first block, whatever is in memory."""
    fd = os.open(file, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fd, _BLOCK)
    finally:
        os.close(fd)
