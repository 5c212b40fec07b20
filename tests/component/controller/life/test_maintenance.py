"""Maintenance of real repositories: pruned late, checked daily, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from ararat.api import Repository
from ararat.blob.forwarding import ForwardingStore
from ararat.blob.read_only import ReadOnlyStore
from ararat.blob.store import BlobStore
from ararat.kube import KubeClient, of, patch_status
from ararat.kube.resources import JOBS, PODS
from ararat.restic.locks import metadata
from ararat.restic.models import Access, BackupRequest, LockOwner, RestoreRequest
from ararat.restic.session import open_repository
from controller.config import Config
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import Volume, World, eventually
from tests.component.controller.life.node import node_of, template
from tests.component.controller.life.time_machine import (
    Clock,
    exists,
    nudge,
    outcome,
    repository,
    request,
)

REPOSITORIES = of(Repository)
#: A Job starts two programs, and a busy machine takes a minute for that.
PATIENCE = 240.0
pytestmark = pytest.mark.timeout(900)


def maintained(world: World, control_plane: ControlPlane) -> None:
    """Give the world's controller the template of maintenance jobs."""
    values = {**world.config.__dict__}
    values["maintenance_template"] = template(world, str(control_plane.kubeconfig))
    world.config = Config(**values)


async def volumes_repository(world: World) -> Repository:
    (found,) = [r for r in await world.repositories() if r.spec.namespace]
    return found


async def until(
    world: World, clock: Clock, fits: Callable[[Any], bool], *, what: str
) -> Repository:
    """The namespace's repository, once its maintenance is as wanted."""
    name = (await volumes_repository(world)).name

    nudged = 0.0

    async def look() -> Repository | None:
        nonlocal nudged
        now = asyncio.get_running_loop().time()
        if now - nudged > 3:  # nobody announces that the clock was moved, or that a cache is fresh
            nudged = now
            for repo in await world.repositories():
                await nudge(world, REPOSITORIES, repo.name, clock)
        found = await volumes_repository(world)
        if found.status.maintenance is not None and fits(found.status.maintenance):
            return found
        return None

    try:
        return await eventually(look, what=what, within=PATIENCE)
    except AssertionError as error:
        raw = await world.api.get(REPOSITORIES, name, namespace=world.namespace)
        error.add_note(json.dumps(raw.get("status"), indent=1))
        raise


def packs(world: World, directory: str) -> set[str]:
    return {p.name for p in (world.store_path / directory / "data").rglob("*") if p.is_file()}


async def backup_of(world: World, name: str, content: bytes) -> None:
    world.volumes["pod-db"] = Volume({"file": content})
    await world.backup(name)
    await world.phase("Completed", name=name, within=PATIENCE)
    await world.settled(name)


class HeldReader(ForwardingStore):
    """As another cluster reads: with the index as it was, and now it wants its first pack."""

    def __init__(self, inner: BlobStore) -> None:
        super().__init__(inner)
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        if "/data/" in name:
            self.begun.set()
            await self.go.wait()
        async for piece in super().read(name, offset=offset, length=length):
            yield piece


async def restored_elsewhere(world: World, reader: HeldReader, backup: str) -> bytes:
    """The file of a backup's only volume, by a reader that leaves no trace in the location."""
    (volume,) = [v for v in (await world.manifest(backup)).volumes if v.snapshot_id]
    target = world.path / "elsewhere"
    target.mkdir()
    async with open_repository(
        store=reader,
        directory=volume.directory,
        password=await world.password(volume.directory.removeprefix("repositories/")),
        access=Access.READ_ONLY,
        owner=LockOwner("another", "cluster", "", "restore"),
        cache_dir=None,
        scratch_dir=world.path / "scratch",
    ) as restic:
        await restic.restore(RestoreRequest(snapshot_id=str(volume.snapshot_id), target=target))
    return (target / "file").read_bytes()


