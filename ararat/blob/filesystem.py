"""BlobStore in a directory that every node sees (or the only node has).

Decision: the asyncio shell of ``directory.py``; every blocking call runs in a thread. Reads and
writes move one MiB at a time, so that memory stays flat whatever a blob's size.
Limits: a thread that hangs in a dead NFS mount cannot be cancelled; callers have deadlines.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path

from .directory import Directory
from .store import BlobInfo, Names, OpenBlob

_PIECE = 512 * 1024


class FilesystemStore:
    """See ``store.BlobStore`` for what each method promises."""

    def __init__(self, root: Path) -> None:
        self._directory = Directory(root)

    async def get(self, name: str) -> bytes:
        return b"".join([piece async for piece in self.read(name)])

    async def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        descriptor = (await self.open(name)).descriptor
        try:
            end = None if length is None else offset + length
            while end is None or offset < end:
                size = _PIECE if end is None else min(_PIECE, end - offset)
                piece = await asyncio.to_thread(self._read_piece, name, descriptor, size, offset)
                if not piece:
                    break
                offset += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    async def open(self, name: str) -> OpenBlob:
        opening = asyncio.ensure_future(asyncio.to_thread(self._open, name))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    async def head(self, name: str) -> BlobInfo:
        return await asyncio.to_thread(self._directory.head, name)

    async def put(
        self,
        name: str,
        data: bytes,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        def store() -> BlobInfo:
            self._directory.path(name)
            descriptor, temporary = self._directory.begin()
            try:
                self._write_piece(name, descriptor, data)
                return self._directory.commit(
                    descriptor,
                    temporary,
                    name,
                    create_only=create_only,
                    if_match=if_match,
                    metadata=metadata,
                )
            finally:
                self._directory.discard(descriptor, temporary)

        return await asyncio.to_thread(store)

    async def put_stream(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        self._directory.path(name)
        descriptor, temporary = await asyncio.to_thread(self._directory.begin)
        try:
            async for chunk in chunks:
                await asyncio.to_thread(self._write_piece, name, descriptor, chunk)
            return await asyncio.to_thread(
                self._directory.commit,
                descriptor,
                temporary,
                name,
                create_only=create_only,
                if_match=if_match,
                metadata=metadata,
            )
        finally:
            self._directory.discard(descriptor, temporary)

    async def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        pending = [prefix.rpartition("/")[0]]
        while pending:
            folder = pending.pop()
            blobs, folders = await asyncio.to_thread(
                self._directory.scan, folder, metadata=metadata
            )
            for blob in blobs:
                if blob.name.startswith(prefix):
                    yield blob
            pending.extend(f for f in folders if f"{f}/".startswith(prefix) or _below(f, prefix))

    async def list_directories(self, prefix: str) -> Names:
        def names() -> Names:
            _, folders = self._directory.scan(prefix.strip("/"), metadata=False)
            return sorted(
                folder.rpartition("/")[2]
                for folder in folders
                if self._directory.holds_blob(folder)
            )

        return await asyncio.to_thread(names)

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._directory.delete, name)

    async def now(self) -> datetime:
        return await asyncio.to_thread(self._directory.now)

    async def close(self) -> None:
        """Nothing is kept open between calls."""

    def _open(self, name: str) -> OpenBlob:
        descriptor = self._directory.open(name)
        return OpenBlob(descriptor, os.fstat(descriptor).st_size)

    def _read_piece(self, name: str, descriptor: int, size: int, offset: int) -> bytes:
        with self._directory.errors(name):
            return os.pread(descriptor, size, offset)

    def _write_piece(self, name: str, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        with self._directory.errors(name):
            while view:
                view = view[os.write(descriptor, view) :]


def _close(opened: asyncio.Future[OpenBlob]) -> None:
    """Nobody waits for it any more."""
    if not opened.cancelled() and opened.exception() is None:
        os.close(opened.result().descriptor)


def _below(folder: str, prefix: str) -> bool:
    """Whether blobs with this prefix can stand below the folder."""
    return prefix.startswith(f"{folder}/")
