"""Room for API objects: each use its own, and none outlives its use or its process."""

import asyncio
from pathlib import Path

import pytest

from controller.spool import clear, room


async def test_two_uses_of_one_name_do_not_meet(tmp_path: Path):
    async with room(tmp_path / "spool", "backup") as first:
        (first / "object").write_text("mine")
        async with room(tmp_path / "spool", "backup") as second:
            assert list(second.iterdir()) == []
        assert (first / "object").read_text() == "mine"
        assert first.stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "spool").iterdir()) == []


async def test_it_goes_when_its_use_is_cancelled(tmp_path: Path):
    entered = asyncio.Event()

    async def use() -> None:
        async with room(tmp_path, "backup") as path:
            (path / "object").touch()
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_cleared(tmp_path: Path):
    (tmp_path / "backup-abc" / "resources").mkdir(parents=True)
    clear(tmp_path)
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []
    clear(tmp_path / "absent")
