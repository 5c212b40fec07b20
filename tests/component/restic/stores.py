"""A store that misbehaves on request, around a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from ararat.blob.forwarding import ForwardingStore
from ararat.blob.store import BlobInfo, BlobStore, Names
from ararat.errors import AraratError

#: Gets the operation and the blob's name; an error it returns is raised instead of the call.
Fault = Callable[[str, str], AraratError | None]


def healthy(_operation: str, _name: str) -> AraratError | None:
    return None


@dataclass
class FaultyStore(ForwardingStore):
    """``before`` fails a call; ``after`` fails it when the real store has done its work."""

    inner: BlobStore
    before: Fault = healthy
    after: Fault = healthy
    calls: list[str] = field(default_factory=list)
    delay: float = 0.0

    async def _enter(self, operation: str, name: str) -> None:
        self.calls.append(f"{operation} {name}")
        if self.delay:
            await asyncio.sleep(self.delay)
        self._raise(self.before, operation, name)

    @staticmethod
    def _raise(fault: Fault, operation: str, name: str) -> None:
        exc = fault(operation, name)
        if exc is not None:
            raise exc

    async def get(self, name: str) -> bytes:
        await self._enter("get", name)
        return await self.inner.get(name)

    async def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        await self._enter("read", name)
        async for piece in self.inner.read(name, offset=offset, length=length):
            yield piece
            self._raise(self.after, "read", name)

    async def head(self, name: str) -> BlobInfo:
        await self._enter("head", name)
        return await self.inner.head(name)

    async def put(self, name: str, data: bytes, **options: Any) -> BlobInfo:
        await self._enter("put", name)
        info = await super().put(name, data, **options)
        self._raise(self.after, "put", name)
        return info

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes], **options: Any) -> BlobInfo:
        await self._enter("put", name)
        info = await super().put_stream(name, chunks, **options)
        self._raise(self.after, "put", name)
        return info

    async def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        await self._enter("list", prefix)
        async for info in self.inner.list(prefix, metadata=metadata):
            yield info
            self._raise(self.after, "list", prefix)

    async def list_directories(self, prefix: str) -> Names:
        await self._enter("list", prefix)
        return await self.inner.list_directories(prefix)

    async def delete(self, name: str) -> None:
        await self._enter("delete", name)
        await self.inner.delete(name)
        self._raise(self.after, "delete", name)
