"""PodVolumeBackups against a real API server and real mounts; restic's place is taken."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import Any

import pytest

from ararat.api import PodVolumeBackup
from ararat.blob.errors import StoreUnreachable
from ararat.errors import OutOfSpace
from ararat.kube import of
from ararat.kube.resources import PODS
from ararat.restic.errors import RepositoryLocked
from ararat.restic.models import BackupRequest, BackupResult, PathError
from tests.component.agent.engine import SNAPSHOT, FakeEngine, for_ever
from tests.component.agent.world import CLUSTER, PASSWORD, World

pytestmark = pytest.mark.timeout(120)


async def running_job(world: World, name: str = "b1", pod: str = "db-0", **spec: Any) -> str:
    """A pod with an emptyDir and a job for it."""
    uid = await world.pod(pod)
    world.kubelet.empty_dir(uid, "data")
    await world.backup(name, pod, uid, **spec)
    return uid


async def test_a_volume_is_backed_up(world: World, engine: FakeEngine):
    volume = await world.claim("data")
    uid = await world.pod("db-0", volume=volume)
    path = world.kubelet.csi(uid, world.pv("data"))
    os.chown(path, 1000, 2000)
    path.chmod(0o2770)
    async with world.agent(engine) as running:
        await world.backup("b1", "db-0", uid, claim={"name": "data"})
        status = await world.until(PodVolumeBackup, "b1", "Completed")
        await running.counts(
            "ararat_agent_jobs_total", 1, kind="backup", phase="Completed", reason=""
        )
    assert status["snapshotID"] == SNAPSHOT
    assert status["summary"]["bytesStored"] == 50
    assert status["attempts"] == 0
    assert (status["root"]["uid"], status["root"]["gid"]) == (1000, 2000)
    assert status["root"]["mode"] == 0o2770
    assert status["completionTime"]
    request = engine.backups[0]
    assert request.host == f"{CLUSTER}/{world.workloads}/pvc/data"
    job = await world.raw(PodVolumeBackup, "b1")
    assert set(request.tags) == {"ararat", "backup=backup-1", f"job={job['metadata']['uid']}"}
    session = engine.sessions[0]
    assert session["password"] == PASSWORD
    assert session["owner"].cluster == CLUSTER
    assert session["owner"].pod_uid == world.config.pod_uid
    await world.told("Pod", "VolumeBackupStarted", "VolumeBackupCompleted")
    await world.told("PodVolumeBackup", "VolumeBackupStarted", "VolumeBackupCompleted")


async def test_restic_gets_the_mount_itself(world: World, engine: FakeEngine):
    volume = await world.claim("data")
    uid = await world.pod("db-0", volume=volume)
    world.kubelet.csi(uid, world.pv("data"))
    (world.kubelet.disk(world.pv("data")) / "file").write_text("x")
    seen: list[list[str]] = []

    async def look(request: BackupRequest) -> BackupResult:
        assert isinstance(request.source, int)
        seen.append(os.listdir(request.source))
        return BackupResult(snapshot_id=SNAPSHOT)

    engine.on_backup = look
    async with world.agent(engine):
        await world.backup("b1", "db-0", uid)
        await world.until(PodVolumeBackup, "b1", "Completed")
    assert seen == [["file"]]


async def test_a_directory_that_is_not_mounted_is_not_backed_up(world: World, engine: FakeEngine):
    volume = await world.claim("data")
    uid = await world.pod("db-0", volume=volume)
    world.kubelet.csi(uid, world.pv("data"), mount=False)
    async with world.agent(engine):
        await world.backup("b1", "db-0", uid)
        status = await world.until(PodVolumeBackup, "b1", lambda s: s.get("attempts", 0) > 0)
        assert status["reason"] == "VolumeNotMounted"
        status = await world.until(PodVolumeBackup, "b1", "Failed")
    assert status["reason"] == "VolumeNotMounted"
    assert "plain directory of the node's disk" in status["message"]
    assert engine.sessions == []


async def test_what_could_not_be_read_is_listed(world: World, engine: FakeEngine):
    async def incomplete(_: BackupRequest) -> BackupResult:
        errors = tuple(PathError(f"/{'x' * 300}/{n}", "permission denied") for n in range(50))
        return BackupResult(
            snapshot_id=SNAPSHOT, incomplete=True, unreadable=errors, unreadable_count=70
        )

    engine.on_backup = incomplete
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(PodVolumeBackup, "b1", "Completed")
    assert status["incomplete"]
    assert status["unreadableCount"] == 70
    assert len(status["unreadablePaths"]) == 20
    assert all(len(path.encode()) <= 256 for path in status["unreadablePaths"])
    assert "70 files could not be read" in status["message"]


async def test_an_empty_volume_is_a_success(world: World, engine: FakeEngine):
    async def empty(_: BackupRequest) -> BackupResult:
        return BackupResult(snapshot_id=None, empty=True)

    engine.on_backup = empty
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(PodVolumeBackup, "b1", "Completed")
    assert status["empty"]
    assert "snapshotID" not in status


async def test_progress_is_visible(world: World, engine: FakeEngine):
    engine.on_backup = for_ever
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(
            PodVolumeBackup, "b1", lambda s: s.get("progress", {}).get("bytesDone") == 40
        )
        assert status["phase"] == "InProgress"
        assert status["progress"]["text"]
        assert status["heartbeatTime"]


@pytest.mark.parametrize("how", ["cancel", "delete", "terminate", "replace"])
async def test_restic_is_ended_within_a_second(world: World, engine: FakeEngine, how: str):
    engine.on_backup = for_ever
    async with world.agent(engine):
        await running_job(world)
        await world.until(PodVolumeBackup, "b1", "InProgress")
        while not engine.backups:
            await asyncio.sleep(0.02)
        begun = time.monotonic()
        if how == "cancel":
            await world.set_spec(PodVolumeBackup, "b1", {"cancel": True})
        elif how == "delete":
            await world.api.delete(of(PodVolumeBackup), "b1", namespace=world.namespace)
        elif how == "terminate":
            await world.api.delete(PODS, "db-0", namespace=world.workloads, grace_seconds=30)
        else:
            await world.api.delete(PODS, "db-0", namespace=world.workloads, grace_seconds=0)
        while engine.running:
            await asyncio.sleep(0.02)
        assert time.monotonic() - begun < 1.0
        if how == "delete":
            assert await world.gone(PodVolumeBackup, "b1")
            return
        expected = {"cancel": "Cancelled"}.get(how, "Failed")
        status = await world.until(PodVolumeBackup, "b1", expected)
    reasons = {
        "cancel": ["Cancelled"],
        "terminate": ["PodTerminating"],
        # A pod that goes at once may or may not be seen terminating.
        "replace": ["PodEnded", "PodTerminating"],
    }
    assert status["reason"] in reasons[how]
    assert status["attempts"] == 0


async def test_a_shutdown_hands_jobs_back_and_is_no_attempt(world: World, engine: FakeEngine):
    engine.on_backup = for_ever
    async with world.agent(engine) as first:
        await running_job(world)
        await world.until(PodVolumeBackup, "b1", "InProgress")
        begun = time.monotonic()
        await first.stop()
        assert time.monotonic() - begun < 5
    status = await world.status(PodVolumeBackup, "b1")
    assert status["phase"] == "New"
    assert "Handed back" in status["message"]
    assert status["attempts"] == 0
    assert engine.running == 0
    engine.on_backup = FakeEngine().on_backup
    async with world.agent(engine):
        status = await world.until(PodVolumeBackup, "b1", "Completed")
    assert status["attempts"] == 0
    assert "message" not in status


async def test_a_killed_agents_job_is_adopted(world: World, engine: FakeEngine):
    engine.on_backup = for_ever
    async with world.agent(engine) as first:
        await running_job(world)
        await world.until(PodVolumeBackup, "b1", "InProgress")
        await first.kill()
    assert (await world.status(PodVolumeBackup, "b1"))["phase"] == "InProgress"
    engine.on_backup = FakeEngine().on_backup
    async with world.agent(engine):
        status = await world.until(PodVolumeBackup, "b1", "Completed")
    assert status["attempts"] == 1
    assert status["conditions"][0]["reason"] == "AgentRestarted"


async def test_three_killed_agents_fail_the_job(world: World, engine: FakeEngine):
    engine.on_backup = for_ever
    await running_job(world)
    for count in range(3):
        async with world.agent(engine) as running:
            state = {"attempts": count, "phase": "InProgress"}
            await world.until(PodVolumeBackup, "b1", partial(_is, state))
            await running.kill()
    async with world.agent(engine):
        status = await world.until(PodVolumeBackup, "b1", "Failed")
    assert status["attempts"] == 3
    assert status["message"].count("AgentRestarted") == 2
    assert len(engine.backups) <= 3


def _is(wanted: dict[str, Any], status: dict[str, Any]) -> bool:
    return wanted.items() <= status.items()


async def test_store_errors_are_tried_again(world: World, engine: FakeEngine):
    async def away_once(request: BackupRequest) -> BackupResult:
        if len(engine.backups) == 1:
            raise StoreUnreachable("The store does not answer.")
        return BackupResult(snapshot_id=SNAPSHOT)

    engine.on_backup = away_once
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(PodVolumeBackup, "b1", "Completed")
    assert status["attempts"] == 1
    assert "reason" not in status


async def test_a_busy_lock_is_no_attempt(world: World, engine: FakeEngine):
    async def busy(request: BackupRequest) -> BackupResult:
        if len(engine.backups) <= 4:
            raise RepositoryLocked("Somebody prunes.")
        return BackupResult(snapshot_id=SNAPSHOT)

    engine.on_backup = busy
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(PodVolumeBackup, "b1", "Completed")
    assert status["attempts"] == 0


async def test_what_a_person_must_mend_fails_at_once(world: World, engine: FakeEngine):
    async def full(_: BackupRequest) -> BackupResult:
        raise OutOfSpace("The store is full.")

    engine.on_backup = full
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(PodVolumeBackup, "b1", "Failed")
    assert (status["reason"], status["message"]) == ("OutOfSpace", "The store is full.")
    assert len(engine.backups) == 1
    await world.told("Pod", "VolumeBackupStarted", "VolumeBackupFailed")
    await world.told("PodVolumeBackup", "VolumeBackupStarted", "VolumeBackupFailed")


async def test_a_job_that_does_not_move_is_ended(world: World, engine: FakeEngine):
    engine.on_backup = for_ever
    async with world.agent(engine):
        await running_job(world, noProgressSeconds=10)
        status = await world.until(
            PodVolumeBackup, "b1", lambda s: s.get("attempts") == 1, seconds=30
        )
    assert status["conditions"][0]["reason"] == "NoProgress"


async def test_only_so_many_run_at_once_oldest_first(world: World, engine: FakeEngine):
    release = asyncio.Event()
    started: list[str] = []

    async def slow(request: BackupRequest) -> BackupResult:
        started.append(request.host)
        await release.wait()
        return BackupResult(snapshot_id=SNAPSHOT)

    engine.on_backup = slow
    for number in range(4):
        await running_job(world, f"b{number}", f"db-{number}", host=f"host-{number}")
        await asyncio.sleep(0 if number else 1.1)  # creation times have whole seconds
    async with world.agent(engine) as running:
        while engine.running < 2:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert engine.running == 2
        assert sorted(started) == ["host-0", "host-1"]
        await running.counts("ararat_agent_queued_jobs", 2, kind="backup")
        for name in ("b2", "b3"):
            await world.until(
                PodVolumeBackup,
                name,
                lambda s: s.get("message") == "Waits for a free slot on its node.",
            )
        release.set()
        for number in range(4):
            await world.until(PodVolumeBackup, f"b{number}", "Completed")
    assert engine.most == 2


async def test_another_location_under_the_same_path(world: World, engine: FakeEngine):
    world.repository["locationID"] = "another"
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(PodVolumeBackup, "b1", "Failed")
    assert status["reason"] == "LocationMismatch"
    assert f"Node {world.node} does not see location default" in status["message"]
    assert engine.sessions == []


async def test_a_directory_that_only_other_nodes_have(world: World, engine: FakeEngine):
    (world.location_path / "location.json").unlink()
    async with world.agent(engine):
        await running_job(world)
        status = await world.until(PodVolumeBackup, "b1", "Failed")
    assert status["reason"] == "LocationMismatch"


async def test_a_job_of_another_node_is_left_alone(world: World, engine: FakeEngine):
    async with world.agent(engine):
        await running_job(world, "mine")
        uid = await world.pod("other-0")
        await world.backup("theirs", "other-0", uid, node="elsewhere")
        await world.api.patch(
            of(PodVolumeBackup),
            "theirs",
            {"metadata": {"labels": {"ararat.dev/node": "elsewhere"}}},
            namespace=world.namespace,
        )
        await world.until(PodVolumeBackup, "mine", "Completed")


async def test_an_api_server_that_restarts(world: World, engine: FakeEngine, control_plane: Any):
    release = asyncio.Event()

    async def wait(_: BackupRequest) -> BackupResult:
        await release.wait()
        return BackupResult(snapshot_id=SNAPSHOT)

    engine.on_backup = wait
    async with world.agent(engine):
        await running_job(world)
        await world.until(PodVolumeBackup, "b1", "InProgress")
        while not engine.backups:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(control_plane.stop_apiserver)
        release.set()
        await asyncio.sleep(1)
        await asyncio.to_thread(control_plane.start_apiserver)
        status = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
    assert status["attempts"] == 0
    assert len(engine.backups) == 1
