"""A store that nothing can be written to or deleted from.

Problem: an installation that only restores must not be able to change what another one backs up,
whatever a bug, a repository command or a person asks of it; its credentials often could.
Decision: the store of a ReadOnly location is wrapped where stores are opened, in the controller and
in the agents alike. Every write and every deletion is refused before anything is sent.
Limits: what else holds the location's credentials is not held back; give such an installation
credentials that can only read (docs/security.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NoReturn

from ararat.errors import AccessDenied

from .forwarding import ForwardingStore
from .store import BlobInfo, OpenBlob


class LocationReadOnly(AccessDenied):
    """The location is ReadOnly here."""

    default_reason = "LocationReadOnly"


class ReadOnlyStore(ForwardingStore):
    """Reads like the store within."""

    async def open(self, name: str) -> OpenBlob | None:
        return await self.inner.open(name)  # it is open for reading alone

    async def put(self, name: str, data: bytes, **options: Any) -> BlobInfo:
        _refuse("stored", name)

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes], **options: Any) -> BlobInfo:
        _refuse("stored", name)

    async def delete(self, name: str) -> None:
        _refuse("deleted", name)

    async def now(self) -> datetime:
        """Ours: a directory's clock can only be read by writing."""
        return datetime.now(UTC)


def _refuse(what: str, name: str) -> NoReturn:
    raise LocationReadOnly(
        f"{name} is not {what}: the location is ReadOnly here; set its accessMode to ReadWrite "
        "only where no other cluster writes to it"
    )
