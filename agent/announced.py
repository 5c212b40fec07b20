"""A store that lets something be written down before a snapshot comes into being.

Problem: restic lists the files it could not read while it runs, and the snapshot does not hold the
list. An agent that is killed between the snapshot and the job's status leaves a snapshot of which
nobody can say whether it is complete; reading everything again is no answer where a hook had frozen
the application and has let it go since.
Decision: everything restic stores passes through our own process. Before the snapshot's blob is
handed on, the caller is told, and writes what it knows into the job.
Limits: restic's complaints come by another pipe; they precede the snapshot by at least the writing
of the index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ararat.blob.forwarding import ForwardingStore
from ararat.blob.store import BlobInfo, BlobStore, OpenBlob

_SNAPSHOTS = "/snapshots/"


class AnnouncedSnapshots(ForwardingStore):
    """``inner`` with a call before each snapshot is stored."""

    def __init__(self, inner: BlobStore, before: Callable[[], Awaitable[None]]) -> None:
        super().__init__(inner)
        self._before = before

    async def open(self, name: str) -> OpenBlob | None:
        return await self.inner.open(name)

    async def put(self, name: str, data: bytes, **options: Any) -> BlobInfo:
        await self._announce(name)
        return await super().put(name, data, **options)

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes], **options: Any) -> BlobInfo:
        await self._announce(name)
        return await super().put_stream(name, chunks, **options)

    async def _announce(self, name: str) -> None:
        if _SNAPSHOTS in name:
            await self._before()
