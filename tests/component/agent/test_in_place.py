"""Restores over what is in the volume of a pod that runs; everything real."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.restic import sandbox
from tests.component.agent.real import as_restore, claimed, locks
from tests.component.agent.walker import differences, walk
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("restic")]


@pytest.fixture
def world(real_world: World) -> World:
    return real_world


async def damaged(world: World) -> tuple[str, Path, dict[str, Any], Any]:
    """A volume that was backed up and then spoilt: its pod, path, restore spec, and how it was."""
    uid, path = await claimed(world, "db-0")
    (path / "sub/dir").mkdir(parents=True)
    for name in ("top", "sub/a", "sub/dir/b", "sub/dir/odd [x]*"):
        (path / name).write_text(f"content of {name}")
    os.utime(path, ns=(1, 1_300_000_000_000_000_009))
    before = walk(path)
    await world.backup("b1", "db-0", uid)
    backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
    (path / "top").write_text("spoilt")
    (path / "sub/dir/b").unlink()
    (path / "sub/dir/odd [x]*").unlink()
    (path / "sub/new").write_text("new")
    (path / "new").write_text("new")
    return uid, path, {**as_restore(backup), "mode": "InPlace"}, before


async def in_place(world: World, name: str, uid: str, **spec: Any) -> dict[str, Any]:
    await world.restore(name, "db-0", uid, **spec)
    return await world.until(
        PodVolumeRestore, name, lambda s: s.get("phase") in ("Completed", "Failed"), seconds=60
    )


async def test_paths_then_everything_then_exactly(world: World) -> None:
    async with world.agent():
        uid, path, spec, before = await damaged(world)
        one = await in_place(world, "r1", uid, **spec, paths=["sub/dir/odd [x]*"])
        assert one["phase"] == "Completed", one
        assert (path / "sub/dir/odd [x]*").exists()
        assert not (path / "sub/dir/b").exists()
        folder = await in_place(world, "r2", uid, **spec, paths=["/sub/dir/"], deleteExtra=True)
        assert folder["phase"] == "Completed", folder
        assert (path / "sub/dir/b").read_text() == "content of sub/dir/b"
        # Outside the path nothing is touched, nor removed.
        assert (path / "top").read_text() == "spoilt"
        assert (path / "sub/new").exists()
        whole = await in_place(world, "r3", uid, **spec)
        assert whole["phase"] == "Completed", whole
        assert (path / "top").read_text() == "content of top"
        assert (path / "new").exists()
        exact = await in_place(world, "r4", uid, **spec, deleteExtra=True)
        assert exact["phase"] == "Completed", exact
        assert differences(before, walk(path)) == []
        missing = await in_place(world, "r5", uid, **spec, paths=["sub/nope"])
        assert (missing["phase"], missing["reason"]) == ("Failed", "PathNotInBackup")
        outside = await in_place(world, "r6", uid, **spec, paths=["../x"])
        assert outside["phase"] == "Failed"
        assert differences(before, walk(path)) == []
    assert locks(world) == []


async def test_a_link_in_the_volume_leads_nowhere(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").write_text("not yours")
    async with world.agent():
        uid, path, spec, _ = await damaged(world)
        for name in ("a", "new", "dir"):
            entry = path / "sub" / name
            entry.unlink() if entry.is_file() else entry.rmdir()
        (path / "sub").rmdir()
        (path / "sub").symlink_to(outside)
        await in_place(world, "r1", uid, **spec)
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"b": "not yours"}


async def test_without_landlock_nothing_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.agent():
        uid, path, spec, _ = await damaged(world)
        spoilt = walk(path)
        monkeypatch.setattr(sandbox, "landlock_abi", lambda: 0)
        status = await in_place(world, "r1", uid, **spec)
    assert status["phase"] == "Failed"
    assert "cannot confine restic" in status["message"]
    assert differences(spoilt, walk(path)) == []
