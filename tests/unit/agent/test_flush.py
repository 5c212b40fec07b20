"""What was written goes to the disk, however long that takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import agent.flush
from agent.context import Run
from agent.flush import FlushFailed, flushed, flushing, written_out
from agent.mounted import OpenVolume
from agent.mounts import Mount
from agent.progress import ProgressMeter
from agent.volumes import VolumeSource


class Disk:
    """In place of ``syncfs``: takes until it is let go."""

    def __init__(self) -> None:
        self.flushes = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.error: Exception | None = None

    def flush(self, fd: int) -> None:
        os.fstat(fd)  # it must be open
        self.flushes += 1
        self.begun.set()
        self.go_on.wait(60)
        if self.error is not None:
            raise self.error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    found = Disk()
    monkeypatch.setattr(agent.flush, "flush", found.flush)
    monkeypatch.setattr(agent.flush, "_TOUCH_SECONDS", 0.02)
    monkeypatch.setattr(agent.flush, "_EARLY_SECONDS", 0.02)
    yield found
    found.go_on.set()


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield opened
    os.close(opened)


def volume(fd: int, path: Path, *, mounted: bool = True) -> OpenVolume:
    source = VolumeSource(kind="persistentVolumeClaim", places=(("x",),), mounted=mounted)
    mount = Mount(
        id=1,
        parent=0,
        device=(8, 1),
        root="/",
        point=str(path),
        fstype="ext4",
        source="/dev/x",
        read_only=False,
    )
    return OpenVolume(fd=fd, path=path, mount=mount, source=source, device=1)


class Said:
    def __init__(self) -> None:
        self.words: list[str] = []
        self.touched = 0
        self.meter = ProgressMeter(clock=self._now)

    def _now(self) -> float:
        self.touched += 1
        return float(self.touched)

    def run(self) -> Run:
        async def record(_: Any) -> None:
            return

        return Run(meter=self.meter, say=self.words.append, record=record)


async def until(check: Any) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


async def test_a_disk_that_takes_long_is_waited_for_and_that_counts_as_moving(
    disk: Disk, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What every other call on a volume gets is much less than a disk may need.
    monkeypatch.setattr("agent.mounted._CALL_SECONDS", 0.01)
    said = Said()
    work = asyncio.ensure_future(flushed(volume(fd, tmp_path), said.run(), written=10**12))
    await until(lambda: said.touched > 5)
    assert not work.done()
    assert set(said.words) == {"Waits until the disk has everything."}
    disk.go_on.set()
    await work


async def test_one_that_takes_longer_than_so_many_bytes_can_does_not_move(
    disk: Disk, fd: int, tmp_path: Path
) -> None:
    said = Said()
    work = asyncio.ensure_future(flushed(volume(fd, tmp_path), said.run(), written=0))
    await until(lambda: len(said.words) > 5)
    assert said.touched == 1, "only its making"
    disk.go_on.set()
    await work
    assert said.touched == 2


async def test_what_the_disk_did_not_take_is_an_error(disk: Disk, fd: int, tmp_path: Path) -> None:
    disk.error = FlushFailed("no")
    disk.go_on.set()
    with pytest.raises(FlushFailed):
        await flushed(volume(fd, tmp_path), Said().run(), written=1)


async def test_a_cancelled_job_does_not_wait_for_the_disk(
    disk: Disk, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.stoppable._STOPPING_SECONDS", 0.05)
    work = asyncio.ensure_future(flushed(volume(fd, tmp_path), Said().run(), written=1))
    await until(disk.begun.is_set)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, 30)
    disk.go_on.set()


async def test_other_work_goes_on_beside_the_flush_and_ends_with_it(
    disk: Disk, fd: int, tmp_path: Path
) -> None:
    done: list[str] = []

    async def work() -> None:
        async with flushing(volume(fd, tmp_path), Said().run(), written=1):
            await until(disk.begun.is_set)
            done.append("beside")
        done.append("after")

    working = asyncio.ensure_future(work())
    await until(lambda: done)
    await asyncio.sleep(0.1)
    assert done == ["beside"]
    disk.go_on.set()
    await working
    assert done == ["beside", "after"]


async def test_what_the_disk_did_not_take_fails_the_work_beside_it(
    disk: Disk, fd: int, tmp_path: Path
) -> None:
    disk.error = FlushFailed("no")
    disk.go_on.set()
    with pytest.raises(FlushFailed):
        async with flushing(volume(fd, tmp_path), Said().run(), written=1):
            await until(disk.begun.is_set)


async def test_work_that_fails_does_not_wait_for_the_disk(
    disk: Disk, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.stoppable._STOPPING_SECONDS", 0.05)

    async def work() -> None:
        async with flushing(volume(fd, tmp_path), Said().run(), written=1):
            await until(disk.begun.is_set)
            raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await work()
    disk.go_on.set()


async def test_a_volume_is_written_out_while_it_is_being_filled(
    disk: Disk, fd: int, tmp_path: Path
) -> None:
    disk.error = FlushFailed("told again by the last flush")
    disk.go_on.set()
    async with written_out(volume(fd, tmp_path)):
        await until(lambda: disk.flushes > 2)
    flushes = disk.flushes
    await asyncio.sleep(0.1)
    assert disk.flushes == flushes


@pytest.mark.parametrize("early", [True, False])
async def test_cancelled_at_any_moment_nothing_of_the_volume_stays_open(
    fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    monkeypatch.setattr(agent.flush, "_EARLY_SECONDS", 0.0)
    pool, busy = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(pool)

    async def early_ones() -> None:
        async with written_out(volume(fd, tmp_path)):
            await asyncio.Event().wait()

    for turns in range(12):
        busy.clear()
        pool.submit(busy.wait)  # so that threads come later than the end of who wanted them
        work = asyncio.ensure_future(
            early_ones() if early else flushed(volume(fd, tmp_path), Said().run(), written=1)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        work.cancel()
        asyncio.get_running_loop().call_later(0.01, busy.set)
        await asyncio.wait([work])
        assert work.cancelled()
    await asyncio.to_thread(lambda: None)  # the only thread has done all before it
    assert opened_of(tmp_path) == 1, "only the fixture's own"


def opened_of(path: Path) -> int:
    """How many descriptors of this process lead there."""
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{entry}") == str(path)
    return found


async def test_on_the_nodes_own_disk_nothing_is_written_out_early(
    disk: Disk, fd: int, tmp_path: Path
) -> None:
    async with written_out(volume(fd, tmp_path, mounted=False)):
        await asyncio.sleep(0.2)
    assert disk.flushes == 0


async def test_the_real_call(fd: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 4096)
    await flushed(volume(fd, tmp_path), Said().run(), written=4096)
