"""Restoring leaves a ReadOnly location as it was, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from ararat.blob.read_only import LocationReadOnly
from tests.component.controller.restore.scene import data, database, ended, job_of
from tests.component.controller.restore.world import World, until


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


async def test_a_restore_writes_nothing_into_a_read_only_location(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    before = tree(world.store_path)
    assert before
    await world.restore()
    await until(lambda: world.pod("db-0"), seconds=60, what="pod db-0")
    await world.schedule("db-0")
    await world.set_job(await job_of(world, "db-0"), phase="Completed")
    await ended(world, "Completed")
    await world.restore("dry", dryRun=True)
    await ended(world, "Completed", "dry")
    assert tree(world.store_path) == before
    # Not for want of trying: the controller's own store refuses.
    location = await world.context.location("default")
    with pytest.raises(LocationReadOnly):
        await location.store.delete(next(iter(before)))
    assert tree(world.store_path) == before
