"""What restic leaves to the node's other work: bandwidth, CPU and disk."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ararat.restic.launch import _IOPRIO_SET, IO_PRIORITIES
from ararat.restic.models import Access, BackupRequest, RestoreRequest
from tests.component.restic import trees
from tests.component.restic.conftest import Repository
from tests.component.restic.test_sessions import backup_request, until_running

pytestmark = pytest.mark.timeout(120)

_MIB = 1 << 20


def io_priority(pid: int) -> int:
    """ioprio_get(2): its number follows that of ioprio_set."""
    return int(ctypes.CDLL(None).syscall(_IOPRIO_SET[os.uname().machine] + 1, 1, pid))


@pytest.mark.parametrize("priority", [None, "low", "idle"])
async def test_restic_stands_back(repository: Repository, priority: str | None) -> None:
    trees.fill(repository.volume, files=8, size=400_000)
    limited = repository.with_store(repository.store, bandwidth=_MIB // 4, niceness=7)
    limited.settings = replace(limited.settings, io_priority=priority)
    async with limited.open() as restic:
        task = asyncio.create_task(restic.backup(backup_request(repository)))
        pid = await until_running()
        seen = (os.getpriority(os.PRIO_PROCESS, pid), io_priority(pid))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert seen == (min(19, own + 7), IO_PRIORITIES[priority] if priority else io_priority(0))
    assert await repository.files("locks/") == []


async def test_all_sessions_of_a_node_share_its_bandwidth(repository: Repository) -> None:
    limited = repository.with_store(repository.store, bandwidth=_MIB)

    async def back_up(number: int) -> tuple[Path, str]:
        volume = repository.directory(f"volume{number}")
        trees.fill(volume, files=4, size=400_000, seed=number)
        async with limited.open() as restic:
            made = await restic.backup(BackupRequest(source=volume, host=f"h{number}"))
        assert made.snapshot_id is not None
        return volume, made.snapshot_id

    began = time.monotonic()
    (volume, snapshot), _ = await asyncio.gather(back_up(1), back_up(2))
    # 3.2 MB of random bytes; what was let through last is not waited for any more.
    assert time.monotonic() - began > 1.5

    target = repository.directory("target")
    began = time.monotonic()
    async with limited.open(Access.READ_ONLY) as restic:
        await restic.restore(RestoreRequest(snapshot_id=snapshot, target=target))
    assert time.monotonic() - began > 0.7
    assert {p.name: p.read_bytes() for p in target.rglob("file*")} == {
        p.name: p.read_bytes() for p in volume.rglob("file*")
    }
