"""A volume against its snapshot, with the real restic: nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

from ararat.restic.models import BackupRequest, CompareRequest, RestoreRequest

from .conftest import HOST, Repository


async def test_what_differs_is_found_and_left_alone(repository: Repository, tmp_path: Path) -> None:
    volume = repository.volume
    (volume / "sub").mkdir()
    for name in ("a", "b", "sub/c", "sub/[d]"):
        (volume / name).write_bytes(os.urandom(100_000))
    os.link(volume / "a", volume / "again")
    (volume / "link").symlink_to("a")
    (volume / "zero").touch()
    target = tmp_path / "target"
    target.mkdir()
    async with repository.open() as restic:
        snapshot = (await restic.backup(BackupRequest(source=volume, host=HOST))).snapshot_id
        assert snapshot
        await restic.restore(RestoreRequest(snapshot_id=snapshot, target=target))

        lines = []
        whole = await restic.compare(
            CompareRequest(snapshot_id=snapshot, target=target), on_line=lambda: lines.append(1)
        )
        assert (whole.different_count, whole.failed_count) == (0, 0)
        assert whole.bytes_same == 400_000
        assert lines

        # One bit of one, the end of another; times and sizes tell nothing of the first.
        info = (target / "a").stat()
        with (target / "a").open("r+b") as file:
            first = file.read(1)
            file.seek(0)
            file.write(bytes([first[0] ^ 1]))
        os.utime(target / "a", ns=(info.st_atime_ns, info.st_mtime_ns))
        os.truncate(target / "sub" / "[d]", 99_999)
        (target / "b").unlink()
        damaged = (target / "a").read_bytes()

        found = await restic.compare(CompareRequest(snapshot_id=snapshot, target=target))
        assert sorted(found.different) == ["/a", "/b", "/sub/[d]"]
        assert found.different_count == 3
        some = await restic.compare(
            CompareRequest(snapshot_id=snapshot, target=target, include=("/sub/c", r"/sub/\[d\]"))
        )
        assert some.different == ("/sub/[d]",)
        assert (some.files_same, some.bytes_same) == (1, 100_000)
    assert (target / "a").read_bytes() == damaged
    assert not (target / "b").exists()
