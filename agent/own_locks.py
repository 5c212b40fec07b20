"""Removes the locks that an earlier agent of this node left in a repository.

Problem: an agent that is killed takes its restic with it, and restic's lock stays: maintenance of
that repository would wait for 45 minutes.
Decision: the first job of this container in a repository, each one that was tried before, and the
end of one that was left InProgress first remove locks of this pod with an earlier start (that this
container runs proves that the other does not), and locks of other pods that held the lock of this
node, which is this agent's now (agent/node_lock.py). Nothing else is touched on that ground.
Limits: where the pod moved to another cache directory, and after a restart of the node with another
pod, nothing is proven; those locks age.
"""

from __future__ import annotations

import structlog

from ararat.blob.store import BlobStore
from ararat.errors import AraratError
from ararat.restic.locks import dead_locks, list_locks, remove_lock
from ararat.restic.models import LockOwner

_log = structlog.get_logger(__name__)


async def sweep_own_locks(store: BlobStore, directory: str, owner: LockOwner) -> int | None:
    """How many were removed; None where that is not known.

    Never raises AraratError: a lock that stays only delays others.
    """
    removed = 0
    try:
        locks = await list_locks(store, directory)
        mine = [lock for lock in locks if lock.owner and _of_this_node(lock.owner, owner)]
        for lock, why in dead_locks(mine, now=await store.now(), running=[owner]):
            await remove_lock(store, directory, lock.id)
            _log.info("lock.removed", lock=lock.id[:8], directory=directory, why=why)
            removed += 1
    except AraratError as error:
        _log.warning("lock.sweep_failed", directory=directory, cause=error.message)
        return None
    return removed


def _of_this_node(other: LockOwner, owner: LockOwner) -> bool:
    same_lock = bool(owner.node_lock) and other.node_lock == owner.node_lock
    return same_lock or other.pod_uid == owner.pod_uid