async def test_pruned_packs_go_a_day_later(world: World, control_plane: ControlPlane) -> None:
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    kept = secrets.token_bytes(1_000_000)
    async with world.running(), node_of(world) as node:
        gone = secrets.token_bytes(3_000_000)
        await backup_of(world, "one", gone)
        await backup_of(world, "two", kept)
        assert node.ran == []
        directory = str((await volumes_repository(world)).status.directory)
        reader = HeldReader(ReadOnlyStore(world.store))
        elsewhere = asyncio.create_task(restored_elsewhere(world, reader, "one"))
        await asyncio.wait_for(reader.begun.wait(), PATIENCE)
        assert list((world.store_path / directory).glob("locks/*")) == []
        assert (await outcome(world, await request(world, "one"))).status.phase == "Completed"
        before = packs(world, directory)
        clock.move(days=7, hours=12)
        await until(
            world,
            clock,
            lambda m: m.last_prune_time and m.last_check_time and not m.running,
            what="pruned and checked",
        )
        found = (await volumes_repository(world)).status.maintenance
        assert found is not None
        assert found.dropped_bytes > 2_900_000
        assert found.reclaimed_bytes == 0
        assert 900_000 < found.used_bytes < 1_500_000
        assert (found.data_subset, found.failures, found.snapshots) == (1, 0, 1)
        # Who began before the backup was deleted, with the index of then, still finds everything.
        assert before <= packs(world, directory)
        reader.go.set()
        assert await asyncio.wait_for(elsewhere, PATIENCE) == gone
        notes = world.store_path / f"maintenance/{directory.removeprefix('repositories/')}"
        dropped = json.loads((notes / "dropped.json").read_text())
        aged = dict.fromkeys(dropped["packs"], "2020-01-01T00:00:00+00:00")
        (notes / "dropped.json").write_text(json.dumps({**dropped, "packs": aged}))
        clock.move(hours=2)
        await until(
            world,
            clock,
            lambda m: m.reclaimed_bytes > 2_900_000 and not m.running,
            what="what was dropped is removed",
        )
        assert not packs(world, directory) & set(aged)
        async with repository(world, directory) as restic:
            assert (await restic.check(read_data_subset="100%")).ok
            (volume,) = [v for v in (await world.manifest("two")).volumes if v.snapshot_id]
            target = world.path / "restored"
            target.mkdir()
            await restic.restore(RestoreRequest(snapshot_id=str(volume.snapshot_id), target=target))
        assert (target / "file").read_bytes() == kept
        # The next day's check reads the next part.
        clock.move(days=1)
        await until(world, clock, lambda m: m.data_subset == 2 and not m.running, what="part 2")


async def test_backups_go_first_and_killed_jobs_leave_nothing(
    world: World, control_plane: ControlPlane, api: KubeClient
) -> None:
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", b"one" * 1000)
        repo = await volumes_repository(world)
        directory = str(repo.status.directory)
        # The kernel kills the first one; its lock is still there.
        node.start.clear()
        node.ends.append("OOMKilled")
        clock.move(days=1, hours=1)
        running = await until(world, clock, lambda m: m.running, what="the check is begun")
        assert running.status.maintenance is not None

        async def pods() -> bool:
            return len(node.pods) >= 2  # both repositories

        await eventually(pods, what="pods are there")
        (job,) = [
            raw
            async for raw in api.list(
                JOBS, namespace=world.namespace, labels=f"ararat.dev/repository-uid={repo.uid}"
            )
        ]
        node.ends[:] = []
        pod = await api.get(PODS, job["metadata"]["name"], namespace=world.namespace)
        owner = LockOwner(world.cluster, pod["metadata"]["uid"], "", "maintenance-check")
        lock = f"{directory}/locks/{secrets.token_hex(32)}"
        await world.store.put(lock, b"x", metadata=metadata(owner))
        await patch_pod(world, job, reason="OOMKilled")
        node.start.set()
        done = await until(
            world, clock, lambda m: m.last and m.last.reason == "OutOfMemory", what="killed"
        )
        assert done.status.maintenance is not None
        assert done.status.maintenance.failures == 1

        async def swept() -> bool:
            return not (world.store_path / lock).exists()

        await eventually(swept, what="its lock is gone")
        # It is tried again, later; and gives way to a backup that begins meanwhile.
        node.start.clear()
        clock.move(hours=1)
        await until(world, clock, lambda m: m.running, what="it is tried again")
        hold = asyncio.Event()
        node.stop.clear()
        world.volumes["pod-db"] = Volume({"file": b"two"}, hold=hold)
        await world.backup("two")
        found = await until(
            world, clock, lambda m: m.waits_for and not m.running, what="it gives way"
        )
        assert found.status.holders
        assert all(job.status.phase != "Failed" for job in await world.jobs())
        node.start.set()
        hold.set()
        await world.phase("Completed", name="two")
        # The backup did not wait for its pod; the next maintenance does, and says so.
        ran = len(node.ran)
        await until(
            world,
            clock,
            lambda m: "which gave way" in (m.waits_for or ""),
            what="it waits for the one before",
        )
        assert [
            t["action"] for t in node.ran[ran:] if t["repository"]["directory"] == directory
        ] == []
        node.stop.set()
        checked = await until(world, clock, lambda m: m.last_check_time, what="checked in the end")
        assert checked.status.maintenance is not None
        assert checked.status.maintenance.failures == 0


