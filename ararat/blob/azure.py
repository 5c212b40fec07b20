"""BlobStore in a container of Azure Blob Storage.

Decision: block blobs; up to 64 MiB by one Put Blob with MD5, streams by blocks that are committed
at their end, so that nothing half-written is ever visible. Each call has a deadline of its own on
top of the SDK's retries: a store that is gone is known within 30 seconds. Credentials that are
refused are read again once, then the call is repeated.
Limits: a HEAD's 404 has no body; where the service does not say whether blob or container is
missing, a listing is asked.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobBlock, StandardBlobTier
from azure.storage.blob._generated.models import ModifiedAccessConditions
from azure.storage.blob.aio import BlobClient, BlobPrefix

from ararat.api.location import AccessTier, AzureLocation
from ararat.errors import AccessDenied, NotFound
from ararat.layout import is_data

from . import azure_client, azure_errors, login
from .errors import StoreUnreachable
from .store import BlobInfo, Names, OpenBlob, check_name

T = TypeVar("T")
Reload = Callable[[], Awaitable[Mapping[str, bytes]]]

#: Seconds for a request without a body worth mentioning, all retries included.
DEADLINE = 25.0
#: A body may take this much longer for each MiB: half of 1 Mbit/s.
SECONDS_PER_MIB = 16.0
MIB = 1024 * 1024
BLOCK = 8 * MIB
#: The SDK makes objects of a whole page at once, 9 KiB for each blob: an agent's memory would grow
#: with its repositories. Data is listed by maintenance only, which has more room and less time.
PAGE = 100
DATA_PAGE = 5000  # the service's maximum
_RELOAD_PAUSE = 5.0
#: How often in a row a download that brings nothing is asked for again.
_RESUMES = 3
#: The SDK forgets whom to show an answer to where it had to repeat the request.
_CLOCK_TRIES = 3


class AzureStore:
    """See ``store.BlobStore`` for what each method promises."""

    def __init__(
        self,
        location: AzureLocation,
        secret: Mapping[str, bytes],
        *,
        reload: Reload | None = None,
    ) -> None:
        self._location = location
        self._prefix = location.prefix.strip("/") + "/" if location.prefix.strip("/") else ""
        self._where = f"container {location.container} of {location.account_name}"
        self._reload = reload
        self._secret = dict(secret)
        self._credential = self._login(secret)
        self._transport = azure_client.transport(location)
        self._container = azure_client.client(location, self._credential, self._transport)
        self._reloaded = -_RELOAD_PAUSE
        self._retired: list[login.Credential] = []
        self._reloading = asyncio.Lock()

    async def get(self, name: str) -> bytes:
        return b"".join([piece async for piece in self.read(name)])

    async def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        if length == 0:
            return
        got = _Progress(offset)
        while True:
            try:
                answer = await self._call(name, lambda: self._open(name, got, offset, length))
            except _RangeEmpty:
                return
            try:
                got.etag = answer.headers.get("ETag")
                # As they came from the connection: nothing is joined, nothing waits for the rest.
                while any(read := await answer.content.readchunk()):
                    if piece := read[0]:
                        got.position += len(piece)
                        got.failures = 0
                        yield piece
                return
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                got.failures += 1
                if got.failures > _RESUMES:
                    raise StoreUnreachable(
                        f"{self._where} breaks off in the middle of {name} ({type(exc).__name__})"
                    ) from exc
            finally:
                answer.close()  # a connection that was read to its end is kept all the same

    async def _open(
        self, name: str, got: _Progress, offset: int, length: int | None
    ) -> aiohttp.ClientResponse:
        """The answer to one GET, its body not read yet.

        The SDK's public download reads whole pieces into memory, one after the other, before it
        hands them on: half of a restore's time. This is the request below it, with the same login,
        retries and errors.
        """
        end = "" if length is None else str(offset + length - 1)
        ranged = (
            {"range": f"bytes={got.position}-{end}"} if got.position or length is not None else {}
        )
        same = ModifiedAccessConditions(if_match=got.etag) if got.etag else None
        try:
            found: aiohttp.ClientResponse = await self._blob(name)._client.blob.download(
                modified_access_conditions=same,
                cls=lambda answer, _body, _headers: answer.http_response.internal_response,
                **ranged,
            )
        except HttpResponseError as exc:
            if got.etag and exc.status_code == 412:
                raise StoreUnreachable(f"{name} was changed while it was read") from exc
            raise
        return found

    async def open(self, name: str) -> OpenBlob | None:
        return None

    async def head(self, name: str) -> BlobInfo:
        found = await self._call(name, lambda: self._blob(name).get_blob_properties())
        return self._info(found)

    async def put(
        self,
        name: str,
        data: bytes,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        condition = _condition(create_only=create_only, if_match=if_match)
        checksum = await _checksum(data)
        answer = await self._call(
            name,
            lambda: self._blob(name).upload_blob(
                data,
                length=len(data),
                overwrite=not create_only,
                metadata=dict(metadata or {}),
                headers=dict(checksum),
                standard_blob_tier=self._tier(name),
                # ``overwrite=False`` is the SDK's own If-None-Match: *.
                **({} if create_only else condition),
            ),
            size=len(data),
        )
        return _stored(name, len(data), answer, metadata)

    async def put_stream(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        create_only: bool = False,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        blob = self._blob(name)
        # Blocks of two writers of one name must not be taken for each other's.
        writer = secrets.token_hex(8)
        blocks: list[BlobBlock] = []
        size = 0
        async for piece in _blocks(chunks):
            identifier = base64.b64encode(f"{writer}{len(blocks):08d}".encode()).decode()

            checksum = await _checksum(piece)

            async def stage(
                identifier: str = identifier,
                piece: bytes = piece,
                checksum: Mapping[str, str] = checksum,
            ) -> Any:
                return await blob.stage_block(
                    identifier, piece, length=len(piece), headers=dict(checksum)
                )

            await self._call(name, stage, size=len(piece))
            blocks.append(BlobBlock(block_id=identifier))
            size += len(piece)
        answer = await self._call(
            name,
            lambda: blob.commit_block_list(
                blocks,
                metadata=dict(metadata or {}),
                standard_blob_tier=self._tier(name),
                **_condition(create_only=create_only, if_match=if_match),
            ),
        )
        return _stored(name, size, answer, metadata)

    async def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        def listing() -> Any:
            return self._container.list_blobs(
                name_starts_with=self._prefix + prefix,
                include=["metadata"] if metadata else None,
                results_per_page=DATA_PAGE if prefix.rstrip("/").endswith("/data") else PAGE,
            )

        async for item in self._pages(prefix or "the location", listing):
            yield self._info(item)

    async def list_directories(self, prefix: str) -> Names:
        folder = prefix.strip("/")
        start = self._prefix + (f"{folder}/" if folder else "")

        def listing() -> Any:
            return self._container.walk_blobs(
                name_starts_with=start, delimiter="/", results_per_page=PAGE
            )

        found = {
            item.name.removeprefix(start).rstrip("/")
            async for item in self._pages(folder or "the location", listing)
            if isinstance(item, BlobPrefix)
        }
        return sorted(found)

    async def delete(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            await self._call(name, lambda: self._blob(name).delete_blob(delete_snapshots="include"))

    async def now(self) -> datetime:
        dates: Names = []

        async def ask() -> None:
            pages = self._container.list_blobs(
                results_per_page=1,
                raw_response_hook=lambda r: dates.append(r.http_response.headers["Date"]),
            ).by_page()
            await anext(pages, None)

        for _ in range(_CLOCK_TRIES):
            await self._call("the clock", ask)
            if dates:
                return parsedate_to_datetime(dates[-1]).astimezone(UTC)
        raise StoreUnreachable("the store did not say what time it is")

    async def close(self) -> None:
        await self._container.close()
        await self._transport.close()
        for used in (*self._retired, self._credential):
            closer = getattr(used, "close", None)
            if closer is not None:
                await closer()

    def _login(self, secret: Mapping[str, bytes]) -> login.Credential:
        location = self._location
        return login.credential(location, secret, lambda: azure_client.transport(location))

    def _blob(self, name: str) -> BlobClient:
        return self._container.get_blob_client(self._prefix + check_name(name))

    def _tier(self, name: str) -> StandardBlobTier | None:
        tier: AccessTier | None = self._location.access_tier
        return StandardBlobTier(tier.value) if tier is not None and is_data(name) else None

    async def _pages(self, name: str, listing: Callable[[], Any]) -> AsyncIterator[Any]:
        """Every item of a listing; each page is one call that goes on where the last one ended."""
        token: str | None = None

        async def next_page() -> tuple[Any, str | None]:
            pages = listing().by_page(continuation_token=token)
            items = [item async for item in await anext(pages)]
            return items, pages.continuation_token

        while True:
            items, token = await self._call(name, next_page)
            for item in items:
                yield item
            if not token:
                return

    async def _call(
        self,
        name: str,
        request: Callable[[], Awaitable[T]],
        *,
        size: int = 0,
        refresh: bool = True,
    ) -> T:
        """One request with its deadline; refused credentials are read again once."""
        try:
            return await self._once(name, request, size)
        except AccessDenied:
            if not refresh or not await self._refresh():
                raise
        return await self._once(name, request, size)

    async def _once(self, name: str, request: Callable[[], Awaitable[T]], size: int) -> T:
        seconds = DEADLINE + SECONDS_PER_MIB * size / MIB
        try:
            async with asyncio.timeout(seconds):
                return await request()
        except TimeoutError as exc:
            raise StoreUnreachable(f"{self._where} did not answer in {seconds:.0f} s") from exc
        except HttpResponseError as exc:
            if exc.status_code == 416:
                raise _RangeEmpty from exc
            if exc.status_code == 404 and azure_errors.is_missing_blob(exc) is None:
                await self._probe()
                raise NotFound(
                    f"{name} does not exist in {self._where}", reason="BlobNotFound"
                ) from exc
            raise azure_errors.translate(exc, where=self._where, name=name) from exc
        except AzureError as exc:
            raise azure_errors.translate(exc, where=self._where, name=name) from exc

    async def _probe(self) -> None:
        """Raises ContainerNotFound where that is what a silent 404 meant."""
        with azure_errors.errors(self._where, "the container"):
            await anext(self._container.list_blobs(results_per_page=1).by_page(), None)

    async def _refresh(self) -> bool:
        """Whether there are new credentials since the refused request was made.

        A login by token is made anew in any case: it holds a token, and the file or the role that
        the next one comes from may have changed.
        """
        by_token = self._location.authentication in login.BY_TOKEN
        if self._reload is None and not by_token:
            return False
        async with self._reloading:
            if time.monotonic() - self._reloaded < _RELOAD_PAUSE:
                return True  # somebody else has just read them
            secret = dict(await self._reload()) if self._reload else self._secret
            self._reloaded = time.monotonic()
            if secret == self._secret and not by_token:
                return False
            fresh = self._login(secret)
            self._retired.append(self._credential)  # requests under way may still use it
            self._secret, self._credential = secret, fresh
            self._container = azure_client.client(self._location, fresh, self._transport)
            return True

    def _info(self, found: Any) -> BlobInfo:
        return BlobInfo(
            name=found.name.removeprefix(self._prefix),
            size=found.size,
            etag=_etag(found.etag),
            last_modified=found.last_modified,
            metadata={key.lower(): value for key, value in (found.metadata or {}).items()},
        )


@dataclass
class _Progress:
    """Of one download: what has come, and of which version of the blob."""

    position: int
    etag: str | None = None
    failures: int = 0


class _RangeEmpty(Exception):
    """The range starts at or behind the blob's end. Never leaves this module."""


async def _checksum(data: bytes) -> dict[str, str]:
    """Content-MD5, which the service checks before it stores anything.

    The SDK would compute it in the event loop: 30 ms for a pack, in which nothing else moves.
    """

    def header() -> str:
        return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()

    large = len(data) > MIB
    return {"Content-MD5": await asyncio.to_thread(header) if large else header()}


def _condition(*, create_only: bool, if_match: str | None) -> dict[str, Any]:
    if if_match is not None:
        return {"etag": f'"{if_match}"', "match_condition": MatchConditions.IfNotModified}
    if create_only:
        return {"match_condition": MatchConditions.IfMissing}
    return {}


def _stored(name: str, size: int, answer: Any, metadata: Mapping[str, str] | None) -> BlobInfo:
    return BlobInfo(
        name, size, _etag(answer["etag"]), answer["last_modified"], dict(metadata or {})
    )


def _etag(text: str) -> str:
    """Listings give it bare, headers in quotes."""
    return text.strip('"')


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of BLOCK; the last one is shorter."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= BLOCK:
            yield bytes(held[:BLOCK])
            del held[:BLOCK]
    if held:
        yield bytes(held)
