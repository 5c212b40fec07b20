"""What an agent that was killed leaves behind is used, and nothing is read or counted twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.node_lock import identity
from ararat.api import PodVolumeBackup
from ararat.api.location import BackupLocationSpec, FilesystemLocation
from ararat.blob.open import open_store
from ararat.restic.locks import metadata
from ararat.restic.models import (
    BackupProgress,
    BackupRequest,
    BackupResult,
    LockOwner,
    Snapshot,
    SnapshotSummary,
)
from tests.component.agent.engine import SNAPSHOT, FakeEngine, for_ever
from tests.component.agent.test_backup_jobs import running_job
from tests.component.agent.world import CLUSTER, DIRECTORY, World

pytestmark = pytest.mark.timeout(180)
EARLIER = "2026-01-01T00:00:00Z"


async def left_behind(world: World, **status: Any) -> str:
    """A job that a dead agent had begun; its UID."""
    await running_job(world)
    found = {"phase": "InProgress", "startTime": EARLIER, "attempts": 0, **status}
    await world.set_status(PodVolumeBackup, "b1", found)
    return str((await world.raw(PodVolumeBackup, "b1"))["metadata"]["uid"])


def stored(world: World, engine: FakeEngine, *snapshots: Snapshot) -> None:
    """As restic lists them, with their names in the store."""
    engine.known = list(snapshots)
    folder = world.location_path / world.repository["directory"] / "snapshots"
    folder.mkdir(parents=True)
    for snapshot in snapshots:
        (folder / snapshot.id).touch()


def finished(world: World, job: str) -> Snapshot:
    return Snapshot(
        id="7" * 64,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        hostname=f"{CLUSTER}/{world.workloads}/pvc/data",
        tags=("ararat", f"job={job}"),
        summary=SnapshotSummary(files_new=5, files_processed=7, bytes_processed=70, bytes_stored=9),
    )


async def test_the_snapshot_of_a_killed_agent_is_taken(world: World, engine: FakeEngine):
    uid = await left_behind(world, incomplete=True, unreadableCount=3)
    stored(world, engine, finished(world, "another"), finished(world, uid))
    async with world.agent(engine):
        status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
    assert engine.backups == []
    assert status["snapshotID"] == "7" * 64
    assert status["summary"]["filesTotal"] == 7
    assert status["incomplete"]
    assert (status["unreadableCount"], status["message"]) == (3, "3 files could not be read.")


async def test_a_first_run_trusts_no_snapshot(world: World, engine: FakeEngine):
    """Whoever can write to the store cannot make a job believe that it has run."""
    await running_job(world)
    uid = str((await world.raw(PodVolumeBackup, "b1"))["metadata"]["uid"])
    stored(world, engine, finished(world, uid))
    async with world.agent(engine):
        status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
    assert status["snapshotID"] == SNAPSHOT


async def test_what_could_not_be_read_is_known_before_the_snapshot_is(
    world: World, engine: FakeEngine
):
    seen: list[dict[str, Any]] = []

    async def back_up(request: BackupRequest) -> BackupResult:
        store = engine.sessions[-1]["store"]
        await store.put(f"{DIRECTORY}/index/1", b"x")
        seen.append(await world.status(PodVolumeBackup, "b1"))
        await store.put(f"{DIRECTORY}/snapshots/1", b"x")
        seen.append(await world.status(PodVolumeBackup, "b1"))
        await for_ever(request)
        raise AssertionError

    engine.on_backup = back_up
    engine.reported = BackupProgress(errors=4)
    async with world.agent(engine):
        await running_job(world)
        await world.until(PodVolumeBackup, "b1", lambda s: "incomplete" in s, seconds=60)
        async with asyncio.timeout(60):
            while len(seen) < 2:
                await asyncio.sleep(0.05)
    assert "incomplete" not in seen[0]
    assert (seen[1]["incomplete"], seen[1]["unreadableCount"]) == (True, 4)


@pytest.mark.parametrize(("stored", "attempts"), [(True, 1), (None, 3)])
async def test_only_runs_without_new_data_count_as_attempts(
    world: World, engine: FakeEngine, stored: bool | None, attempts: int
):
    earlier = {"type": "Attempt1", "status": "False", "reason": "Killed", "message": "first"}
    conditions = [
        {**earlier, "lastTransitionTime": EARLIER},
        {**earlier, "lastTransitionTime": EARLIER, "type": "Attempt2", "message": "second"},
    ]
    await left_behind(world, attempts=2, conditions=conditions, stored=stored)
    async with world.agent(engine):
        expected = "Completed" if stored else "Failed"
        status = await world.until(PodVolumeBackup, "b1", expected, seconds=60)
    assert status["attempts"] == attempts
    assert "stored" not in status
    if not stored:
        assert status["reason"] == "AgentRestarted"
        assert "1: Killed: first" in status["message"]
        assert "2: Killed: second" in status["message"]


async def test_a_job_that_stores_says_so_while_it_runs(world: World, engine: FakeEngine):
    engine.on_backup = for_ever
    engine.stored = 1
    async with world.agent(engine):
        await running_job(world)
        await world.until(PodVolumeBackup, "b1", lambda s: s.get("stored") is True, seconds=60)


async def test_locks_of_a_killed_container_go_with_its_job(world: World, engine: FakeEngine):
    """Also where the job is cancelled before anybody runs it again."""
    await left_behind(world)
    await world.set_spec(PodVolumeBackup, "b1", {"cancel": True})
    folder = world.location_path / DIRECTORY / "locks"
    folder.mkdir(parents=True)
    world.config.cache_dir.mkdir(parents=True, exist_ok=True)
    file = world.config.cache_dir / f"agent-{world.namespace}.lock"
    file.touch()
    node = identity(file.stat())
    await _lock(world, "a" * 64, LockOwner(CLUSTER, world.config.pod_uid, EARLIER, "b1"))
    await _lock(world, "b" * 64, LockOwner(CLUSTER, "another", EARLIER, "b1"))
    await _lock(world, "c" * 64, LockOwner(CLUSTER, "deleted by force", EARLIER, "b1", node))
    await _lock(world, "d" * 64, LockOwner(CLUSTER, "elsewhere", EARLIER, "b1", f"{node}0"))
    async with world.agent(engine):
        await world.until(PodVolumeBackup, "b1", "Cancelled", seconds=60)
    left = {entry.name[0] for entry in folder.iterdir() if not entry.name.startswith(".")}
    assert left == {"b", "d"}


async def _lock(world: World, name: str, owner: LockOwner) -> None:

    spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(world.location_path)))
    store = await open_store(spec, {})
    await store.put(f"{DIRECTORY}/locks/{name}", b"x", metadata=metadata(owner))
    await store.close()