async def test_a_dead_node_is_waited_for_as_long_as_a_lock_may_live(
    world: World, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays registered, so nothing ever says that the pod of what gave way is gone."""
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", b"one" * 1000)
        directory = str((await volumes_repository(world)).status.directory)
        node.start.clear()
        node.stop.clear()
        clock.move(days=1, hours=1)
        begun = await until(world, clock, lambda m: m.running, what="the check is begun")
        assert begun.status.maintenance is not None
        assert begun.status.maintenance.running is not None
        dead = begun.status.maintenance.running.job
        await backup_of(world, "two", b"two" * 1000)
        node.start.set()
        await until(
            world,
            clock,
            lambda m: m.waits_for == f"the end of job {dead}, which gave way",
            what="it waits for the one that gave way",
        )
        monkeypatch.setattr("controller.maintenance.jobs._ENDS_WITHIN", timedelta(0))
        await until(
            world,
            clock,
            lambda m: f"node {world.node} does not end its pod" in (m.waits_for or ""),
            what="it says whose end it waits for, and for how long",
        )
        mine = [t for t in node.ran if t["repository"]["directory"] == directory]
        assert mine == []
        # Jobs of both repositories are stuck, as many as there may be at once.
        monkeypatch.setattr("controller.maintenance.jobs._GIVEN_UP_AFTER", timedelta(0))
        await until(world, clock, lambda m: m.last_check_time, what="checked without it")
        assert await exists(world, JOBS, dead)
        node.stop.set()


async def patch_pod(world: World, job: dict[str, Any], *, reason: str) -> None:
    """The kubelet says how the pod of a Job ended."""
    pod = await world.api.get(PODS, job["metadata"]["name"], namespace=world.namespace)
    ended = {"reason": reason, "exitCode": 137}
    state = {
        "name": "maintenance",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    await patch_status(world.api, PODS, pod, {"phase": "Failed", "containerStatuses": [state]})
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    await patch_status(world.api, JOBS, job, {"conditions": [failed]})


async def test_orphans_strangers_and_what_is_missing(
    world: World, control_plane: ControlPlane
) -> None:
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with world.running(), node_of(world) as node:
        await backup_of(world, "one", b"one" * 1000)
        repo = await volumes_repository(world)
        directory = str(repo.status.directory)
        source = world.path / "volumes"
        async with repository(world, directory) as restic:
            orphan = await restic.backup(
                BackupRequest(source=source, host="h", tags=("ararat", "backup=gone", "job=j"))
            )
            hand_made = await restic.backup(BackupRequest(source=source, host="h", tags=("mine",)))
        clock.move(hours=2)
        found = await until(world, clock, lambda m: m.orphans, what="the orphan is found")
        assert found.status.maintenance is not None
        assert [o.snapshot for o in found.status.maintenance.orphans] == [orphan.snapshot_id]
        assert found.status.maintenance.foreign_snapshots == 1
        clock.move(hours=25)
        await until(world, clock, lambda m: not m.orphans, what="the orphan is forgotten")
        names = {p.name for p in (world.store_path / directory / "snapshots").iterdir()}
        assert orphan.snapshot_id not in names
        assert hand_made.snapshot_id in names
        assert len(names) == 2
        # What a backup names is lost: nothing is deleted any more, and everybody is told.
        (volume,) = [v for v in (await world.manifest("one")).volumes if v.snapshot_id]
        lost = world.store_path / directory / "snapshots" / str(volume.snapshot_id)
        content = lost.read_bytes()
        lost.unlink()
        clock.move(days=10)
        pruned = [t for t in node.ran if t["action"] == "Prune"]

        async def damaged() -> bool:
            return (await volumes_repository(world)).status.phase == "Damaged"

        for _ in range(2):
            await nudge(world, REPOSITORIES, repo.name, clock)
        await eventually(damaged, what="the repository is Damaged")
        assert "pod-db/data" in str((await volumes_repository(world)).status.message)
        clock.move(hours=2)
        await nudge(world, REPOSITORIES, repo.name, clock)
        mine = [
            t
            for t in node.ran
            if t["action"] == "Prune" and t["repository"]["directory"] == directory
        ]
        assert mine == [t for t in pruned if t["repository"]["directory"] == directory]
        lost.write_bytes(content)
        clock.move(hours=2)

        async def whole() -> bool:
            await nudge(world, REPOSITORIES, repo.name, clock)
            return (await volumes_repository(world)).status.phase == "Ready"

        await eventually(whole, what="it is whole again")
