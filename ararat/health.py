"""What a daemon tells the kubelet and Prometheus: /healthz, /readyz, /metrics.

Problem: a process can be up and do nothing: its loop blocked, its caches never filled.
Decision: a watchdog in the loop beats every second. /healthz answers 503 while the last beat is
too old; a loop that is blocked does not answer at all, which the kubelet takes the same way. A loop
that has recovered is healthy: restarting it then would only kill the work that goes on. While the
loop hangs, the stacks of all threads go to stderr once: afterwards nobody can say what it was.
/readyz asks a callable, which returns None or the sentence that says what is missing.
Limits: plain HTTP, nothing secret in any answer.
"""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aiohttp import web
from prometheus_client import Gauge
from prometheus_client.aiohttp import make_aiohttp_handler

#: None: all is well; else one sentence.
Check = Callable[[], str | None]

LAG = Gauge("ararat_loop_lag_seconds", "How late the event loop ran its last beat.")
BEAT_SECONDS = 1.0

log = structlog.stdlib.get_logger(__name__)


class Watchdog:
    """Notices when the event loop stops turning."""

    def __init__(
        self, limit: float = 30, *, clock: Callable[[], float] | None = None, dump: bool = True
    ) -> None:
        self._limit = limit
        self._clock = clock or asyncio.get_running_loop().time
        self._dump = dump
        self._last = self._clock()

    def check(self) -> str | None:
        silent = self._clock() - self._last
        return f"the event loop hung for {silent:.0f} s" if silent > self._limit else None

    async def run(self) -> None:
        """Beat until cancelled."""
        self._last = self._clock()
        try:
            while True:
                if self._dump:
                    with suppress(OSError, ValueError, RuntimeError):  # no stderr to write to
                        faulthandler.dump_traceback_later(self._limit)
                await asyncio.sleep(BEAT_SECONDS)
                now = self._clock()
                lag = max(0.0, now - self._last - BEAT_SECONDS)
                self._last = now
                LAG.set(lag)
                if lag > BEAT_SECONDS:
                    log.warning("event_loop_lagged", seconds=round(lag, 2))
        finally:
            if self._dump:
                faulthandler.cancel_dump_traceback_later()


def make_app(*, ready: Check, alive: Check) -> web.Application:
    def endpoint(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(_: web.Request) -> web.Response:
            problem = check()
            return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")

        return handler

    app = web.Application()
    app.router.add_get("/healthz", endpoint(alive))
    app.router.add_get("/readyz", endpoint(ready))
    app.router.add_get("/metrics", make_aiohttp_handler())
    return app


async def serve(
    port: int = 8080,
    *,
    ready: Check,
    alive: Check | None = None,
    host: str | None = None,
    hang_seconds: float = 30,
    on_start: Callable[[int], None] | None = None,
) -> None:
    """Serve until cancelled.

    ``host=None``: every address, IPv4 and IPv6. ``alive`` is asked beside the watchdog.
    ``on_start`` is told the port (0 asks for a free one).
    """
    watchdog = Watchdog(hang_seconds)

    def check_alive() -> str | None:
        return watchdog.check() or (alive() if alive else None)

    runner = web.AppRunner(make_app(ready=ready, alive=check_alive), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        if on_start is not None:
            on_start(runner.addresses[0][1])
        await watchdog.run()
    finally:
        await runner.cleanup()
