"""Room on a filesystem location that is given up when the rest is full.

Problem: on a full file system nothing can be deleted either: saying that a deletion began, a lock
and a new index are files themselves.
Decision: files of 32 MiB together stand in the location once there is plenty of room. A deletion
that finds it full removes one of them, and the prune that is to make room the others. A prune that
made none puts back what it took; when there is plenty again, maintenance puts back all.
Limits: only directories fill up. A location on Azure has no reserve, and needs none.
"""

from __future__ import annotations

import os
import shutil

from ararat import layout
from ararat.api.location import BackupLocationSpec
from ararat.blob.store import BlobStore
from ararat.errors import Conflict, OutOfSpace

PIECES = 8
_PIECE_BYTES = 4 << 20
BYTES = PIECES * _PIECE_BYTES
#: With less than this the location is full: what is free may be the reserve that was given up.
FULL = 2 * BYTES
#: With less than this free none is made: there would be no plenty left.
PLENTY = 3 * BYTES


def free_bytes(spec: BackupLocationSpec) -> int | None:
    """Room in a location; None: it does not fill up, or is not there to be asked. Blocks."""
    if spec.filesystem is None:
        return None
    try:
        return shutil.disk_usage(spec.filesystem.path).free
    except OSError:
        return None


async def give_up(store: BlobStore, *, pieces: int) -> int:
    """Returns how many there were to give."""
    found = [blob.name async for blob in store.list(layout.RESERVE)]
    for name in sorted(found)[:pieces]:
        await store.delete(name)
    return len(found[:pieces])


async def keep(store: BlobStore, *, free: int | None) -> None:
    """Best effort."""
    if free is None or free < PLENTY:
        return
    await put_back(store, pieces=PIECES)


async def put_back(store: BlobStore, *, pieces: int) -> None:
    """So many more, as far as there is room. Best effort."""
    found = [blob.name async for blob in store.list(layout.RESERVE)]
    missing = [f"{layout.RESERVE}{number}" for number in range(PIECES)]
    for name in [name for name in missing if name not in found][:pieces]:
        try:
            # Random, so that a file system that compresses keeps the room as well.
            await store.put(name, os.urandom(_PIECE_BYTES), create_only=True)
        except (Conflict, OutOfSpace):
            return
