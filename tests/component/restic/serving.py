"""The REST server on its own: requests by hand, and a relay between restic and it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from ararat.blob.store import BlobStore
from ararat.errors import AraratError
from ararat.restic.flow import Flow
from ararat.restic.models import Access
from ararat.restic.repository_blobs import RepositoryBlobs
from ararat.restic.rest_server import RestServer
from ararat.restic.settings import Settings

from .conftest import OWNER, SETTINGS

DIRECTORY = "repositories/volumes/shop/0123456789abcdef"
BASE = "http://restic/r/"


def name_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Served:
    server: RestServer
    blobs: RepositoryBlobs
    http: aiohttp.ClientSession
    socket: Path
    fatal: list[AraratError] = field(default_factory=list)

    async def status(self, method: str, path: str, body: bytes | None = None) -> int:
        async with self.http.request(method, BASE + path, data=body) as answer:
            await answer.read()
            return answer.status

    async def post(self, kind: str, body: bytes, *, name: str | None = None) -> int:
        return await self.status("POST", f"{kind}/{name or name_of(body)}", body)


@contextlib.asynccontextmanager
async def served(
    store: BlobStore,
    work: Path,
    *,
    access: Access = Access.APPEND_ONLY,
    settings: Settings = SETTINGS,
    directory: str = DIRECTORY,
    budget: int | None = None,
) -> AsyncIterator[Served]:
    fatal: list[AraratError] = []
    flow = Flow(budget=budget or settings.buffer_budget)
    blobs = RepositoryBlobs(
        store,
        directory,
        access=access,
        owner=OWNER,
        settings=settings,
        flow=flow,
        on_fatal=fatal.append,
    )
    socket = work / f"s{id(blobs):x}"
    async with (
        RestServer(blobs, socket, settings=settings, flow=flow) as server,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as http,
    ):
        yield Served(server, blobs, http, socket, fatal)
        blobs.close()


@dataclass
class Relay:
    """Passes requests on, and drops those answers that ``drops`` picks, once each.

    ``drops`` gets method and path. The connection is cut after the server has done its work, as
    when a network fails between the commit and the answer.
    """

    target: Path
    drops: Callable[[str, str], bool]
    dropped: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(str(self.target))
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                up_writer.write(head)
                await _copy(reader, up_writer, _length(head))
                answer = await up_reader.readuntil(b"\r\n\r\n")
                key = f"{method} {path}"
                if self.drops(method, path) and key not in self.dropped:
                    self.dropped.append(key)
                    return
                writer.write(answer)
                if b"chunked" in answer.lower():
                    raise RuntimeError("the relay is for small answers")
                await _copy(up_reader, writer, 0 if method == "HEAD" else _length(answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            up_writer.close()
            writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    while size:
        chunk = await reader.read(min(size, 65536))
        if not chunk:
            raise ConnectionResetError
        size -= len(chunk)
        writer.write(chunk)
        await writer.drain()
    await writer.drain()
