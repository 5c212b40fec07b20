"""Logs of runs under way, followed through the socket of the replica that leads."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ararat.errors import Retryable
from controller import runlog
from controller.livelog import follow, serve_live_logs, socket_path
from controller.runlog import RunLogs


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ar", dir="/tmp"))  # sockets have short names
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def logs(place: Path) -> AsyncIterator[RunLogs]:
    made = RunLogs()
    task = asyncio.create_task(serve_live_logs(made, place))
    while not socket_path(place).exists():
        await asyncio.sleep(0.01)
    yield made
    task.cancel()
    await asyncio.wait([task])
    assert list(place.iterdir()) == []


async def read(lines: AsyncIterator[bytes]) -> list[str]:
    async with asyncio.timeout(20):
        return [json.loads(line)["event"] async for line in lines]


async def test_a_log_is_followed_to_its_end(logs: RunLogs, place: Path) -> None:
    log = logs.of(kind="Backup", name="nightly", uid="u1")
    log.info("one")
    early, late = follow(place, "u1"), follow(place, "u1")
    async with asyncio.timeout(20):
        assert json.loads(await anext(early))["event"] == "one"
        log.warning("two", message="ä" * 100)
        assert json.loads(await anext(early))["message"] == "ä" * 100
        assert json.loads(await anext(late))["event"] == "one"
    log.info("three")
    logs.drop("u1")
    assert await read(early) == ["three"]
    assert await read(late) == ["two", "three"]


async def test_nobody_knows_the_run(logs: RunLogs, place: Path) -> None:
    assert await read(follow(place, "other")) == []


async def test_a_replica_that_does_not_lead(place: Path) -> None:
    with pytest.raises(Retryable, match="does not lead"):
        await anext(follow(place, "u1"))


async def test_a_follower_that_is_slower_than_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was dropped in the middle is missing; nothing comes twice."""
    monkeypatch.setattr(runlog, "LIMIT", 6)
    log = RunLogs().of(kind="Backup", name="nightly", uid="u1")
    lines = log.follow()
    log.info("0")
    found = [(await anext(lines))["event"]]
    for number in range(1, 10):
        log.info(str(number))
    log.end()
    found += [line["event"] async for line in lines]
    assert found == ["0", "1", "2", "7", "8", "9"]
