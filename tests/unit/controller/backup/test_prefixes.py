"""Every prefix of a backup's steps, cut off by the end of the controller, and gone on with.

What the next controller makes of it must be what one controller alone would have made: the same
manifest, nothing done twice that must be done once, and nothing left behind.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ararat.api.backup import BackupPhase
from ararat.api.manifest import Coverage
from tests.unit.controller.backup.replay import JOBS, NAME, World, engine_of

#: Steps of an undisturbed backup, at least.
FEWEST = 20
FOLDER = f"backups/{NAME}"


class Worlds:
    """One after the other, each from the beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self.now: World

    def fresh(self) -> World:
        self._count += 1
        self.now = World(self._path / str(self._count))
        return self.now


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worlds:
    made = Worlds(tmp_path)
    engine_of(lambda: made.now, monkeypatch)
    # As if status were full: what is known before the end must not be kept there alone.
    monkeypatch.setattr("controller.backup.reconcile.STATUS_LIMIT", 0)
    return made


def told(world: World) -> dict[str, Any]:
    """What a backup came to, without what differs from one to the next (times, UIDs)."""
    backup, manifest = world.backup(), world.manifest()
    assert backup is not None
    assert manifest is not None
    assert manifest.backup_uid == backup.uid
    status = backup.status
    return {
        "phase": (status.phase, manifest.phase),
        "coverage": (status.coverage, manifest.coverage),
        "failures": status.failures,
        "in full": manifest.failures,
        "counts": (status.failure_count, status.objects and status.objects.count),
        "warnings": (status.warnings, manifest.warnings),
        "message": status.message,
        "volumes": [
            (v.id, v.coverage, v.reason, v.message, bool(v.snapshot_id), v.directory, v.node)
            for v in manifest.volumes
        ],
    }


def check_once(world: World, story: Sequence[str] = ()) -> None:
    """Nothing was done twice that must be done once, nothing is left, and nothing was lost."""
    jobs, made = world.jobs(), world.cluster.made
    assert all(count == 1 for (kind, _), count in made.items() if kind == JOBS.plural), story
    assert set(world.taken.values()) <= {1}, story
    for name in ("begin.json", "plan.json.gz", "manifest.json"):
        assert world.blobs.puts[f"{FOLDER}/{name}"] <= 1, (name, story)
    assert world.left() == [], story
    manifest = world.manifest()
    if manifest is None:
        return
    held = {one for snapshots in world.repositories.values() for one in snapshots}
    assert set(manifest.objects.snapshots) <= held, story
    finished = {j.status.snapshot_id for j in jobs if j.status.phase == "Completed"}
    assert {v.snapshot_id for v in manifest.volumes if v.restorable} == finished <= held, story


async def whole(world: World) -> list[str]:
    """The steps of a backup that nobody disturbs."""
    assert await world.live()
    return world.killer.steps


async def test_the_backup_that_is_replayed(worlds: Worlds) -> None:
    world = worlds.fresh()
    steps = await whole(world)
    check_once(world)
    found = told(world)
    assert found["phase"] == (BackupPhase.PARTIALLY_FAILED, BackupPhase.PARTIALLY_FAILED)
    assert [(i, c, r) for i, c, r, *_ in found["volumes"]] == [
        ("wp/-/spare", Coverage.BACKED_UP, ""),
        ("wp/bad/data", Coverage.FAILED, "NotMounted"),
        ("wp/db/data", Coverage.BACKED_UP, ""),
        ("wp/late/data", Coverage.FAILED, "PodNotRunning"),
    ]
    assert [(f.object, f.reason) for f in found["in full"]] == [
        ("wp/bad/data", "NotMounted"),
        ("wp/late/data", "PodNotRunning"),
        ("widgets.example.com", "Forbidden"),
    ]
    assert len(steps) > FEWEST
    said = " ".join(steps)
    for step in (
        f"put {FOLDER}/begin.json",
        f"put {FOLDER}/plan.json.gz",
        "create podvolumebackups",
        "create pods",
        "store repositories/objects/r",
        f"put {FOLDER}/manifest.json",
        "delete pods",
        "delete secrets",
    ):
        assert step in said, step


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
async def test_every_prefix(worlds: Worlds, twice: bool) -> None:
    await whole(worlds.fresh())
    expected = told(worlds.now)
    chance = random.Random(5)
    for at in itertools.count(1):
        world = worlds.fresh()
        if await world.live(at):
            break
        story = [f"ended after {world.killer.steps[-1]}"]
        if twice and not await world.live(chance.randint(1, FEWEST // 2)):
            story.append(f"again after {world.killer.steps[-1]}")
        assert await world.live(), story
        check_once(world, story)
        assert told(world) == expected, story
    assert at > FEWEST


@pytest.mark.parametrize("how", [World.cancel, World.delete], ids=["cancel", "delete"])
async def test_nobody_wants_it_any_more_after_any_prefix(
    worlds: Worlds, how: Callable[[World], None]
) -> None:
    phases: set[str] = set()
    for at in itertools.count(1):
        world = worlds.fresh()
        if await world.live(at):
            break
        story = [f"ended after {world.killer.steps[-1]}"]
        committed = world.manifest() is not None
        how(world)
        assert await world.live(), story
        check_once(world, story)
        assert (world.manifest() is not None) == committed, story
        backup = world.backup()
        phases.add(str(backup.status.phase) if backup else "gone")
        if backup is None:
            assert how is World.delete, story
            continue
        # Once it has been committed, it is there.
        wanted = BackupPhase.PARTIALLY_FAILED if committed else BackupPhase.CANCELLED
        assert backup.status.phase is wanted, story
        assert all(job.status.phase.terminal for job in world.jobs()), story
    assert at > FEWEST
    assert phases == ({"gone"} if how is World.delete else {"Cancelled", "PartiallyFailed"})
