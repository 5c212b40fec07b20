"""Many restics meet in one cache directory, and one that is broken does not end the backups."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from ararat.restic.models import Access

from .conftest import Repository
from .test_sessions import backup_request


def version_file(cache: Path) -> Path:
    (found,) = cache.glob("*/version")
    return found


async def test_an_empty_version_file_is_mended(repository: Repository) -> None:
    """As a restic that was killed at the wrong moment leaves it."""
    (repository.volume / "file").write_text("content")
    cache = repository.work / "cache"
    async with repository.open() as restic:
        first = await restic.backup(backup_request(repository))
    version_file(cache).write_bytes(b"")
    async with repository.open() as restic:
        await restic.backup(backup_request(repository))
    assert version_file(cache).read_bytes() == b"1"
    version_file(cache).write_bytes(b"")
    async with repository.open(Access.READ_ONLY) as restic:
        assert first.snapshot_id is not None
        chunks = [c async for c in restic.dump(first.snapshot_id, "/file")]
    assert b"".join(chunks) == b"content"


async def test_many_begin_in_a_fresh_cache(repository: Repository) -> None:
    (repository.volume / "file").write_text("content")
    cache = repository.work / "cache"
    async with repository.open() as restic:
        await restic.backup(backup_request(repository))
        for _ in range(3):
            shutil.rmtree(cache)
            cache.mkdir()
            lists = await asyncio.gather(*(restic.snapshots() for _ in range(6)))
            assert {len(found) for found in lists} == {1}
