"""An elector whose Lease is kept by a thread of its own.

Problem: on a machine with too much to do, the event loop in which a leader works was seen to stand
for seven seconds. Renewals that wait in the same loop come late, and a leader that is only slow
loses a Lease that nothing was wrong with; everything it had under way is then begun again.
Decision: the election runs in a thread, with an event loop and a connection that nothing else
uses; the body runs where ``run`` was called. All rules of the Elector hold: work is cancelled when
the Lease could not be renewed, and ended with the process when it does not stop in time. That now
also ends a loop that stands still, which could not have cancelled its own work.
A thread that renews for a loop that never turns again would keep everybody else out, so after
``stall`` seconds without a sign of life from that loop the process ends.
Limits: code that holds the interpreter's lock for seconds holds up both. A process that is frozen
as a whole and thawed may run what its loop has ready before the thread cancels it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog

from .api import KubeApi
from .elector import Elector, exit_at_once

#: The longest stall seen under load was 7 s; health checks write down where a loop hangs after 30.
STALL_SECONDS = 60.0

log = structlog.stdlib.get_logger(__name__)

Body = Callable[[], Awaitable[None]]


class SteadyElector:
    """``connect`` opens the thread's own connection; the rest is as for Elector."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[KubeApi]],
        *,
        namespace: str,
        name: str,
        identity: str,
        lease: float = 15,
        renew: float = 10,
        retry: float = 2,
        stall: float = STALL_SECONDS,
        abort: Callable[[], None] = exit_at_once,
    ) -> None:
        self._connect = connect
        self._settings: dict[str, Any] = {
            "namespace": namespace,
            "name": name,
            "identity": identity,
            "lease": lease,
            "renew": renew,
            "retry": retry,
            "abort": abort,
        }
        self._beat = retry
        self._stall = stall
        self._abort = abort

    async def run(self, body: Body) -> None:
        """As Elector.run: ``body`` runs in this loop, the election elsewhere."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        election: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

        async def elect() -> None:
            task = asyncio.current_task()
            assert task is not None
            election.set_result((asyncio.get_running_loop(), task))
            async with self._connect() as api:
                elector = Elector(api, **self._settings)
                await elector.run(lambda: self._work(body, loop))

        def thread() -> None:
            error: BaseException | None = None
            try:
                asyncio.run(elect())
            except BaseException as exc:  # noqa: BLE001  # handed on, whatever it is
                error = exc
            with contextlib.suppress(RuntimeError):  # nobody is left to be told
                loop.call_soon_threadsafe(_settle, ended, error)

        threading.Thread(target=thread, name="election", daemon=True).start()
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.wait({ended})
            except asyncio.CancelledError as exc:
                # The Lease is released only when the body has ended, so this waits for both.
                cancelled = exc
                election.add_done_callback(_cancel)
        if cancelled is not None:
            if not ended.cancelled():
                ended.exception()  # seen
            raise cancelled
        ended.result()

    async def _work(self, body: Body, loop: asyncio.AbstractEventLoop) -> None:
        """The body as the elector sees it: runs in ``loop``, and has ended when this returns."""
        here = asyncio.get_running_loop()
        ended: asyncio.Future[None] = here.create_future()
        tasks: list[asyncio.Task[None]] = []
        unanswered = 0

        async def work() -> None:
            await body()

        def tell(task: asyncio.Task[None]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            here.call_soon_threadsafe(_settle, ended, error)

        def start() -> None:
            tasks.append(loop.create_task(work()))
            tasks[0].add_done_callback(tell)

        def cancel() -> None:
            tasks[0].cancel()

        def answer() -> None:
            nonlocal unanswered
            unanswered = 0

        loop.call_soon_threadsafe(start)
        while not ended.done():
            try:
                # Counted, not timed: a machine that slept has not been standing still.
                await asyncio.wait({ended}, timeout=self._beat)
                unanswered += 1
                loop.call_soon_threadsafe(answer)
                if unanswered * self._beat > self._stall:
                    log.critical("event_loop_stands_still", seconds=round(self._stall))
                    self._abort()
                    unanswered = 0
            except asyncio.CancelledError:
                loop.call_soon_threadsafe(cancel)
        ended.result()


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(None)


def _cancel(election: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]]) -> None:
    loop, task = election.result()
    with contextlib.suppress(RuntimeError):  # it has ended meanwhile
        loop.call_soon_threadsafe(task.cancel)
