"""Work on a volume in a thread that ends when its task is cancelled.

A pod that terminates has its volume let go within a second; a thread that goes on reading would
hold up the kubelet's unmount. Limits: a call that hangs in the kernel (a dead file server) is
waited for a few seconds and then left to itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import TypeVar

_STOPPING_SECONDS = 5.0

T = TypeVar("T")


async def in_thread(work: Callable[[Callable[[], bool]], T]) -> T:
    """``work(stopped)``; it must ask ``stopped`` often, and return soon where that is true."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        task.add_done_callback(_heard)
        await asyncio.wait([task], timeout=_STOPPING_SECONDS)
        raise


async def in_thread_on(fd: int, work: Callable[[int, Callable[[], bool]], T]) -> T:
    """``in_thread`` with a duplicate of an open descriptor: ``work(duplicate, stopped)``.

    The volume may be let go before a call that hangs comes back. Whatever is cancelled when, the
    thread closes the duplicate: one that stayed open would hold up the kubelet's unmount for as
    long as the agent runs.
    """
    mine = os.dup(fd)

    def on_mine(stopped: Callable[[], bool]) -> T:
        try:
            return work(mine, stopped)
        finally:
            os.close(mine)

    return await in_thread(on_mine)


def _heard(task: asyncio.Future[T]) -> None:
    """Nobody is left to be told of an error."""
    if not task.cancelled():
        task.exception()
