"""The answer to restic's request for a file, or for a part of one.

Decision: where the store has the file as one of this machine, and the part is a large one, it is
handed over in the kernel (``handover``); what that could not give, and all else, comes in pieces
through ``RepositoryBlobs.load``. A small file is read before its answer begins, so that its length
is known and a file that is too short can be told from one that is there.
Limits: an answer that has begun can only be cut short (``Cut``).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from functools import partial

import structlog
from aiohttp import web

from ararat.errors import AraratError

from .flow import Flow
from .handover import PACED, STEP, Handover
from .repository_blobs import RepositoryBlobs
from .rest_paths import URGENT, Kind, Range, Target
from .settings import MIB

log = structlog.get_logger()

#: Up to this much is read before an answer begins: metadata is mostly smaller.
_AHEAD = MIB
#: What an answer holds at most: what was read ahead, and what connections hold on both sides.
_READING = 2 * MIB


class TooShort(AraratError):
    """A range reaches beyond the end of a file."""


class Cut(Exception):
    """An answer that has begun and cannot be ended."""

    def __init__(self, response: web.StreamResponse, cause: AraratError) -> None:
        super().__init__(cause.message)
        self.response = response
        self.cause = cause


class Counts:
    """What one request adds to the session's numbers."""

    def __init__(self) -> None:
        self.operation = "other"
        self.received = 0
        self.sent = 0


class Download:
    """One answer. Raises AraratError before it has begun, afterwards Cut."""

    def __init__(
        self,
        blobs: RepositoryBlobs,
        flow: Flow,
        request: web.BaseRequest,
        target: Target,
        *,
        wanted: Range,
        counts: Counts,
    ) -> None:
        self._blobs = blobs
        self._flow = flow
        self._request = request
        self._target = target
        self._wanted = wanted
        self._counts = counts

    async def run(self) -> web.StreamResponse:
        response = await self._hand_over()
        length = self._wanted.length
        if length is not None:
            length -= self._counts.sent
        if response is not None and length == 0:
            await response.write_eof()
            return response
        offset = self._wanted.offset + self._counts.sent
        pieces = self._blobs.load(self._target, offset=offset, length=length)
        memory = self._flow.memory(_READING, urgent=self._target.kind in URGENT)
        async with aclosing(pieces), memory:
            if response is None:
                return await self._in_pieces(pieces)
            return await self._rest(response, pieces)

    async def _hand_over(self) -> web.StreamResponse | None:
        """The answer, begun, and as much of it sent as the file could give; or None."""
        wanted, length = self._wanted, self._wanted.length
        if self._target.kind is not Kind.DATA or length is None or length < _AHEAD:
            return None
        file = await self._blobs.open(self._target)
        if file is None:
            return None
        transport = self._request.transport
        if transport is None or file.size < wanted.offset + length:
            os.close(file.descriptor)
            return None
        with closing(Handover(file.descriptor, transport, offset=wanted.offset)) as handover:
            response = self._head()
            writer = await response.prepare(self._request)
            assert writer is not None
            writer.send_headers()
            if transport.get_write_buffer_size():  # nothing may stand before the file's bytes
                return response
            try:
                await self._move(handover, length)
            except ConnectionError:
                raise
            except OSError as exc:
                # Met again by who reads what is left, and said as every store's error is.
                log.info("restic-file-unread", file=self._target.name, error=str(exc))
            except AraratError as exc:
                # A step that hangs may still bring its bytes: nothing may follow them.
                raise Cut(response, exc) from exc
            return response

    async def _move(self, handover: Handover, length: int) -> None:
        step = PACED if self._flow.rate.per_second else STEP
        while (most := min(step, length - self._counts.sent)) > 0:
            await self._paid(most)
            while most:
                moved = await self._blobs.move(self._target, partial(handover.step, most))
                most -= moved
                self._counts.sent += moved
                if not moved:
                    await handover.writable()

    async def _in_pieces(self, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
        wanted = self._wanted
        ahead: list[bytes] = []
        held = 0
        ended = False
        while held < _AHEAD and (wanted.length is None or held < wanted.length):
            piece = await anext(pieces, None)
            if piece is None:
                ended = True
                break
            ahead.append(piece)
            held += len(piece)
        if wanted.length is not None and ended:
            raise self._too_short()
        response = self._head()
        if ended:
            response.content_length = held
            if self._partial and held:
                last = wanted.offset + held - 1
                response.headers["Content-Range"] = f"bytes {wanted.offset}-{last}/{last + 1}"
        elif wanted.length is None:
            response.enable_chunked_encoding()
        await response.prepare(self._request)
        while ahead:
            await self._write(response, ahead.pop(0))
        if ended:
            await response.write_eof()
            return response
        return await self._rest(response, pieces)

    async def _rest(
        self, response: web.StreamResponse, pieces: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        try:
            async for piece in pieces:
                await self._write(response, piece)
            if self._wanted.length is not None and self._counts.sent < self._wanted.length:
                raise self._too_short()
        except AraratError as exc:
            raise Cut(response, exc) from exc
        await response.write_eof()
        return response

    @property
    def _partial(self) -> bool:
        return "Range" in self._request.headers

    def _head(self) -> web.StreamResponse:
        """As far as the question tells it."""
        response = web.StreamResponse(status=206 if self._partial else 200)
        response.content_type = "application/octet-stream"
        if self._wanted.length is not None:
            response.content_length = self._wanted.length
            last = self._wanted.offset + self._wanted.length - 1
            response.headers["Content-Range"] = f"bytes {self._wanted.offset}-{last}/*"
        return response

    async def _write(self, response: web.StreamResponse, piece: bytes) -> None:
        await self._paid(len(piece))
        await response.write(piece)
        self._counts.sent += len(piece)

    async def _paid(self, size: int) -> None:
        await self._flow.paid(
            size,
            urgent=self._target.kind in URGENT,
            gone=lambda: self._request.transport is None,
        )

    def _too_short(self) -> TooShort:
        return TooShort(f"{self._target.name} ends before the range does")
