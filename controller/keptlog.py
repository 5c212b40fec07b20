"""The log of a run under way, kept in its location for whoever goes on with it.

Problem: the log is in the memory of the controller that leads. When that one is killed, what went
wrong before is what somebody wants to read.
Decision: it is stored where it will be in the end, soon after the run began and then every
``KEEP_SECONDS`` if there is more, but never more than a fiftieth of the time: the log of ten
thousand volumes takes half a second. Whoever takes over reads it and goes on from there. Until
that was done nothing is stored over it.
Limits: the lines of the last seconds before a kill are lost. Best effort: a store that is away
costs lines, and never the run.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ararat.blob.store import BlobStore
from ararat.errors import AraratError, NotFound

from .runlog import RunLog, decode

KEEP_SECONDS = 15.0
_SHARE = 50


@dataclass
class KeptLog:
    """What this process has done about the log of one run."""

    _read: bool = False
    _count: int = 0
    #: Monotonic seconds of the next time, at the earliest.
    _next: float = 0.0

    async def read(self, store: BlobStore, blob: str, log: RunLog, *, uid: str) -> None:
        """Put what was kept by others before this process's own lines; once."""
        if self._read:
            return
        try:
            data = await store.get(blob)
        except NotFound:
            data = b""
        except AraratError:
            return
        lines = await asyncio.to_thread(decode, data, uid=uid) if data else []
        self._read = True
        if lines:
            log.precede(lines)

    async def keep(self, store: BlobStore, blob: str, log: RunLog) -> None:
        """Store it, if there is more than last time and that was a while ago."""
        began, count = time.monotonic(), log.count
        if not self._read or count == self._count or began < self._next:
            return
        try:
            await store.put(blob, await asyncio.to_thread(log.encode))
            self._count = count
        except AraratError:
            pass
        now = time.monotonic()
        self._next = now + max(KEEP_SECONDS, _SHARE * (now - began))
