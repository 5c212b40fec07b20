"""How many requests this process has under way at its stores, all jobs together.

Problem: a store that is asked for too much says so (429, 503) to whichever request came just then,
while all the others go on as before.
Decision: one counter for the process, first come first served. Whoever talks to a store tells it of
each such answer, those that the SDK repeats by itself among them: the number allowed at once is
halved, and grows by one again every few seconds.
Limits: one process; the nodes of a cluster do not know of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterator

#: restic opens five connections by default; this is room for several jobs at full speed.
MOST_REQUESTS = 32
_RECOVERY_SECONDS = 5.0


class Counter:
    """A number of units that is lent out in order of arrival."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """More than there is at all is granted when nobody else holds anything."""
        await self._acquire(amount)
        try:
            yield
        finally:
            self.used -= amount
            self.wake()

    async def _acquire(self, amount: int) -> None:
        if not self._waiting and self._fits(amount):
            self.used += amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.used -= amount  # it was granted in the same moment
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
            self.wake()
            raise

    def wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            amount, turn = self._waiting.popleft()
            if not turn.done():
                self.used += amount
                turn.set_result(None)

    def _fits(self, amount: int) -> bool:
        return self.used == 0 or self.used + amount <= self.capacity


class Pace(Counter):
    """Requests to stores under way at once."""

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        super().__init__(most)
        self._most = most
        self._timer: asyncio.TimerHandle | None = None

    def slow_down(self) -> None:
        """The store asked for fewer requests. Called once for each such answer.

        Answers to requests from before the last time do not count twice.
        """
        if self._timer is None or self.capacity >= self.used:
            self.capacity = max(1, min(self.capacity, max(1, self.used)) // 2 or 1)
        self._recover_later()

    def _recover_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_RECOVERY_SECONDS, self._recover)

    def _recover(self) -> None:
        self._timer = None
        self.capacity = min(self._most, self.capacity + 1)
        self.wake()
        if self.capacity < self._most:
            self._recover_later()


_paces: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pace] = weakref.WeakKeyDictionary()


def shared_pace() -> Pace:
    """The pace of this process (of the running event loop)."""
    loop = asyncio.get_running_loop()
    pace = _paces.get(loop)
    if pace is None:
        pace = _paces[loop] = Pace()
    return pace
