from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from ararat import health


class Daemon:
    def __init__(self) -> None:
        self.unready: str | None = "caches are filling"
        self.dead: str | None = None
        self.url = ""

    async def ask(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def serving() -> AsyncIterator[Daemon]:
    daemon = Daemon()
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            health.serve(
                0,
                host="127.0.0.1",
                ready=lambda: daemon.unready,
                alive=lambda: daemon.dead,
                on_start=started.set_result,
            )
        )
        daemon.url = f"http://127.0.0.1:{await started}"
        yield daemon
        task.cancel()


async def test_ready_says_what_is_missing():
    async with serving() as daemon:
        assert await daemon.ask("/readyz") == (503, "caches are filling\n")
        daemon.unready = None
        assert await daemon.ask("/readyz") == (200, "ok\n")


async def test_alive_until_it_says_otherwise():
    async with serving() as daemon:
        assert await daemon.ask("/healthz") == (200, "ok\n")
        daemon.dead = "no word from the API server for 700 s"
        assert (await daemon.ask("/healthz"))[0] == 503


async def test_metrics_are_served():
    async with serving() as daemon:
        code, text = await daemon.ask("/metrics")
        assert code == 200
        assert "ararat_loop_lag_seconds" in text


async def test_a_loop_that_hangs_is_noticed_and_forgiven():
    moment = 100.0
    watchdog = health.Watchdog(30, clock=lambda: moment, dump=False)
    assert watchdog.check() is None
    moment += 31
    assert watchdog.check() == "the event loop hung for 31 s"
    task = asyncio.ensure_future(watchdog.run())
    await asyncio.sleep(0)
    assert watchdog.check() is None
    task.cancel()


async def test_a_loop_that_hangs_leaves_its_stacks(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "BEAT_SECONDS", 0.01)
    watchdog = health.Watchdog(0.1)
    task = asyncio.ensure_future(watchdog.run())
    await asyncio.sleep(0.05)

    def the_culprit() -> None:
        time.sleep(0.3)

    the_culprit()
    await asyncio.sleep(0.05)
    task.cancel()
    assert "the_culprit" in capfd.readouterr().err
