"""restic's locks as we see them: who holds one, and when it is dead.

Problem: ``restic unlock`` takes a lock for dead by host name and process id, which mean nothing
between containers; it can delete the lock of a running backup.
Decision: our server stores each lock with its owner as metadata, in the same request. A lock is
dead only if the process that held it was reaped (its session sweeps it), if a later container of
the same pod runs, if another process holds the node's lock that its owner held for as long as it
ran, or if the blob has not been renewed for 45 minutes by the store's own clock: a live restic
renews every 5 minutes and gives up at 22.5.
Limits: a missing pod, node or cluster proves nothing: a partitioned node goes on writing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ararat.blob.store import BlobStore
from ararat.errors import InvalidSpec

from .models import LockOwner
from .rest_paths import Kind, Target, is_id

STALE_AFTER = timedelta(minutes=45)
_PREFIX = "ararat_"


@dataclass(frozen=True)
class Lock:
    id: str
    #: By the store's clock; restic renews a lock by a new one with a new id.
    created: datetime
    #: None for a lock that was not stored through us.
    owner: LockOwner | None


def metadata(owner: LockOwner) -> dict[str, str]:
    """Azure wants C# identifiers for keys and ASCII for values."""
    values = {
        "cluster": owner.cluster,
        "pod_uid": owner.pod_uid,
        "container_start": owner.container_start,
        "job": owner.job,
        "node_lock": owner.node_lock,
    }
    return {
        f"{_PREFIX}{key}": value.encode("ascii", "replace").decode()
        for key, value in values.items()
        if value
    }


def owner_of(found: dict[str, str]) -> LockOwner | None:
    fields = {
        key: found.get(f"{_PREFIX}{key}", "")
        for key in ("cluster", "pod_uid", "container_start", "job", "node_lock")
    }
    return LockOwner(**fields) if any(fields.values()) else None


async def list_locks(store: BlobStore, directory: str) -> list[Lock]:
    """Every lock of a repository, oldest first; nothing is decrypted and restic is not run."""
    prefix = f"{directory}/{Kind.LOCK}/"
    found = [
        Lock(blob.name.removeprefix(prefix), blob.last_modified, owner_of(dict(blob.metadata)))
        async for blob in store.list(prefix, metadata=True)
    ]
    return sorted((lock for lock in found if is_id(lock.id)), key=lambda lock: lock.created)


def dead_locks(
    locks: Iterable[Lock], *, now: datetime, running: Iterable[LockOwner] = ()
) -> list[tuple[Lock, str]]:
    """The locks that may be removed, and why. ``now`` is the store's clock.

    ``running`` are containers known to run at this moment (their ``job`` does not matter): an
    earlier container of the same pod has ended, and so has who had the node's lock before them,
    whatever was left behind.
    """
    running = list(running)
    current = {(o.cluster, o.pod_uid): o.container_start for o in running if o.pod_uid}
    holders = {(o.cluster, o.node_lock): _container(o) for o in running if o.node_lock}
    dead = []
    for lock in locks:
        owner = lock.owner
        started = current.get((owner.cluster, owner.pod_uid)) if owner else None
        if owner is not None and started is not None and owner.container_start < started:
            dead.append((lock, "a later container of the same pod runs"))
        elif owner is not None and _ousted(owner, holders):
            dead.append((lock, "another agent holds the lock of its node"))
        elif now - lock.created > STALE_AFTER:
            minutes = int((now - lock.created).total_seconds() // 60)
            dead.append((lock, f"not renewed for {minutes} minutes"))
    return dead


def _container(owner: LockOwner) -> tuple[str, str]:
    return owner.pod_uid, owner.container_start


def _ousted(owner: LockOwner, holders: Mapping[tuple[str, str], tuple[str, str]]) -> bool:
    holder = holders.get((owner.cluster, owner.node_lock))
    return holder is not None and holder != _container(owner)


async def remove_lock(store: BlobStore, directory: str, lock_id: str) -> None:
    """Remove one lock by its id; one that is gone already is not an error."""
    if not is_id(lock_id):
        raise InvalidSpec(f"{lock_id[:80]!r} is not the id of a lock")
    await store.delete(f"{directory}/{Target(Kind.LOCK, lock_id).name}")
