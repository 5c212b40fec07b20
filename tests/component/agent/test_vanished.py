"""Files that go away while a real restic reads the volume: told of, whenever they go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from ararat.api import PodVolumeBackup
from tests.component.agent.real import claimed, working
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("restic")]

_BIG = 6
_TRIES = 5


async def stopped_while_reading(source: Path) -> int | None:
    """Stops restic while it reads the first files; None where it was past them already."""
    with contextlib.suppress(TimeoutError):  # not seen at all: as good as past them
        async with asyncio.timeout(20):
            while True:
                for pid in working():
                    if _open(pid, source):
                        os.kill(pid, signal.SIGSTOP)
                        first = all(n.startswith("a") for n in _open(pid, source))
                        return pid if first else None
                await asyncio.sleep(0)
    return None


def _open(pid: int, source: Path) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/{pid}/fd/{name}")
                if path.startswith(f"{source}/"):
                    found.append(path.removeprefix(f"{source}/"))
    return found


def fill(source: Path) -> None:
    """Files that take a while, though they weigh nothing, before those that will be gone."""
    for number in range(_BIG):
        with (source / f"a{number}").open("wb") as file:
            file.truncate(64 << 20)
            file.write(os.urandom(8))
    for name in ("goes", "moves/file", "stays", "whole/below", "excluded.tmp"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    (source / "z").mkdir(exist_ok=True)


async def test_what_goes_before_it_is_read_is_listed(real_world: World) -> None:
    world = real_world
    uid, source = await claimed(world, "db-0")
    for number in range(_TRIES):
        fill(source)
        async with world.agent() as agent:
            await world.backup(f"b{number}", "db-0", uid, excludes=["*.tmp"])
            pid = await stopped_while_reading(source)
            # The agent has looked long before: it starts when restic does.
            await asyncio.sleep(1)
            for name in ("goes", "excluded.tmp"):
                (source / name).unlink()
            shutil.rmtree(source / "whole")
            (source / "moves/file").rename(source / "a-moved")
            for stopped in [pid] if pid else working():
                os.kill(stopped, signal.SIGCONT)
            status = await world.until(PodVolumeBackup, f"b{number}", "Completed", seconds=90)
            if pid is not None:
                await agent.counts("ararat_agent_unreadable_files_total", 3)
        if pid is not None:
            break
        print("restic was past the first files before it could be stopped: once more")
    else:
        pytest.fail(f"restic was too quick {_TRIES} times")
    assert sorted(status["unreadablePaths"]) == ["goes", "moves/file", "whole/below"]
    assert status["incomplete"]
    assert status["unreadableCount"] == 3
    assert "3 files could not be read" in status["message"]
    assert "was gone before it could be read" in status["message"]
    # The next one has nothing to complain of.
    async with world.agent():
        await world.backup("after", "db-0", uid)
        status = await world.until(PodVolumeBackup, "after", "Completed", seconds=90)
    assert not status["incomplete"]
    assert "unreadablePaths" not in status or status["unreadablePaths"] == []
