"""Locks of an earlier agent of this node are removed, and no others."""

from __future__ import annotations

from pathlib import Path

from agent.own_locks import sweep_own_locks
from ararat.api.location import BackupLocationSpec, FilesystemLocation
from ararat.blob.open import open_store
from ararat.restic.locks import list_locks, metadata
from ararat.restic.models import LockOwner

DIRECTORY = "repositories/volumes/web/0001"


def owner(pod: str, started: str, node_lock: str = "boot:1:2") -> LockOwner:
    return LockOwner("c1", pod, started, "job-1", node_lock)


async def test_only_what_is_proven_dead_goes(tmp_path: Path):
    store = await open_store(
        BackupLocationSpec(filesystem=FilesystemLocation(path=str(tmp_path))), {}
    )
    held = {
        "a" * 64: owner("me", "2026-01-01T00:00:00"),
        "b" * 64: owner("me", "2026-01-02T00:00:00"),
        "c" * 64: owner("another", "2026-01-01T00:00:00", "boot:1:3"),
        "d" * 64: owner("another", "2026-01-01T00:00:00", ""),
        "e" * 64: owner("the one before", "2026-01-01T00:00:00"),
    }
    for name, who in held.items():
        await store.put(f"{DIRECTORY}/locks/{name}", b"x", metadata=metadata(who))
    assert await sweep_own_locks(store, DIRECTORY, held["b" * 64]) == 2
    left = {lock.id for lock in await list_locks(store, DIRECTORY)}
    assert left == {"b" * 64, "c" * 64, "d" * 64}
    await store.close()
