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

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime

from ararat.blob.store import BlobInfo, BlobStore, Names

_SNAPSHOTS = "/snapshots/"


class AnnouncedSnapshots:
    """``store`` with a call before each snapshot is stored."""

    def __init__(self, store: BlobStore, before: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._before = before

    async def put(
        self,
        name: str,
        data: bytes,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        await self._announce(name)
        return await self._store.put(
            name, data, create_only=create_only, if_match=if_match, metadata=metadata
        )

    async def put_stream(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        await self._announce(name)
        return await self._store.put_stream(
            name, chunks, create_only=create_only, if_match=if_match, metadata=metadata
        )

    async def get(self, name: str) -> bytes:
        return await self._store.get(name)

    def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        return self._store.read(name, offset=offset, length=length)

    async def head(self, name: str) -> BlobInfo:
        return await self._store.head(name)

    def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        return self._store.list(prefix, metadata=metadata)

    async def list_directories(self, prefix: str) -> Names:
        return await self._store.list_directories(prefix)

    async def delete(self, name: str) -> None:
        await self._store.delete(name)

    async def now(self) -> datetime:
        return await self._store.now()

    async def close(self) -> None:
        await self._store.close()

    async def _announce(self, name: str) -> None:
        if _SNAPSHOTS in name:
            await self._before()
