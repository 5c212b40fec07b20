"""How many bytes per second go to and from stores.

Problem: a node's uplink belongs to its applications too; a first backup must be able to leave them
most of it.
Decision: one account per process, so that the limit is the node's and not each restic's. Whoever
wants to move bytes waits, first come first served, until those before it are paid for, and is then
let through at once. restic waits with it, because its body is not read meanwhile.
Limits: an average. What was let through goes at line speed: up to a pack (16 MiB) at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

#: How often a waiting request looks whether anybody still wants it.
_LOOK_SECONDS = 0.2


class Rate:
    """An account of bytes; a rate of 0 is no limit."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._paid_at = 0.0
        self._queue: deque[asyncio.Event] = deque()

    async def take(self, amount: int, *, gone: Callable[[], bool]) -> None:
        """Wait for ``amount`` bytes. Raises ConnectionResetError once ``gone`` says so."""
        if not self.per_second:
            return
        turn = asyncio.Event()
        self._queue.append(turn)
        self._next()
        try:
            await _until(turn, gone)
            loop = asyncio.get_running_loop()
            while (wait := self._paid_at - loop.time()) > 0:
                _check(gone)
                await asyncio.sleep(min(wait, _LOOK_SECONDS))
            self._paid_at = max(self._paid_at, loop.time()) + amount / self.per_second
        finally:
            self._queue.remove(turn)
            self._next()

    def _next(self) -> None:
        if self._queue:
            self._queue[0].set()


async def _until(turn: asyncio.Event, gone: Callable[[], bool]) -> None:
    while not turn.is_set():
        _check(gone)
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await turn.wait()
        except TimeoutError:
            continue


def _check(gone: Callable[[], bool]) -> None:
    if gone():
        raise ConnectionResetError("nobody waits for this any more")
