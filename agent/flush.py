"""What was written into a volume, onto its disk.

Problem: Completed must survive the node's power, and a node with much memory may hold gigabytes
that its disk takes minutes for; no system call says how far it is.
Decision: while restic writes into a volume of its own, what is there is written out twice a
second, so that little is left at the end, and the disk works while restic computes. In the end
everything is flushed, for as long as a slow disk needs for so many bytes; a flush that takes longer
counts as one that does not move, and the job's own deadline ends it. What else is to be done then
is done beside it (``flushing``).
A kernel tells of a failed write once for each open file: the last flush is the first one through
the volume's own descriptor, so it hears of every failure, also of those in between.
Limits: ``syncfs`` flushes a file system. On the node's own disk (an emptyDir) others' data is in
it: there nothing is written out early.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from ararat.errors import AraratError

from .context import Run
from .mounted import OpenVolume
from .stoppable import in_thread_on

_log = structlog.get_logger(__name__)

_EARLY_SECONDS = 0.5
_TOUCH_SECONDS = 5.0
#: Work on a disk that is slower than this is taken for work that hangs.
LEAST_BYTES_PER_SECOND = 4 << 20


class FlushFailed(AraratError):
    """The disk did not take everything."""

    default_reason = "FlushFailed"


async def flushed(volume: OpenVolume, run: Run, *, written: int) -> None:
    """Wait until everything is on the disk. Raises FlushFailed."""
    late = time.monotonic() + written / LEAST_BYTES_PER_SECOND
    work = asyncio.ensure_future(_in_thread(volume, flush))
    try:
        while not (await asyncio.wait([work], timeout=_TOUCH_SECONDS))[0]:
            if time.monotonic() < late:
                run.meter.touch()
            run.say("Waits until the disk has everything.")
    except asyncio.CancelledError:
        work.cancel()
        await asyncio.wait([work])
        raise
    work.result()
    run.meter.touch()


@asynccontextmanager
async def flushing(
    volume: OpenVolume, run: Run, *, written: int
) -> AsyncIterator[asyncio.Future[None]]:
    """``flushed``, beside what the block does; when the block is left, everything is on the disk.

    Whoever needs that earlier waits for what it gives. Raises FlushFailed.
    """
    work = asyncio.ensure_future(flushed(volume, run, written=written))
    try:
        yield work
        await work
    finally:
        work.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # the block's own failure is told instead


@asynccontextmanager
async def written_out(volume: OpenVolume) -> AsyncIterator[None]:
    """Have what is written in the block reach the disk early. What fails there fails in the end."""
    work = asyncio.ensure_future(_again_and_again(volume)) if volume.source.mounted else None
    try:
        yield
    finally:
        if work is not None:
            work.cancel()
            await asyncio.wait([work])


async def _again_and_again(volume: OpenVolume) -> None:
    while True:
        await asyncio.sleep(_EARLY_SECONDS)
        try:
            await _in_thread(volume, flush_apart)
        except (AraratError, OSError) as error:
            _log.info("volume.not_written_out", path=str(volume.path), cause=str(error))


async def _in_thread(volume: OpenVolume, call: Callable[[int], None]) -> None:
    await in_thread_on(volume.fd, lambda fd, _: call(fd))


def flush_apart(fd: int) -> None:
    """``flush`` by a file of its own, so that who flushes through *fd* still hears of failures.

    Raises FlushFailed, OSError.
    """
    apart = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        flush(apart)
    finally:
        os.close(apart)


def flush(fd: int) -> None:
    """The file system of an open directory to its disk. Raises FlushFailed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise FlushFailed(f"The volume could not be flushed to its disk: {os.strerror(code)}.")
