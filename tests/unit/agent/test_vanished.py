"""What went away while a backup ran, and is not in it, is found; nothing else is."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agent import vanished
from agent.backup_job import with_vanished
from agent.sockets import look
from agent.vanished import MESSAGE, Inventory
from ararat.restic.errors import ResticFailed
from ararat.restic.models import BackupResult, Node, PathError

SNAPSHOT = "5" * 64
ODD = os.fsdecode(b"sp\xc3\xa4t \xff\xfe\n")


class Held:
    """A snapshot that holds these."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths
        self.asked: list[str] = []

    async def ls(
        self, snapshot_id: str, *, path: str | Sequence[str] | None = None, recursive: bool = True
    ) -> AsyncIterator[Node]:
        assert snapshot_id == SNAPSHOT
        assert not recursive
        self.asked += path or ()
        for held in self.paths:
            # Names come out as restic prints them.
            yield Node(path=os.fsencode(held).decode(errors="replace"), type="file")


class Away(Held):
    async def ls(
        self, snapshot_id: str, *, path: str | Sequence[str] | None = None, recursive: bool = True
    ) -> AsyncIterator[Node]:
        raise ResticFailed("the store is away", tail=(), code=1)
        yield Node(path="", type="")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volume"
    for name in ("stays", "goes", "in time", "deep/er/goes", "deep/er/stays", "whole/a", "whole/b"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "link").symlink_to("nowhere")
    (root / ODD).write_text("odd")
    # Long ago, so that the time of change alone tells.
    for directory, _, _ in os.walk(root):
        os.utime(directory, (1, 1))
    return root


async def gone(volume: Path, held: Held, *, caches: bool = False, **more: object) -> list[str]:
    fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    inventory = Inventory(volume.parent, exclude_caches=caches)
    try:
        look(fd, on_directory=inventory.add)
        _remove(volume)
        found = await vanished.find(
            inventory,
            held,
            volume=fd,
            snapshot_id=SNAPSHOT,
            **more,  # type: ignore[arg-type]
        )
    finally:
        inventory.close()
        os.close(fd)
    assert {error.message for error in found} <= {MESSAGE}
    return sorted(error.path for error in found)


def _remove(volume: Path) -> None:
    for name in ("goes", "in time", "deep/er/goes", "link", ODD):
        (volume / name).unlink(missing_ok=True)
    shutil.rmtree(volume / "whole", ignore_errors=True)
    (volume / "new").write_text("came later")


EVERYTHING = sorted(["goes", "deep/er/goes", "link", "whole/a", "whole/b", ODD])


async def test_what_the_snapshot_does_not_hold_is_named(volume: Path) -> None:
    held = Held("/in time", "/stays")
    assert await gone(volume, held) == EVERYTHING
    assert sorted(held.asked) == sorted(f"/{name}" for name in [*EVERYTHING, "in time"])


async def test_what_was_read_in_time_is_not(volume: Path) -> None:
    held = Held("/in time", *(f"/{name}" for name in EVERYTHING))
    assert await gone(volume, held) == []


async def test_a_volume_that_nobody_touched_asks_restic_nothing(volume: Path) -> None:
    shutil.rmtree(volume / "whole")
    for name in ("goes", "in time", "deep/er/goes", "link", ODD, "new"):
        (volume / name).unlink(missing_ok=True)
    (volume / "new").write_text("is there")
    held = Held()
    assert await gone(volume, held) == []
    assert held.asked == []


async def test_what_was_excluded_or_told_already_is_not_told(volume: Path) -> None:
    excluded = ["*.tmp", "er/goes", "/whole", "!/whole/b"]
    known = [PathError(f"/var/lib/kubelet/pods/x/{ODD}", "no such file or directory")]
    found = await gone(volume, Held("/in time"), excluded=excluded, known=known)
    assert found == ["goes", "link", "whole/b"]


async def test_caches_that_are_left_out_are_not_missed(volume: Path) -> None:
    (volume / "whole/CACHEDIR.TAG").write_text("Signature: …")
    found = await gone(volume, Held("/in time"), caches=True)
    assert found == [name for name in EVERYTHING if not name.startswith("whole/")]


async def test_a_link_in_a_directorys_place_is_not_followed(volume: Path, tmp_path: Path) -> None:
    fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    inventory = Inventory(tmp_path)
    look(fd, on_directory=inventory.add)
    outside = tmp_path / "outside"
    shutil.move(volume / "whole", outside)
    (volume / "whole").symlink_to(outside)
    # What is behind the link looks the same, but is not in the volume.
    os.utime(outside, (9, 9))
    assert inventory.gone(fd) == ["whole/a", "whole/b"]
    inventory.close()
    os.close(fd)


async def test_it_asks_for_so_many_and_stops_when_told(tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(vanished.MOST + 50):
        (root / f"f{number}").touch()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    inventory = Inventory(tmp_path)
    look(fd, on_directory=inventory.add)
    for path in root.iterdir():
        path.unlink()
    assert len(inventory.gone(fd)) == vanished.MOST
    assert inventory.gone(fd, stopped=lambda: True) == []
    inventory.close()
    os.close(fd)


async def test_nothing_of_it_fails_a_backup(volume: Path) -> None:
    assert await gone(volume, Away()) == []


async def test_a_scratch_disk_that_is_full_or_gone_is_no_error(volume: Path) -> None:
    fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    gone = Inventory(volume / "no such directory")
    gone.add(fd, "", ["name"])
    assert gone.gone(fd) == []
    full = Inventory(volume)
    full._written = gzip.GzipFile("/dev/full", "wb")
    for _ in range(2000):
        full.add(fd, f"{os.urandom(500).hex()}/", ["name"])
    assert full._broken
    assert full.gone(fd) == []
    os.close(fd)


def test_it_makes_the_backup_incomplete() -> None:
    result = BackupResult(
        snapshot_id=SNAPSHOT, unreadable=(PathError("a", "denied"),), unreadable_count=1
    )
    assert with_vanished(result, ()) is result
    more = with_vanished(result, (PathError("b", MESSAGE),))
    assert more.incomplete
    assert (more.unreadable_count, len(more.unreadable)) == (2, 2)
