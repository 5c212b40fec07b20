"""Keys that need work, each in one pair of hands at a time.

Problem: many events about one object must become one look at it; two workers must never work on the
same object; failures must come back later, ever later, and for ever.
Decision: level-triggered, as Kubernetes controllers are. A key added while it waits is one entry; a
key added while it is worked on comes again when that is done. ``add_after`` keeps the earliest of
several dates. ``retry`` backs off exponentially until ``forget``. Work is at least once: keys are
lost with the process, and informers replay them.
Limits: one event loop; no priorities; fair in order of arrival.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge, Histogram

from ararat.errors import AraratError

from .backoff import delay

DEPTH = Gauge("ararat_queue_depth", "Keys that are ready and wait for a worker.", ["queue"])
RECONCILES = Counter("ararat_reconciles", "Looks at an object.", ["queue", "outcome"])
RECONCILE_SECONDS = Histogram(
    "ararat_reconcile_seconds",
    "Time of one look at an object.",
    ["queue"],
    buckets=(0.01, 0.1, 1, 10, 60, 600),
)

log = structlog.stdlib.get_logger(__name__)


class WorkQueue:
    """``name`` is a metric label and stands in log lines."""

    def __init__(self, name: str = "queue", *, first: float = 0.5, cap: float = 300) -> None:
        self.name = name
        self._first = first
        self._cap = cap
        self._ready: deque[str] = deque()
        #: Needs work: in _ready, or in _busy and to be put there when done.
        self._dirty: set[str] = set()
        self._busy: set[str] = set()
        self._dates: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._failures: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    def add(self, key: str) -> None:
        """This key needs a look, now."""
        self._dates.pop(key, None)  # its heap entry is skipped when it comes up
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._busy:
            self._push(key)

    def add_after(self, key: str, seconds: float) -> None:
        """This key needs a look by then at the latest."""
        if seconds <= 0:
            self.add(key)
            return
        if key in self._dirty:
            return  # it gets its look sooner
        loop = asyncio.get_running_loop()
        date = loop.time() + seconds
        known = self._dates.get(key)
        if known is not None and known <= date:
            return
        self._dates[key] = date
        heapq.heappush(self._heap, (date, next(self._order), key))
        self._arm(loop)

    async def get(self) -> str:
        """The next key; ``done`` must follow."""
        while not self._ready:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # it was our turn: pass it on
                raise
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        key = self._ready.popleft()
        DEPTH.labels(self.name).set(len(self._ready))
        self._dirty.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: str) -> None:
        """Work on the key ended, however it ended."""
        self._busy.discard(key)
        if key in self._dirty:
            self._push(key)

    def retry(self, key: str, *, at_least: float = 0) -> float:
        """Work failed: come back later. Returns the seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        seconds = max(at_least, delay(self._failures[key], first=self._first, cap=self._cap))
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: str) -> None:
        """Work went well: the next failure is a first one."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    def __len__(self) -> int:
        """Keys that are ready."""
        return len(self._ready)

    def _push(self, key: str) -> None:
        self._ready.append(key)
        DEPTH.labels(self.name).set(len(self._ready))
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the timer stand at the earliest date that still counts."""
        while self._heap and self._dates.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = loop.call_at(self._heap[0][0], self._due, loop)

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop fires up to one clock tick early.
        now = loop.time() + 0.001
        while self._heap and self._heap[0][0] <= now:
            date, _, key = heapq.heappop(self._heap)
            if self._dates.get(key) == date:
                self.add(key)
        self._arm(loop)


class Reconciler(Protocol):
    """Brings one object closer to what its spec says."""

    async def reconcile(self, key: str) -> float | None:
        """None: done until something changes; seconds: look again then.

        Must be repeatable at any point. Raises when it could not finish; it is called again.
        """
        ...


async def run_workers(queue: WorkQueue, reconciler: Reconciler, *, workers: int) -> None:
    """Work until cancelled; no error of a reconciler ends it, and none outlives a cancellation."""
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_worker(queue, reconciler))


async def _worker(queue: WorkQueue, reconciler: Reconciler) -> None:
    clock = asyncio.get_running_loop().time
    me = asyncio.current_task()
    # A library below a reconciler may lose a cancellation. A leader's work must end all the same.
    while me is None or not me.cancelling():
        key = await queue.get()
        started = clock()
        outcome = "ok"
        try:
            again = await reconciler.reconcile(key)
            queue.forget(key)
            if again is not None:
                queue.add_after(key, again)
        except AraratError as error:
            outcome = error.reason
            wait = queue.retry(key, at_least=getattr(error, "retry_after", None) or 0)
            log.warning(
                "reconcile_failed",
                queue=queue.name,
                key=key,
                reason=error.reason,
                error=error.message,
                failures=queue.failures(key),
                retry_in=round(wait, 1),
            )
        except Exception:
            outcome = "bug"
            wait = queue.retry(key)
            log.exception(
                "reconcile_crashed",
                queue=queue.name,
                key=key,
                failures=queue.failures(key),
                retry_in=round(wait, 1),
            )
        finally:
            queue.done(key)
            RECONCILES.labels(queue.name, outcome).inc()
            RECONCILE_SECONDS.labels(queue.name).observe(clock() - started)
    raise asyncio.CancelledError
