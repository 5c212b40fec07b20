"""What all sessions of this process share: memory, requests under way, bandwidth.

Decision: the first two are plain counters with a queue, first come first served (``blob.pace``);
for the third see ``rate``. A body is not read before its bytes are granted, so restic waits instead
of our memory growing. Memory that held a body is kept for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

from ararat.blob.pace import Counter, Pace, shared_pace

from .rate import Rate


class Buffers:
    """What bodies are read into.

    Fresh memory costs more than all our copying: bodies of 16 MiB take 0.8 s of CPU for each GiB in
    new buffers, most of it the kernel's, and 0.1 s in used ones. There are as many as there were
    bodies at once, which the budget limits. Whoever still holds the bytes of an earlier body keeps
    them: the buffer copies itself then.
    """

    def __init__(self) -> None:
        self._free: list[io.BytesIO] = []

    @contextlib.contextmanager
    def lend(self) -> Iterator[io.BytesIO]:
        """A buffer to be written from its start, and cut off behind what was written."""
        buffer = self._free.pop() if self._free else io.BytesIO()
        buffer.seek(0)
        try:
            yield buffer
        finally:
            self._free.append(buffer)

    def drop(self) -> None:
        """Give the memory back: a process without work needs none of it."""
        self._free.clear()


class Flow:
    """What one process has of each."""

    def __init__(self, *, budget: int, bandwidth: int = 0, requests: Pace | None = None) -> None:
        self.bytes = Counter(budget)
        self.buffers = Buffers()
        self.requests = requests or Pace()
        self.rate = Rate(bandwidth)

    def memory(self, size: int, *, urgent: bool) -> AbstractAsyncContextManager[None]:
        """Wait until this much may be held; what others wait for does not queue behind data."""
        return contextlib.nullcontext() if urgent else self.bytes.hold(size)

    async def paid(self, size: int, *, urgent: bool, gone: Callable[[], bool]) -> None:
        """Wait for the node's bandwidth; what others wait for does not. Raises ConnectionError."""
        if not urgent:
            await self.rate.take(size, gone=gone)


_flows: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Flow] = weakref.WeakKeyDictionary()


def shared_flow(*, budget: int, bandwidth: int = 0) -> Flow:
    """The flow of this process (of the running event loop); the first caller sets its size."""
    loop = asyncio.get_running_loop()
    flow = _flows.get(loop)
    if flow is None:
        made = Flow(budget=budget, bandwidth=bandwidth, requests=shared_pace())
        flow = _flows[loop] = made
    return flow
