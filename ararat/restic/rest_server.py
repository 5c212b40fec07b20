"""restic's REST protocol, version 2, on a unix socket.

Problem: restic must reach the store without ever seeing its credentials, endpoint or retries.
Decision: aiohttp's bare server (no routing) on a socket of mode 0600 in a directory of mode 0700.
This module is HTTP alone: which request it is, its body, its answer; ``repository_blobs`` decides
what happens. Answers are chosen by what restic makes of them: 403 and 416 end an operation at once
(507 only does from 0.19), 404 means "this file is not there", all others are retried for minutes.
Limits: one repository per server. Bodies without a length are refused (restic always sends one).
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import structlog
from aiohttp import ClientError, web

from ararat.errors import AraratError, InvalidSpec, NotFound

from .download import Counts, Cut, Download, TooShort
from .flow import Flow
from .models import OperationStats, SessionStats
from .repository_blobs import Refused, RepositoryBlobs, WrongContent
from .rest_paths import CONTENT_TYPE_V2, ROOT, URGENT, Target, parse_path, parse_range
from .settings import MIB, Settings

log = structlog.get_logger()

#: sun_path has 108 bytes (unix(7)); restic's URL adds none, but leave room.
SOCKET_LIMIT = 100
#: What a connection holds of a body before it is made to wait; the default is a quarter of what one
#: read brings, so that every one of them would be followed by a pause.
_READ_BUFFER = MIB // 4
#: The largest file restic makes: packs of at most 128 MiB and an index or tree beyond any bound we
#: have seen; a limit against nonsense, not against restic.
_LARGEST = 4096 * MIB
#: What a refused body may still send before the connection is cut.
_DRAIN = 256 * MIB
#: Permanent for every operation of every restic from 0.18 on.
_GIVE_UP = 403


class RestServer:
    """Serves one session. ``async with`` starts it and waits for requests under way at the end."""

    def __init__(
        self, blobs: RepositoryBlobs, socket: Path, *, settings: Settings, flow: Flow
    ) -> None:
        self._blobs = blobs
        self._socket = socket
        self._settings = settings
        self._flow = flow
        self._runner = web.ServerRunner(
            web.Server(
                self._handle, access_log=None, keepalive_timeout=3600, read_bufsize=_READ_BUFFER
            ),
            # The session has waited for requests under way (``session._finish``).
            shutdown_timeout=5.0,
        )
        self._operations: dict[str, OperationStats] = {}
        #: Files that were shorter than restic thought: the next answer must say so at its start.
        self._short: set[Target] = set()
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def url(self) -> str:
        return f"rest:http+unix://{self._socket}:{ROOT}"

    @property
    def stats(self) -> SessionStats:
        return SessionStats(operations=dict(self._operations))

    async def __aenter__(self) -> RestServer:
        if len(str(self._socket).encode()) > SOCKET_LIMIT:
            raise InvalidSpec(
                f"the scratch directory's path is too long for a socket: {self._socket.parent}"
            )
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()
        self._socket.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        self._flow.buffers.drop()

    async def idle(self, seconds: float) -> bool:
        """Wait until no request is under way; False if that takes longer."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._active += 1
        self._idle.clear()
        began = time.monotonic()
        counts = Counts()
        answer: web.StreamResponse | None = None
        try:
            answer = await self._answer(request, counts)
            return answer
        except (ConnectionError, ClientError, web.RequestPayloadError) as exc:
            # restic has gone (ended, or cut off a slow request): nobody reads this answer.
            log.debug("restic-gone", operation=counts.operation, error=str(exc))
            return web.Response(status=400)
        except Exception as exc:
            # A mistake of ours must not turn into restic's 15 minutes of retries.
            log.exception("restic-request-crashed", operation=counts.operation)
            self._blobs.fail(AraratError(f"the REST server failed ({type(exc).__name__})"))
            return web.Response(status=_GIVE_UP)
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()
            failed = answer is None or (answer.status >= 400 and answer.status != 404)
            self._count(counts, failed=failed, seconds=time.monotonic() - began)

    async def _answer(self, request: web.BaseRequest, counts: Counts) -> web.StreamResponse:
        target = parse_path(request.rel_url.raw_path)
        if target is None:
            if request.method == "POST" and request.raw_path == f"{ROOT}?create=true":
                return web.Response()  # folders need no making
            return await self._refuse(request, 404 if request.method == "GET" else 400)
        method = "LIST" if request.method == "GET" and target.is_listing else request.method
        counts.operation = f"{method.lower()} {target.kind}"
        try:
            if method == "LIST":
                return await self._list(target, counts)
            if target.is_listing:
                return await self._refuse(request, 400)
            if method == "HEAD":
                size = await self._blobs.size(target)
                return web.Response(headers={"Content-Length": str(size)})
            if method == "GET":
                return await self._load(request, target, counts)
            if method == "POST":
                return await self._save(request, target, counts)
            if method == "DELETE":
                await self._blobs.remove(target)
                return web.Response()
            counts.operation = "other"
            return await self._refuse(request, 405)
        except AraratError as exc:
            if not isinstance(exc, NotFound):
                log.info("restic-request-failed", operation=counts.operation, error=exc.message)
            return await self._refuse(request, self._status(exc))

    def _status(self, exc: AraratError) -> int:
        if self._blobs.fatal is not None:
            return _GIVE_UP
        if isinstance(exc, NotFound):
            return 404
        if isinstance(exc, Refused):
            return 403
        if isinstance(exc, TooShort):
            return 416
        return 400 if isinstance(exc, WrongContent | InvalidSpec) else 503

    async def _list(self, target: Target, counts: Counts) -> web.Response:
        files = await self._blobs.listing(target)
        body = json.dumps([{"name": name, "size": size} for name, size in files]).encode()
        counts.sent = len(body)
        return web.Response(body=body, content_type=CONTENT_TYPE_V2)

    async def _load(
        self, request: web.BaseRequest, target: Target, counts: Counts
    ) -> web.StreamResponse:
        wanted = parse_range(request.headers.get("Range"))
        if wanted is None:
            return await self._refuse(request, 400)
        if target in self._short:
            end = wanted.offset + (wanted.length or 0)
            if end > await self._blobs.size(target):
                raise TooShort(f"{target.name} ends before the range does")
        download = Download(self._blobs, self._flow, request, target, wanted=wanted, counts=counts)
        try:
            return await download.run()
        except Cut as cut:
            # The answer has begun: cutting it short is all that can be said.
            log.info("restic-answer-cut", operation=counts.operation, error=cut.cause.message)
            if isinstance(cut.cause, TooShort):
                self._short.add(target)
            cut.response.force_close()
            if request.transport is not None:
                request.transport.abort()
            return cut.response

    async def _save(self, request: web.BaseRequest, target: Target, counts: Counts) -> web.Response:
        size = request.content_length
        if size is None:
            return await self._refuse(request, 411)
        if size > _LARGEST:
            return await self._refuse(request, 413)
        counts.received = size
        urgent = target.kind in URGENT
        await self._flow.paid(size, urgent=urgent, gone=lambda: request.transport is None)
        if size > self._settings.buffer_limit and target.id is not None:
            await self._blobs.save_stream(target, _body(request, size), size)
            return web.Response()
        async with self._flow.memory(size, urgent=urgent):
            large = size > MIB
            with self._flow.buffers.lend() if large else nullcontext(io.BytesIO()) as buffer:
                async for chunk in _body(request, size):
                    buffer.write(chunk)
                buffer.truncate()
                # Cut to the right size: getvalue() then hands it out without a copy.
                await self._blobs.save(target, buffer.getvalue())
        return web.Response()

    async def _refuse(self, request: web.BaseRequest, status: int) -> web.Response:
        """An answer that restic reads only once it has sent its whole body."""
        left = _DRAIN
        try:
            while left > 0 and (chunk := await request.content.readany()):
                left -= len(chunk)
        except (web.RequestPayloadError, ConnectionError):
            pass  # gone already
        return web.Response(status=status)

    def _count(self, counts: Counts, *, failed: bool, seconds: float) -> None:
        old = self._operations.get(counts.operation, OperationStats())
        self._operations[counts.operation] = OperationStats(
            requests=old.requests + 1,
            errors=old.errors + failed,
            bytes_in=old.bytes_in + counts.received,
            bytes_out=old.bytes_out + counts.sent,
            seconds=old.seconds + seconds,
        )


async def _body(request: web.BaseRequest, size: int) -> AsyncIterator[bytes]:
    """The body, which is exactly ``size`` bytes long or an error."""
    read = 0
    while chunk := await request.content.readany():
        read += len(chunk)
        yield chunk
    if read != size:
        raise WrongContent(f"the body ended after {read} of {size} bytes")
