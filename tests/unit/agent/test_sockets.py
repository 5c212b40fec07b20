"""Sockets are found wherever they are, and told of in a few words."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.backup_job import finished_status
from agent.sockets import NAMES_KEPT, Sockets, find, look
from agent.stoppable import in_thread
from ararat.api.nodejob import RootMetadata
from ararat.restic.models import BackupResult, PathError

ROOT = RootMetadata(mode=0o755, uid=0, gid=0, mtime_ns=1)


def a_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def found(path: Path) -> Sockets:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return look(fd)
    finally:
        os.close(fd)


def test_all_are_counted_and_some_are_named(tmp_path: Path) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "run" / "deep").mkdir(parents=True)
    outside.mkdir()
    a_socket(outside / "not ours")
    (volume / "link").symlink_to(outside)
    (volume / "to a socket").symlink_to(outside / "not ours")
    (volume / "file").write_text("x")
    os.mkfifo(volume / "fifo")
    a_socket(volume / "top")
    for number in range(9):
        a_socket(volume / "run" / "deep" / f"{number}.sock")
    result = found(volume)
    assert result.count == 10
    assert len(result.names) == NAMES_KEPT
    assert result.names[0] == "top"
    assert all(name.startswith("run/deep/") for name in result.names[1:])
    assert len(os.listdir("/proc/self/fd")) < 50


def test_it_stops_when_told(tmp_path: Path) -> None:
    a_socket(tmp_path / "s")
    fd = os.open(tmp_path, os.O_RDONLY)
    assert look(fd, stopped=lambda: True).count == 0
    os.close(fd)


async def test_a_volume_that_goes_away_is_no_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    fd = os.open(gone, os.O_RDONLY)
    gone.rmdir()
    assert (await find(fd)).count == 0
    assert look(fd).count == 0
    os.close(fd)


async def test_the_listing_of_another_is_left_alone(tmp_path: Path) -> None:
    """A directory's descriptor has one place in its listing, and duplicates share it."""
    for number in range(5000):  # more than the kernel tells at once
        a_socket(tmp_path / f"s{number:04}")
    fd = os.open(tmp_path, os.O_RDONLY)
    with os.scandir(fd) as entries:
        seen = [next(entries).name]
        assert (await find(fd)).count == 5000
        seen += [entry.name for entry in entries]
    os.close(fd)
    assert len(set(seen)) == len(seen) == 5000


async def test_cancelled_work_is_told_to_stop() -> None:
    import asyncio
    import threading

    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(stopped: object) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not stopped():  # type: ignore[operator]
            ended.wait(0.001)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize(
    ("result", "sockets", "wrong", "message"),
    [
        (BackupResult(snapshot_id="s"), Sockets(), "", None),
        (BackupResult(snapshot_id=None, empty=True), Sockets(), "", "The volume is empty."),
        (
            BackupResult(snapshot_id=None, empty=True),
            Sockets(1, ["run/a"]),
            "",
            "The volume holds no file. 1 socket was left out (run/a).",
        ),
        (
            BackupResult(
                snapshot_id="s",
                incomplete=True,
                unreadable=(PathError("/x", "denied"),),
                unreadable_count=2,
            ),
            Sockets(7, ["a", "b"]),
            "a line is broken",
            "2 files could not be read, the first: /x: denied. "
            "7 sockets were left out (a, b, ...). a line is broken.",
        ),
    ],
)
def test_the_message_says_all_of_it(
    result: BackupResult, sockets: Sockets, wrong: str, message: str | None
) -> None:
    status = finished_status(result, ROOT, sockets=sockets, wrong=wrong)
    assert status["message"] == message
    assert (status["socketCount"], status["socketPaths"]) == (sockets.count, sockets.names)
