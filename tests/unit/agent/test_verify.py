"""What is checked after a volume was filled: counts, sizes, and which files are read back."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from agent.context import Run
from agent.flush import FlushFailed
from agent.progress import ProgressMeter
from agent.verify import (
    SAMPLE_BYTES,
    SAMPLE_FILES,
    ContentDiffers,
    Counts,
    Walked,
    check_content,
    check_counts,
    verify,
    walk,
)
from ararat.api.nodejob import Verify
from ararat.restic.models import CompareRequest, CompareResult, PathError, RestoreResult


def walked(path: Path, **more: object) -> Walked:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return walk(fd, chosen=random.Random(7), **more)  # type: ignore[arg-type]
    finally:
        os.close(fd)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    (tmp_path / "sub" / "one").write_bytes(b"x" * 100)
    os.link(tmp_path / "sub" / "one", tmp_path / "again")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "out").symlink_to("/etc")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "#1").write_bytes(b"x")
    return tmp_path


def test_entries_files_and_sizes_are_counted(volume: Path):
    found = walked(volume)
    assert found.own == Counts(entries=7, files=2, bytes=200, bytes_once=100)
    assert found.provided == {}
    assert sorted(found.sample) == ["again", "sub/one"]


def test_only_the_roots_lost_and_found_is_left_out(volume: Path):
    (volume / "sub" / "lost+found").mkdir()
    assert walked(volume).own.entries == 8


def test_what_may_be_a_providers_is_counted_by_itself(volume: Path):
    for name in ("~snapshot", "$RECYCLE.BIN"):
        (volume / name / "sub").mkdir(parents=True)
    (volume / "$RECYCLE.BIN" / "file").write_bytes(b"123")
    (volume / "aquota.user").write_bytes(b"12")
    found = walked(volume)
    assert found.own.entries == 7
    assert {name: (c.entries, c.bytes) for name, c in found.provided.items()} == {
        "~snapshot": (2, 0),
        "$RECYCLE.BIN": (3, 3),
        "aquota.user": (1, 2),
    }


def test_names_of_any_bytes_are_counted_and_not_sampled(tmp_path: Path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))).write_bytes(b"12")
    (tmp_path / "two\nlines").write_bytes(b"1")
    assert walked(tmp_path).own == Counts(entries=2, files=2, bytes=3, bytes_once=3)
    assert walked(tmp_path).sample == []


def test_a_sample_is_bounded_in_number_and_size(tmp_path: Path):
    for number in range(SAMPLE_FILES * 3):
        with (tmp_path / f"file-{number}").open("wb") as file:
            file.truncate(SAMPLE_BYTES // 8)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(SAMPLE_BYTES + 1)
    sample = walked(tmp_path).sample
    assert len(sample) == 8
    assert "huge" not in sample
    # Not merely the first ones that were met.
    assert set(sample) != {f"file-{number}" for number in range(8)}


def test_a_walk_ends_when_it_is_told_to(volume: Path):
    assert walked(volume, stopped=lambda: True).own.entries == 0


def test_a_directory_deeper_than_the_interpreters_stack(tmp_path: Path):
    depth = 1500
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        assert walked(tmp_path).own.entries == depth
    finally:
        for level in range(depth, 0, -1):
            here = os.open(tmp_path, os.O_RDONLY)
            os.rmdir("/".join("d" * level), dir_fd=here)
            os.close(here)


OWN = Counts(entries=3, files=2, bytes=30, bytes_once=20)
PROVIDED = {
    ".snapshot": Counts(entries=1, files=1, bytes=5, bytes_once=5),
    "~snapshot": Counts(entries=1),
    ".zfs": Counts(entries=2, files=1, bytes=7, bytes_once=7),
}


@pytest.mark.parametrize(
    ("result", "files"),
    [
        (RestoreResult(files_total=3, bytes_total=20), 2),
        # A second attempt: what the first wrote is not written again.
        (RestoreResult(files_total=3, files_skipped=2, bytes_total=20, bytes_skipped=15), 2),
        # The snapshot has a directory of that name.
        (RestoreResult(files_total=4, bytes_total=25), 3),
        # Two of the three are the user's.
        (RestoreResult(files_total=6, bytes_total=32), 4),
        (RestoreResult(files_total=7, bytes_total=32), 4),
    ],
)
def test_counts_that_fit(result: RestoreResult, files: int):
    assert check_counts(Walked(own=OWN, provided=PROVIDED), result).files == files


@pytest.mark.parametrize(
    "result",
    [
        RestoreResult(files_total=5, bytes_total=20),
        RestoreResult(files_total=3, bytes_total=21),
        RestoreResult(files_total=2, bytes_total=20),
    ],
)
def test_counts_that_do_not(result: RestoreResult):
    with pytest.raises(ContentDiffers, match=r"the volume holds 3 with 20"):
        check_counts(Walked(own=OWN, provided=PROVIDED), result)


def test_what_could_not_be_read_back_differs():
    with pytest.raises(ContentDiffers, match=r"1 file could not be read back.*/a: broken disk"):
        check_content(CompareResult(failed=(PathError("/a", "broken disk"),), failed_count=1))
    with pytest.raises(ContentDiffers, match=r"2 files did not come back.*first: /b"):
        check_content(CompareResult(different=("/b", "/c"), different_count=2))
    check_content(CompareResult(files_same=5))


class Comparing:
    """In place of restic: what it was asked, and whether the disk had everything by then."""

    def __init__(self) -> None:
        self.flushing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked: list[tuple[CompareRequest, bool]] = []

    async def compare(self, request: CompareRequest, **_: object) -> CompareResult:
        self.asked.append((request, self.flushing.done()))
        return CompareResult(files_same=1, bytes_same=3)

    async def verify(self, path: Path, level: Verify) -> None:
        """A volume with one file, of three bytes."""
        (path / "file").write_bytes(b"123")

        async def record(_: object) -> None: ...

        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            await verify(
                self,  # type: ignore[arg-type]
                fd,
                Run(meter=ProgressMeter(), say=lambda _: None, record=record),
                snapshot_id="5" * 64,
                result=RestoreResult(files_total=1, bytes_total=3),
                level=level,
                flushing=self.flushing,
            )
        finally:
            os.close(fd)


@pytest.mark.parametrize(
    ("level", "refused", "waits"),
    [(Verify.SAMPLE, False, False), (Verify.SAMPLE, True, True), (Verify.FULL, False, True)],
)
async def test_what_is_read_back_was_brought_to_the_disk_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Verify, refused: bool, waits: bool
):
    calls: list[str] = []

    def to_the_disk(fd: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{fd}"))
        if refused:
            raise OSError("only a file open for writing")

    monkeypatch.setattr("agent.verify.os.fdatasync", to_the_disk)
    restic = Comparing()
    working = asyncio.ensure_future(restic.verify(tmp_path, level))
    if waits:
        await asyncio.sleep(0.2)
        assert restic.asked == []
        restic.flushing.set_result(None)
    await asyncio.wait_for(working, 60)
    ((request, everything),) = restic.asked
    assert everything == waits
    if level is Verify.SAMPLE:
        assert calls == [str(tmp_path / "file")]
        assert request.include == ("/file",)
    # A lock costs restic a part of a second; a long comparison has one.
    assert request.lock == (level is Verify.FULL)


async def test_what_the_disk_did_not_take_is_not_read_back(tmp_path: Path):
    restic = Comparing()
    restic.flushing.set_exception(FlushFailed("no"))
    with pytest.raises(FlushFailed):
        await restic.verify(tmp_path, Verify.FULL)
    assert restic.asked == []
