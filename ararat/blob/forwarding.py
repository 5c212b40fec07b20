"""A store that passes everything on to another one.

Problem: some callers need a store that differs from another in one or two calls.
Decision: they derive from this and override those; ``inner`` is the store that does the work.
Limits: none of its own; every promise is the inner store's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime

from .store import BlobInfo, BlobStore, Names, OpenBlob


class ForwardingStore(BlobStore):
    """Behaves like ``inner``."""

    def __init__(self, inner: BlobStore) -> None:
        self.inner = inner

    async def get(self, name: str) -> bytes:
        return await self.inner.get(name)

    def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        return self.inner.read(name, offset=offset, length=length)

    async def open(self, name: str) -> OpenBlob | None:
        """None: who overrides ``read`` must not be passed by."""
        return None

    async def head(self, name: str) -> BlobInfo:
        return await self.inner.head(name)

    async def put(
        self,
        name: str,
        data: bytes,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        return await self.inner.put(
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
        return await self.inner.put_stream(
            name, chunks, create_only=create_only, if_match=if_match, metadata=metadata
        )

    def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        return self.inner.list(prefix, metadata=metadata)

    async def list_directories(self, prefix: str) -> Names:
        return await self.inner.list_directories(prefix)

    async def delete(self, name: str) -> None:
        await self.inner.delete(name)

    async def now(self) -> datetime:
        return await self.inner.now()

    async def close(self) -> None:
        await self.inner.close()
