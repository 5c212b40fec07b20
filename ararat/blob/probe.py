"""Tries out a store: everything that backups need of it, one step after the other.

Decision: each step is a real request of the kind the product makes, so that "can delete" means that
something was deleted. Steps that need an earlier one that failed are not tried. What is written
stands in one folder of a random name and is removed whatever happens; folders that a check left
when it was killed are removed by the next one.
Limits: rates are those of one connection from where this runs, over a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from ararat.errors import AraratError, Conflict, NotFound

from .store import BlobStore

FOLDER = "probes"
#: A check takes less than a minute; what is older than this has nobody.
_ABANDONED = timedelta(hours=1)
_MIB = 1024 * 1024
_LARGE = 16 * _MIB
_LOOKS = 5
_STEP_SECONDS = 45.0
_CLEAN_SECONDS = 30.0


@dataclass(frozen=True)
class Step:
    """``ok`` is None where the step was not tried; ``detail`` says why, or what was measured."""

    name: str
    ok: bool | None
    detail: str = ""


async def probe(
    store: BlobStore, *, writes: bool, on_step: Callable[[Step], None] = lambda _: None
) -> list[Step]:
    """Never raises what the store raises: that is the result. ``on_step`` hears of each at once."""
    prober = _Prober(store, on_step)
    try:
        await prober.run(writes=writes)
    finally:
        left = await prober.clean()
    if left:
        prober.add("clean up", ok=False, detail=left)
    return prober.steps


class _Prober:
    def __init__(self, store: BlobStore, on_step: Callable[[Step], None]) -> None:
        self._store = store
        self._on_step = on_step
        self._folder = f"{FOLDER}/{secrets.token_hex(8)}"
        self._written: list[str] = []
        self._broken = False
        self.steps: list[Step] = []

    def add(self, name: str, *, ok: bool | None, detail: str) -> None:
        step = Step(name, ok, detail)
        self.steps.append(step)
        self._on_step(step)

    async def run(self, *, writes: bool) -> None:
        await self._step("reach and log in", self._latency)
        await self._step("list", self._list)
        if not writes:
            for name in ("write", "read", "delete"):
                self.add(name, ok=None, detail="a ReadOnly location: not tried")
            return
        await self._step("write", self._write)
        await self._step("read", self._read)
        await self._step("delete", self._delete)
        await self._step("upload rate", self._upload)
        await self._step("download rate", self._download)

    async def clean(self) -> str:
        """Removes what was written; why it could not, else "" ."""

        async def remove() -> None:
            for name in self._written:
                await self._store.delete(name)
            with contextlib.suppress(AraratError):
                await self._sweep()

        task = asyncio.ensure_future(asyncio.wait_for(remove(), _CLEAN_SECONDS))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
        except (AraratError, TimeoutError) as exc:
            return f"{self._folder} could not be removed: {exc or 'no answer'}"
        return ""

    async def _sweep(self) -> None:
        if not self._written:
            return  # may not write
        now = await self._store.now()
        async for blob in self._store.list(f"{FOLDER}/"):
            if now - blob.last_modified > _ABANDONED:
                await self._store.delete(blob.name)

    async def _step(self, name: str, attempt: Callable[[], Awaitable[str]]) -> None:
        if self._broken:
            self.add(name, ok=None, detail="not tried")
            return
        try:
            async with asyncio.timeout(_STEP_SECONDS):
                detail = await attempt()
        except TimeoutError:
            self._broken = True
            detail = f"no answer within {_STEP_SECONDS:.0f} s"
        except AraratError as exc:
            self._broken = True
            detail = f"{exc.reason}: {exc.message}"
        self.add(name, ok=not self._broken, detail=detail)

    async def _latency(self) -> str:
        took = []
        for _ in range(_LOOKS):
            began = time.monotonic()
            with contextlib.suppress(NotFound):
                await self._store.head(f"{self._folder}/nothing")
            took.append(time.monotonic() - began)
        # The first one connects and logs in.
        return f"{statistics.median(took[1:]) * 1000:.0f} ms, the first {took[0] * 1000:.0f} ms"

    async def _list(self) -> str:
        folders = await self._store.list_directories("")
        return "holds " + (", ".join(f for f in folders if f != FOLDER) or "nothing")

    async def _write(self) -> str:
        name = self._name("small")
        await self._store.put(name, b"first", create_only=True)
        try:
            await self._store.put(name, b"second", create_only=True)
        except Conflict:
            return "and nothing is overwritten"
        raise AraratError("a blob that was there was overwritten by a create-only request")

    async def _read(self) -> str:
        if await self._store.get(self._name("small")) != b"first":
            raise AraratError("what is read is not what was written")
        return ""

    async def _delete(self) -> str:
        name = self._name("small")
        await self._store.delete(name)
        try:
            await self._store.head(name)
        except NotFound:
            return ""
        raise AraratError("what was deleted is still there")

    async def _upload(self) -> str:
        data = secrets.token_bytes(_LARGE)
        began = time.monotonic()
        await self._store.put(self._name("large"), data)
        return _rate(began)

    async def _download(self) -> str:
        began = time.monotonic()
        size = 0
        async for piece in self._store.read(self._name("large")):
            size += len(piece)
        if size != _LARGE:
            raise AraratError(f"{size} of {_LARGE} bytes came back")
        return _rate(began)

    def _name(self, part: str) -> str:
        name = f"{self._folder}/{part}"
        if name not in self._written:
            self._written.append(name)  # before the attempt: its answer may get lost
        return name


def _rate(began: float) -> str:
    seconds = max(time.monotonic() - began, 0.001)
    return f"{_LARGE / _MIB / seconds:.0f} MiB/s over one connection"
