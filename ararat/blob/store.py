"""The one seam to stored data: a flat set of named blobs.

Problem: backups must behave the same in Azure and in a directory, also when two writers meet, an
answer gets lost, or the store is away; and each caller must be able to tell those cases apart.
Decision: a small protocol with its promises written down here, and one conformance suite
(``tests/component/blob``) that every implementation passes.
Limits: no renames, no leases, no partial overwrite. A name cannot be both a blob and a folder.

Promises of every implementation:

- Names are ``/``-separated, relative to the location's prefix, and legal by ``check_name``.
- A blob appears whole or not at all. A writer that dies leaves nothing that a listing shows.
- ``create_only`` has exactly one winner; all others get ``Conflict`` and change nothing.
- ``NotFound`` is raised only when the store itself said that this one blob is not there. A missing
  container is ``ContainerNotFound`` (Retryable), refused credentials are ``AccessDenied``.
- A listing is complete or raises; it never ends early.
- Each call retries short disturbances by itself and is safe to repeat after an error. Where a
  repeated ``create_only`` put finds its own earlier success it may raise ``Conflict``: the caller
  compares what is stored with what it meant to store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ararat.errors import InvalidSpec

#: Azure: a blob name has at most 1,024 characters (learn.microsoft.com, "Naming and referencing
#: containers, blobs, and metadata"); file systems: 255 bytes for one component.
NAME_LIMIT = 1024
COMPONENT_LIMIT = 255

#: A method called ``list`` hides the type inside the protocol.
Names = list[str]


@dataclass(frozen=True)
class BlobInfo:
    """A stored blob, as its store describes it. ``metadata`` keys are lower case."""

    name: str
    size: int
    etag: str
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenBlob:
    """A blob that is a file of this machine, open for reading."""

    descriptor: int
    size: int


class BlobStore(Protocol):
    """See the module's promises."""

    async def get(self, name: str) -> bytes:
        """The whole of a small blob. Raises NotFound."""
        ...

    def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """The blob (or a part of it) in pieces. Raises NotFound before the first piece."""
        ...

    async def open(self, name: str) -> OpenBlob | None:
        """The blob as an open file, the caller's to close; None: here it is none. Raises NotFound.

        What is read from it is what ``read`` would give, without its retries.
        """
        ...

    async def head(self, name: str) -> BlobInfo:
        """Size, etag, time and metadata. Raises NotFound."""
        ...

    async def put(
        self,
        name: str,
        data: bytes,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        """Store a blob that is in memory. Raises Conflict (create_only, if_match)."""
        ...

    async def put_stream(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        """Store a blob of any size in flat memory.

        Nothing is committed before ``chunks`` has ended; if it raises, nothing ever is.
        """
        ...

    def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        """Every blob whose name starts with ``prefix`` (a string, not a folder), in any order."""
        ...

    async def list_directories(self, prefix: str) -> Names:
        """Sorted names of the folders directly below the folder ``prefix``; "" is the root."""
        ...

    async def delete(self, name: str) -> None:
        """Remove a blob; one that is not there is not an error."""
        ...

    async def now(self) -> datetime:
        """The store's own clock, which ages of blobs must be measured with."""
        ...

    async def close(self) -> None:
        """Give back connections; the store is not used afterwards."""
        ...


def check_name(name: str) -> str:
    """``name`` itself where every store can keep it, else InvalidSpec.

    Refused besides the obvious: backslashes (Azure reads them as ``/``), components that end in a
    dot (Azure drops it) and control characters.
    """
    parts = name.split("/")
    if (
        len(name) > NAME_LIMIT
        or any(part in ("", ".", "..") or part.endswith(".") for part in parts)
        or any(len(part.encode(errors="surrogatepass")) > COMPONENT_LIMIT for part in parts)
        or any(ord(c) < 0x20 or c in "\\\x7f" or 0xD800 <= ord(c) <= 0xDFFF for c in name)
    ):
        raise InvalidSpec(f"{name[:80]!r} cannot be the name of a blob", reason="InvalidBlobName")
    return name
