"""What all sessions of this process share: memory, requests under way, bandwidth.

Decision: the first two are plain counters with a queue, first come first served (``blob.pace``);
for the third see ``rate``. A body is not read before its bytes are granted, so restic waits instead
of our memory growing.
"""

from __future__ import annotations

import asyncio
import weakref

from ararat.blob.pace import Counter, Pace, shared_pace

from .rate import Rate


class Flow:
    """The three of one process."""

    def __init__(self, *, budget: int, bandwidth: int = 0, requests: Pace | None = None) -> None:
        self.bytes = Counter(budget)
        self.requests = requests or Pace()
        self.rate = Rate(bandwidth)


_flows: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Flow] = weakref.WeakKeyDictionary()


def shared_flow(*, budget: int, bandwidth: int = 0) -> Flow:
    """The flow of this process (of the running event loop); the first caller sets its size."""
    loop = asyncio.get_running_loop()
    flow = _flows.get(loop)
    if flow is None:
        made = Flow(budget=budget, bandwidth=bandwidth, requests=shared_pace())
        flow = _flows[loop] = made
    return flow
