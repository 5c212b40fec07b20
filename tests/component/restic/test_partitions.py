"""Nodes that are cut off: from the API, from the store, from both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from ararat.blob.errors import StoreUnreachable
from ararat.errors import AraratError
from ararat.restic import locks
from ararat.restic.errors import RepositoryLocked
from ararat.restic.models import Access, BackupRequest, LockOwner
from ararat.restic.settings import Settings

from . import trees
from .conftest import HOST, Repository
from .stores import FaultyStore

LOST = LockOwner("cluster-uid", "pod-on-the-lost-node", "2026-11-22T10:00:00Z", "job")
#: What the API server still knows: the pod of another node.
SEEN = LockOwner("cluster-uid", "pod-on-another-node", "2026-11-22T11:00:00Z", "")


async def holds_a_lock(repository: Repository, running: asyncio.Future[Any]) -> None:
    async with asyncio.timeout(60):
        while not await repository.files("locks/"):
            assert not running.done()
            await asyncio.sleep(0.02)


@pytest.mark.timeout(120)
async def test_a_node_that_is_gone_for_the_cluster_and_goes_on_writing(
    repository: Repository,
) -> None:
    """Its pod and node are missing in the API; that proves nothing, and its lock stays."""
    trees.fill(repository.volume, files=30, size=400_000)
    gate = asyncio.Event()

    class Slow(FaultyStore):
        async def _enter(self, operation: str, name: str) -> None:
            await super()._enter(operation, name)
            if "/data/" in name and operation == "put":
                await gate.wait()

    lost = repository.with_store(Slow(repository.store))
    async with lost.open(owner=LOST) as writer, repository.open(Access.MAINTENANCE) as restic:
        running = asyncio.ensure_future(
            writer.backup(BackupRequest(source=repository.volume, host=HOST))
        )
        await holds_a_lock(repository, running)
        # As long as restic renews it (every 5 minutes) it is never old, whoever else runs.
        now = await repository.store.now()
        for age in (timedelta(), timedelta(minutes=30)):
            held = await restic.list_locks()
            assert locks.dead_locks(held, now=now + age, running=[SEEN]) == []
        assert await restic.remove_dead_locks(running=[SEEN]) == 0
        with pytest.raises(RepositoryLocked):
            await restic.prune()
        gate.set()
        made = await running
        assert made.files_new == 30
        await restic.prune()
        assert [snapshot.id for snapshot in await restic.snapshots()] == [made.snapshot_id]
        assert (await restic.check(read_data_subset="100%")).ok


@pytest.mark.timeout(120)
async def test_a_node_that_is_cut_off_from_the_store(repository: Repository) -> None:
    """It has given up long before its lock, which it cannot remove, counts as dead."""
    patience = Settings().outage_patience + Settings().start_patience
    assert timedelta(seconds=patience) + timedelta(minutes=22.5) < locks.STALE_AFTER

    trees.fill(repository.volume, files=60, size=400_000)
    cut = False

    def cable(_operation: str, name: str) -> AraratError | None:
        nonlocal cut
        cut = cut or "/data/" in name
        return StoreUnreachable("the cable is cut") if cut else None

    faulty = FaultyStore(repository.store, before=cable)
    async with repository.with_store(faulty, outage_patience=2.0).open(owner=LOST) as writer:
        with pytest.raises(StoreUnreachable, match="the cable is cut"):
            await writer.backup(BackupRequest(source=repository.volume, host=HOST))
    faulty.calls.clear()
    held = await locks.list_locks(repository.store, repository.current.directory)
    assert [lock.owner for lock in held] == [LOST]
    async with repository.open() as restic:  # a lock of that kind stops no backup
        await restic.backup(BackupRequest(source=repository.volume, host=HOST))
    async with repository.open(Access.MAINTENANCE) as restic:
        with pytest.raises(RepositoryLocked):
            await restic.prune()
        now = await repository.store.now()
        assert locks.dead_locks(held, now=now + timedelta(minutes=44), running=[SEEN]) == []
        late = locks.dead_locks(held, now=now + timedelta(minutes=46), running=[SEEN])
        for lock, _why in late:
            await restic.remove_lock(lock.id)
        await restic.prune()
        assert (await restic.check()).ok
    # The cable is mended: nothing of the session is left that could write.
    cut = False
    assert faulty.calls == []


@pytest.mark.timeout(120)
async def test_leaving_a_session_ends_though_the_store_hangs_for_ever(
    repository: Repository,
) -> None:
    trees.fill(repository.volume, files=60, size=400_000)
    hanging = asyncio.Event()
    never = asyncio.Event()

    class Hanging(FaultyStore):
        async def _enter(self, operation: str, name: str) -> None:
            if "/data/" in name:
                hanging.set()
            if hanging.is_set():
                await never.wait()

        async def read(
            self, name: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            await self._enter("read", name)
            async for piece in self.inner.read(name, offset=offset, length=length):
                yield piece

    dead = repository.with_store(Hanging(repository.store), closing=2.0, grace=5.0)
    began = time.monotonic()

    async def job() -> None:
        async with dead.open() as restic:
            await restic.backup(BackupRequest(source=repository.volume, host=HOST))

    running = asyncio.ensure_future(job())
    async with asyncio.timeout(60):
        await hanging.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # Without a deadline: an attempt's 30 s again and again. With it: grace and closing, and load.
    assert time.monotonic() - began < 45
    assert list(repository.directory("scratch").iterdir()) == []
