"""A store that nothing can be written to or deleted from.

Problem: an installation that only restores must not be able to change what another one backs up,
whatever a bug, a repository command or a person asks of it; its credentials often could.
Decision: the store of a ReadOnly location is wrapped where stores are opened, in the controller and
in the agents alike. Every write and every deletion is refused before anything is sent.
Limits: what else holds the location's credentials is not held back; give such an installation
credentials that can only read (docs/security.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import NoReturn

from ararat.errors import AccessDenied

from .store import BlobInfo, BlobStore, Names


class LocationReadOnly(AccessDenied):
    """The location is ReadOnly here."""

    default_reason = "LocationReadOnly"


class ReadOnlyStore(BlobStore):
    """Reads like the store within."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    async def get(self, name: str) -> bytes:
        return await self._store.get(name)

    def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        return self._store.read(name, offset=offset, length=length)

    async def head(self, name: str) -> BlobInfo:
        return await self._store.head(name)

    async def put(
        self,
        name: str,
        data: bytes,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        _refuse("stored", name)

    async def put_stream(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        _refuse("stored", name)

    def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        return self._store.list(prefix, metadata=metadata)

    async def list_directories(self, prefix: str) -> Names:
        return await self._store.list_directories(prefix)

    async def delete(self, name: str) -> None:
        _refuse("deleted", name)

    async def now(self) -> datetime:
        """Ours: a directory's clock can only be read by writing."""
        return datetime.now(UTC)

    async def close(self) -> None:
        await self._store.close()


def _refuse(what: str, name: str) -> NoReturn:
    raise LocationReadOnly(
        f"{name} is not {what}: the location is ReadOnly here; set its accessMode to ReadWrite "
        "only where no other cluster writes to it"
    )
