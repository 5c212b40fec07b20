"""What restic's requests do to the store: rules, retries, and what is remembered of a session.

Problem: restic's REST backend reacts to an unclear answer by deleting what it may have stored, and
retries for 15 minutes; several writers share a repository; a node must not be able to delete data.
Decision, per request:

- Save is create-only. A name that exists with the same length is a success (names are hashes); the
  config must have the same bytes. Never a conflict to restic, which would delete the winner's.
- Delete: the session's own locks always. Everything else only for maintenance, never the config.
  A file that this session saved itself is not deleted for a node job, yet the answer is success:
  that is restic's reaction to a lost answer, and the save that follows finds its file.
- Not found is said of one file only. A listing is whole or an error.
- Short outages are waited for here, with the request held; a long one ends the session (``fatal``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

import structlog

from ararat.blob.errors import StoreThrottled, StoreUnreachable
from ararat.blob.store import BlobStore, OpenBlob
from ararat.errors import AccessDenied, AraratError, Conflict, InvalidSpec, NotFound, Retryable

from . import locks
from .drops import Drops
from .flow import Flow
from .models import Access, LockOwner
from .outage import Outage
from .rest_paths import URGENT, Kind, Target, is_id
from .settings import MIB, Settings

T = TypeVar("T")
log = structlog.get_logger()

#: What each MiB of a body adds to the time of an attempt: half of 1 Mbit/s, as in blob/azure.py.
_SECONDS_PER_MIB = 16.0
#: A listing of a million packs is 200 pages.
_LISTING_SECONDS = 600.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
_SWEEP_SECONDS = 20.0


class Refused(AraratError):
    """The session may not do this, or the file is there with other content."""

    default_reason = "Refused"


class WrongContent(AraratError):
    """The body does not have the hash that its name says."""

    default_reason = "WrongContent"


async def _digest(body: bytes) -> str:
    """Packs are hashed in a thread, where the event loop and the other processor go on."""

    def compute() -> str:
        return hashlib.sha256(body).hexdigest()

    return await asyncio.to_thread(compute) if len(body) > MIB else compute()


class RepositoryBlobs:
    """One repository's files for one session."""

    def __init__(
        self,
        store: BlobStore,
        directory: str,
        *,
        access: Access,
        owner: LockOwner,
        settings: Settings,
        flow: Flow,
        on_fatal: Callable[[AraratError], None],
        drops: Drops | None = None,
    ) -> None:
        self.store = store
        self._directory = directory
        self._access = access
        self._drops = drops
        self._owner = owner
        self._settings = settings
        self._flow = flow
        self._on_fatal = on_fatal
        self._outage = Outage(
            patience=settings.outage_patience,
            start_patience=settings.start_patience,
            on_over=self.fail,
        )
        self._busy: dict[str, tuple[asyncio.Lock, int]] = {}
        self._saved: set[str] = set()
        self._locks: set[str] = set()
        self._over = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()
        #: Why the session cannot go on; every further request is refused with it.
        self.fatal: AraratError | None = None

    async def size(self, target: Target) -> int:
        """Raises NotFound."""
        info = await self._persist(target, lambda: self.store.head(self._name(target)))
        return info.size

    async def load(
        self, target: Target, *, offset: int, length: int | None
    ) -> AsyncGenerator[bytes, None]:
        """The content in pieces; goes on where it was when the store drops the connection."""
        name = self._name(target)
        source: AsyncIterator[bytes] | None = None
        position = offset

        async def next_piece() -> bytes | None:
            nonlocal source
            if source is None:
                left = None if length is None else offset + length - position
                source = self.store.read(name, offset=position, length=left)
            try:
                return await anext(source, None)
            except BaseException:
                source = None
                raise

        try:
            while piece := await self._persist(target, next_piece):
                position += len(piece)
                yield piece
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:  # a connection to the store is given back now, not some day
                await close()

    async def open(self, target: Target) -> OpenBlob | None:
        """The content as an open file, where the store has it as one. Raises NotFound."""
        name = self._name(target)
        return await self._persist(target, lambda: self.store.open(name), answers=False)

    async def move(self, target: Target, step: Callable[[], int]) -> int:
        """A blocking step with that file, under the deadline of a call. Raises OSError too."""
        return await self._once(target, lambda: asyncio.to_thread(step), more=0.0)

    async def listing(self, target: Target) -> list[tuple[str, int]]:
        """Ids and sizes of all files of a kind: all of them, or an error."""

        async def collect() -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = []
            idle = self._settings.attempt_seconds
            now = asyncio.get_running_loop().time
            async with asyncio.timeout(idle) as limit:
                seen = now()
                async for blob in self.store.list(self._name(target)):
                    name = blob.name.rpartition("/")[2]
                    if is_id(name):
                        found.append((name, blob.size))
                    if now() - seen > 1.0:  # it moves, so it may go on
                        seen = now()
                        limit.reschedule(seen + idle)
            return found

        return await self._persist(target, collect, more=_LISTING_SECONDS)

    async def save(self, target: Target, body: bytes) -> None:
        """Store a body that is in memory. Raises Refused, WrongContent."""
        self._check_save(target)
        if target.id is not None and await _digest(body) != target.id:
            raise WrongContent(f"the body of {target.name} does not have its hash")
        name = self._name(target)
        metadata = locks.metadata(self._owner) if target.kind is Kind.LOCK else None
        async with self._exclusively(name):
            self._remember(target)
            try:
                await self._persist(
                    target,
                    lambda: self.store.put(name, body, create_only=True, metadata=metadata),
                    more=_SECONDS_PER_MIB * len(body) / MIB,
                )
            except Conflict:
                await self._settle(target, len(body), body)

    async def save_stream(self, target: Target, body: AsyncIterator[bytes], size: int) -> None:
        """Store a body too large for memory; nothing is committed unless its hash is right.

        It cannot be read twice: after an error restic sends it again.
        """
        self._check_save(target)
        digest = hashlib.sha256()

        async def checked() -> AsyncIterator[bytes]:
            async for chunk in body:
                digest.update(chunk)
                yield chunk
            if digest.hexdigest() != target.id:
                raise WrongContent(f"the body of {target.name} does not have its hash")

        name = self._name(target)
        async with self._exclusively(name):
            self._remember(target)
            try:
                await self._once(
                    target,
                    lambda: self.store.put_stream(name, checked(), create_only=True),
                    more=_SECONDS_PER_MIB * size / MIB,
                )
            except Conflict:
                await self._settle(target, size, None)

    async def remove(self, target: Target) -> None:
        """Raises Refused. A file that is not there is a success."""
        if self._access is Access.READ_ONLY:
            raise Refused(f"this session only reads; {target.name} stays")
        name = self._name(target)
        async with self._exclusively(name):
            if target.kind is Kind.LOCK:
                if name not in self._locks:
                    await self._refuse_removal(target, f"{target.name} is not this session's lock")
                    return
            elif self._access is not Access.MAINTENANCE or target.kind is Kind.CONFIG:
                if name in self._saved:
                    log.info("restic-delete-ignored", file=target.name)
                    return
                why = f"this session may not delete {target.name}"
                await self._refuse_removal(target, why)
                return
            elif self._kept_for_readers(target):
                return
            await self._persist(target, lambda: self.store.delete(name))
            self._locks.discard(name)
            self._saved.discard(name)

    async def _refuse_removal(self, target: Target, why: str) -> None:
        """Raises Refused, but for a file that is gone already.

        That is what restic asks for again where the answer to its first request was lost.
        """
        try:
            await self.size(target)
        except NotFound:
            return
        raise Refused(why)

    def _kept_for_readers(self, target: Target) -> bool:
        """A pack that readers without a lock may still need goes another day (``drops``)."""
        if self._drops is None or target.kind is not Kind.DATA or target.id is None:
            return False
        return not self._drops.asked(target.id)

    async def sweep(self, seconds: float = _SWEEP_SECONDS) -> None:
        """Remove the locks that this session's dead processes left. Only when none runs."""

        async def remove(name: str) -> None:
            try:
                async with asyncio.timeout(seconds):
                    await self.store.delete(name)
            except (AraratError, TimeoutError) as exc:
                log.warning("restic-lock-left", lock=name, error=str(exc))
            else:
                log.info("restic-lock-swept", lock=name)
                self._locks.discard(name)

        await asyncio.gather(*map(remove, sorted(self._locks)))

    def fail(self, exc: AraratError) -> None:
        """End the session: this is why."""
        if self.fatal is None:
            self.fatal = exc
            self._outage.close()
            self._over.set()
            now = asyncio.get_running_loop().time()
            for limit in self._limits:
                with contextlib.suppress(RuntimeError):  # it has just run out by itself
                    limit.reschedule(now)
            log.warning("restic-session-failed", directory=self._directory, error=exc.message)
            self._on_fatal(exc)

    def close(self) -> None:
        self._outage.close()

    def _name(self, target: Target) -> str:
        return f"{self._directory}/{target.name}"

    def _check_save(self, target: Target) -> None:
        if self._access is Access.READ_ONLY:
            raise Refused(f"this session only reads; {target.name} is not stored")

    def _remember(self, target: Target) -> None:
        # Before the attempt: after a lost answer nobody knows whether it is stored.
        if target.kind is Kind.LOCK:
            self._locks.add(self._name(target))
        else:
            self._saved.add(self._name(target))

    async def _settle(self, target: Target, size: int, body: bytes | None) -> None:
        """The name is taken: by an earlier attempt of this save, or by the same content."""
        stored = await self.size(target)
        same = stored == size
        if same and target.kind is Kind.CONFIG:
            name = self._name(target)
            same = await self._persist(target, lambda: self.store.get(name)) == body
        if not same:
            log.error("restic-file-differs", file=target.name, stored=stored, offered=size)
            raise Refused(f"{target.name} is stored already, with other content")

    @contextlib.asynccontextmanager
    async def _exclusively(self, name: str) -> AsyncIterator[None]:
        """One change of a name at a time; restic's repeated save may overtake its first one."""
        lock, users = self._busy.get(name, (asyncio.Lock(), 0))
        self._busy[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._busy[name]
            if users == 1:
                del self._busy[name]
            else:
                self._busy[name] = (lock, users - 1)

    async def _persist(
        self,
        target: Target,
        call: Callable[[], Awaitable[T]],
        *,
        more: float = 0.0,
        answers: bool = True,
    ) -> T:
        """``call``, repeated while the store is away and the session lasts.

        ``answers`` is false where its success does not say that the store is there.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._once(target, call, more=more, answers=answers)
            except (Retryable, AccessDenied) as exc:
                if self.fatal is not None:
                    raise self.fatal from exc
                asked = exc.retry_after if isinstance(exc, StoreThrottled) else None
                log.info("store-retry", file=target.name, error=exc.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause, min(asked or 0.0, _LONGEST_PAUSE * 3))):
                    await self._over.wait()
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _once(
        self,
        target: Target,
        call: Callable[[], Awaitable[T]],
        *,
        more: float,
        answers: bool = True,
    ) -> T:
        if self.fatal is not None:
            raise self.fatal
        loop = asyncio.get_running_loop()
        seconds = self._settings.attempt_seconds + more
        urgent = target.kind in URGENT
        turn = contextlib.nullcontext() if urgent else self._flow.requests.hold(1)
        try:
            async with turn:
                began = loop.time()
                async with asyncio.timeout(seconds) as limit:
                    self._limits.add(limit)
                    try:
                        result = await call()
                    finally:
                        self._limits.discard(limit)
        except TimeoutError as exc:
            if self.fatal is not None:
                raise self.fatal from exc
            gone = StoreUnreachable(f"the store did not answer within {seconds:.0f} s")
            self._outage.failed(gone, began=began)
            raise gone from exc
        except (NotFound, Conflict, InvalidSpec, WrongContent):
            self._outage.answered()
            raise
        except (Retryable, AccessDenied) as exc:
            self._outage.failed(exc, began=began)
            raise
        except AraratError as exc:
            self.fail(exc)
            raise
        if answers:
            self._outage.answered()
        return result
