"""PodVolumeRestores and their gates: real API server, real mounts; restic's place is taken."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from ararat.api import PodVolumeRestore
from ararat.blob.errors import StoreUnreachable
from ararat.kube.resources import PODS
from ararat.restic.models import (
    Access,
    CompareRequest,
    CompareResult,
    PathError,
    RestoreRequest,
    RestoreResult,
)
from tests.component.agent.engine import FakeEngine, files, for_ever
from tests.component.agent.world import World

pytestmark = pytest.mark.timeout(120)

ROOT = {"mode": 0o2770, "uid": 1000, "gid": 2000, "mtimeNs": 1_600_000_000_123_456_789}


async def gated(world: World, name: str = "db-0") -> tuple[str, Path]:
    """A gated pod with a mounted claim; its UID and the volume."""
    volume = await world.claim(name)
    uid = await world.pod(name, volume=volume, gated=True)
    return uid, world.kubelet.csi(uid, world.pv(name))


async def answered(world: World, uid: str, phase: str, *, seconds: float = 10) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while world.kubelet.answer(uid).get("phase") != phase:
        assert time.monotonic() < end, f"the gate was told {world.kubelet.answer(uid)}"
        await asyncio.sleep(0.02)
    return world.kubelet.answer(uid)


async def test_a_volume_is_filled_and_its_gate_opened(world: World, engine: FakeEngine):
    uid, path = await gated(world)
    wrote: list[Any] = []
    opened: list[Any] = []
    fill = engine.on_restore

    async def look(request: RestoreRequest) -> RestoreResult:
        wrote.append((await world.status(PodVolumeRestore, "r1")).get("wrote"))
        opened.append(world.kubelet.answer(uid).get("phase"))
        return await fill(request)

    engine.on_restore = look
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid, root=ROOT, expectedBytes=100)
        status = await world.until(PodVolumeRestore, "r1", "Completed")
        answer = await answered(world, uid, "Completed", seconds=1)
    assert files(path) == ["restored"]
    assert wrote == [True]
    assert opened[0] != "Completed"
    assert answer["restoreUID"] == "restore-1"
    assert status["summary"]["bytesRestored"] == 100
    info = path.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (1000, 2000, 0o2770)
    assert info.st_mtime_ns == ROOT["mtimeNs"]
    assert "message" not in status
    assert not engine.restores[0].replace
    assert engine.sessions[0]["access"] is Access.APPEND_ONLY
    await world.told("Pod", "VolumeRestoreStarted", "VolumeRestoreCompleted")
    await world.told("PodVolumeRestore", "VolumeRestoreStarted", "VolumeRestoreCompleted")


async def test_a_location_of_another_cluster_is_only_read(world: World, engine: FakeEngine):
    world.repository["readOnly"] = True
    uid, _ = await gated(world)
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        await world.until(PodVolumeRestore, "r1", "Completed")
    assert engine.sessions[0]["access"] is Access.READ_ONLY


async def test_it_waits_for_the_gate_and_says_so(world: World, engine: FakeEngine):
    uid, _ = await gated(world)
    await world.gate_state("db-0", {"waiting": {"reason": "PodInitializing"}})
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        status = await world.until(PodVolumeRestore, "r1", lambda s: bool(s.get("message")))
        assert "has not reached its gate yet" in status["message"]
        assert not engine.sessions
        await world.gate_state("db-0", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        await world.until(PodVolumeRestore, "r1", "Completed")


async def test_a_job_that_stands_still_says_so_in_its_gate_too(world: World, engine: FakeEngine):
    """Its message while it runs is what the gate's log shows (tests/unit/agent/test_gate.py)."""
    go = asyncio.Event()
    fill = engine.on_restore

    async def stand(request: RestoreRequest) -> RestoreResult:
        await go.wait()
        return await fill(request)

    engine.on_restore = stand
    uid, _ = await gated(world)
    async with world.agent(engine, stalled_seconds=1.0):
        await world.restore("r1", "db-0", uid)
        status = await world.until(PodVolumeRestore, "r1", lambda s: s.get("reason") == "Stalled")
        assert status["phase"] == "InProgress"
        assert "Nothing has moved for a while" in status["message"]
        answer = await answered(world, uid, "Filling")
        while "Nothing has moved for a while" not in answer.get("message", ""):
            await asyncio.sleep(0.1)  # the test's own time limit ends this
            answer = world.kubelet.answer(uid)
        go.set()
        status = await world.until(PodVolumeRestore, "r1", "Completed")
    assert "reason" not in status
    assert "message" not in status


async def test_it_waits_for_the_mount(world: World, engine: FakeEngine):
    volume = await world.claim("db-0")
    uid = await world.pod("db-0", volume=volume, gated=True)
    path = world.kubelet.csi(uid, world.pv("db-0"), mount=False)
    async with world.agent(engine, mount_wait_seconds=20.0):
        await world.restore("r1", "db-0", uid)
        status = await world.until(
            PodVolumeRestore, "r1", lambda s: "plain" in s.get("message", "")
        )
        assert status["phase"] == "InProgress"
        world.kubelet.bind(world.pv("db-0"), path)
        await world.until(PodVolumeRestore, "r1", "Completed")
    assert files(path) == ["restored"]


async def test_nothing_is_written_where_nothing_is_mounted(world: World, engine: FakeEngine):
    volume = await world.claim("db-0")
    uid = await world.pod("db-0", volume=volume, gated=True)
    path = world.kubelet.csi(uid, world.pv("db-0"), mount=False)
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid, root=ROOT)
        status = await world.until(PodVolumeRestore, "r1", "Failed", seconds=30)
        answer = await answered(world, uid, "Failed")
    assert status["reason"] == "VolumeNotMounted"
    assert "wrote" not in status
    assert files(path) == []
    assert path.stat().st_uid == 0
    assert "plain directory" in answer["message"]
    assert not engine.sessions


async def test_a_volume_with_data_is_not_touched(world: World, engine: FakeEngine):
    uid, path = await gated(world)
    (path / "precious").write_text("x")
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid, root=ROOT)
        status = await world.until(PodVolumeRestore, "r1", "Failed")
        await answered(world, uid, "Failed")
    await world.told("Pod", "VolumeRestoreStarted", "VolumeRestoreFailed")
    await world.told("PodVolumeRestore", "VolumeRestoreStarted", "VolumeRestoreFailed")
    assert status["reason"] == "VolumeNotEmpty"
    assert "'precious'" in status["message"]
    assert files(path) == ["precious"]
    assert path.stat().st_uid == 0
    assert not engine.sessions


async def test_lost_and_found_is_no_data(world: World, engine: FakeEngine):
    uid, path = await gated(world)
    (path / "lost+found").mkdir()
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        await world.until(PodVolumeRestore, "r1", "Completed")
    assert files(path) == ["lost+found", "restored"]


async def test_its_own_partial_data_is_replaced(world: World, engine: FakeEngine):
    uid, path = await gated(world)

    async def break_down(request: RestoreRequest) -> RestoreResult:
        if len(engine.restores) == 1:
            (path / "half").write_text("x")
            raise StoreUnreachable("The store went away.")
        return await FakeEngine._restore(request)

    engine.on_restore = break_down
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        status = await world.until(PodVolumeRestore, "r1", "Completed")
    assert files(path) == ["restored"]
    assert [request.replace for request in engine.restores] == [False, True]
    assert status["attempts"] == 1


async def test_a_killed_agents_restore_is_finished_by_the_next(world: World, engine: FakeEngine):
    uid, path = await gated(world)

    async def hang(request: RestoreRequest) -> RestoreResult:
        (path / "half").write_text("x")
        await for_ever(request)
        raise AssertionError("never reached")

    engine.on_restore = hang
    async with world.agent(engine) as first:
        await world.restore("r1", "db-0", uid)
        while not (path / "half").exists():
            await asyncio.sleep(0.02)
        await first.kill()
    assert world.kubelet.answer(uid)["phase"] in ("Waiting", "Filling")
    engine.on_restore = FakeEngine._restore
    async with world.agent(engine):
        status = await world.until(PodVolumeRestore, "r1", "Completed")
        await answered(world, uid, "Completed")
    assert status["attempts"] == 1
    assert files(path) == ["restored"]


async def test_a_gate_is_answered_also_by_the_next_agent(world: World, engine: FakeEngine):
    """The agent was killed after the status and before the answer."""
    uid, _ = await gated(world)
    await world.restore("r1", "db-0", uid)
    await world.set_status(PodVolumeRestore, "r1", {"phase": "Completed"})
    async with world.agent(engine):
        await answered(world, uid, "Completed")
    assert not engine.sessions


async def test_an_empty_snapshot_restores_to_an_empty_volume(world: World, engine: FakeEngine):
    uid, path = await gated(world)
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid, empty=True, root=ROOT)
        await world.until(PodVolumeRestore, "r1", "Completed")
        await answered(world, uid, "Completed")
    assert files(path) == []
    assert path.stat().st_uid == 1000
    assert not engine.sessions


async def test_files_that_could_not_be_restored(world: World, engine: FakeEngine):
    uid, _ = await gated(world)

    async def fail(_: RestoreRequest) -> RestoreResult:
        return RestoreResult(
            files_total=9, files_restored=8, failed=(PathError("/a", "pack damaged"),),
            failed_count=1,
        )  # fmt: skip

    engine.on_restore = fail
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        status = await world.until(PodVolumeRestore, "r1", "Failed", seconds=30)
        answer = await answered(world, uid, "Failed")
    assert status["reason"] == "FilesNotRestored"
    assert status["failedPaths"] == ["/a"]
    assert "pack damaged" in status["message"]
    assert "pack damaged" in answer["message"]


async def test_a_full_disk_says_how_much_is_needed(world: World, engine: FakeEngine):
    uid, _ = await gated(world)

    async def fail(_: RestoreRequest) -> RestoreResult:
        errors = (PathError("/a", "write /a: no space left on device"),)
        return RestoreResult(files_total=9, failed=errors, failed_count=1)

    engine.on_restore = fail
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid, expectedBytes=5 << 30)
        status = await world.until(PodVolumeRestore, "r1", "Failed")
    assert status["reason"] == "OutOfSpace"
    assert "5.0 GiB are needed" in status["message"]
    assert len(engine.restores) == 1


async def test_a_pod_that_is_not_held_is_never_written_under(world: World, engine: FakeEngine):
    volume = await world.claim("db-0")
    uid = await world.pod("db-0", volume=volume)
    path = world.kubelet.csi(uid, world.pv("db-0"))
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        status = await world.until(PodVolumeRestore, "r1", "Failed")
    assert status["reason"] == "NotGated"
    assert files(path) == []


async def test_all_gates_of_a_shared_claim_are_answered(world: World, engine: FakeEngine):
    """The leader fills it on another node; this node's pod only hears of it."""
    uid, path = await gated(world)
    await world.restore("leader", "db-9", "uid-elsewhere", node="elsewhere")
    await world.set_status(
        PodVolumeRestore, "leader", {"phase": "InProgress", "progress": {"text": "1 of 2 GiB"}}
    )
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid, role="Follow", follows="leader")
        status = await world.until(
            PodVolumeRestore, "r1", lambda s: "1 of 2 GiB" in s.get("message", "")
        )
        assert status.get("phase", "New") == "New"
        await answered(world, uid, "Waiting")
        await world.set_status(PodVolumeRestore, "leader", {"phase": "Completed"})
        await world.until(PodVolumeRestore, "r1", "Completed")
        await answered(world, uid, "Completed")
    assert files(path) == []
    assert not engine.sessions


async def test_followers_on_the_same_node(world: World, engine: FakeEngine):
    uid, _ = await gated(world)
    other = await world.pod("db-1", gated=True)
    async with world.agent(engine):
        await world.restore("follower", "db-1", other, role="Follow", follows="r1")
        await world.restore("r1", "db-0", uid)
        await world.until(PodVolumeRestore, "follower", "Completed")
        await answered(world, other, "Completed")


async def test_a_failed_restore_that_is_tried_again_opens_the_gate(
    world: World, engine: FakeEngine
):
    uid, path = await gated(world)
    (path / "precious").write_text("x")
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        await answered(world, uid, "Failed")
        (path / "precious").unlink()
        await asyncio.sleep(1.1)  # the newest job counts, by whole seconds
        await world.restore("r2", "db-0", uid)
        await answered(world, uid, "Completed")


async def test_heartbeats_while_it_waits_in_the_queue(world: World, engine: FakeEngine):
    engine.on_restore = for_ever
    first, _ = await gated(world, "db-0")
    second, _ = await gated(world, "db-1")
    async with world.agent(engine, concurrency=1):
        await world.restore("r0", "db-0", first)
        while not engine.restores:
            await asyncio.sleep(0.05)
        await world.restore("r1", "db-1", second)
        answer = await answered(world, second, "Waiting")
        assert "free slot" in answer["message"] or not answer["message"]
        await asyncio.sleep(9)
        assert time.time() - world.kubelet.answer(second)["heartbeat"] < 10
        assert world.kubelet.answer(first)["phase"] == "Filling"
        assert world.kubelet.answer(first)["bytesDone"] == 40


async def test_a_deleted_pod_lets_the_volume_go(world: World, engine: FakeEngine):
    engine.on_restore = for_ever
    uid, _ = await gated(world)
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid)
        while not engine.restores:
            await asyncio.sleep(0.02)
        begun = time.monotonic()
        await world.api.delete(PODS, "db-0", namespace=world.workloads, grace_seconds=30)
        while engine.running:
            await asyncio.sleep(0.02)
        assert time.monotonic() - begun < 1
        status = await world.until(PodVolumeRestore, "r1", "Failed")
    assert status["reason"] == "PodTerminating"


async def test_a_volume_that_kept_something_else_is_not_passed_on(world: World, engine: FakeEngine):
    """restic is content, and the disk has other bytes: the gate stays shut."""
    uid, _ = await gated(world)

    async def differs(_: CompareRequest) -> CompareResult:
        return CompareResult(different=("/restored",), different_count=1)

    engine.on_compare = differs
    async with world.agent(engine, retry_seconds=0.1):
        await world.restore("r1", "db-0", uid, verify="Full")
        status = await world.until(PodVolumeRestore, "r1", "Failed", seconds=60)
        await answered(world, uid, "Failed")
    assert status["reason"] == "ContentDiffers"
    assert "/restored" in status["message"]
    assert [request.replace for request in engine.restores] == [False, True, True]


async def test_a_volume_that_lost_a_file_is_not_passed_on(world: World, engine: FakeEngine):
    uid, path = await gated(world)
    restore = engine.on_restore

    async def lose(request: RestoreRequest) -> RestoreResult:
        result = await restore(request)
        (path / "restored").unlink()
        return result

    engine.on_restore = lose
    async with world.agent(engine, retry_seconds=0.1):
        await world.restore("r1", "db-0", uid)
        status = await world.until(PodVolumeRestore, "r1", "Failed", seconds=60)
        assert status["reason"] == "ContentDiffers"
        await world.restore("r2", "db-0", uid, verify="None", takesOver="r1", attempt=1)
        status = await world.until(PodVolumeRestore, "r2", "Completed")
    assert "verified" not in status


async def test_scratch_is_a_pod_of_ours_and_large_enough(world: World, engine: FakeEngine):
    """Whatever the job says, nothing is written into a pod of the user's."""
    volume = await world.claim("db-0")
    uid = await world.pod("db-0", volume=volume)
    path = world.kubelet.csi(uid, world.pv("db-0"))
    async with world.agent(engine):
        await world.restore("r1", "db-0", uid, mode="Scratch")
        status = await world.until(PodVolumeRestore, "r1", "Failed")
        assert status["reason"] == "NoScratch"
        mounts = [{"name": "data", "mountPath": "/data"}]
        raw = await world.api.create(
            PODS,
            {
                "metadata": {
                    "name": "scratch", "namespace": world.namespace,
                    "labels": {"ararat.dev/helper": "true"},
                },
                "spec": {
                    "nodeName": world.node,
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "containers": [{"name": "wait", "image": "agent:1", "volumeMounts": mounts}],
                },
            },
        )  # fmt: skip
        own = raw["metadata"]["uid"]
        (world.kubelet.root / "pods" / own).mkdir()
        scratch = world.kubelet.empty_dir(own, "data")
        await world.api.patch(
            PODS,
            "scratch",
            {"status": {"phase": "Running"}},
            namespace=world.namespace,
            subresource="status",
        )
        place: dict[str, Any] = {"namespace": world.namespace, "mode": "Scratch"}
        await world.restore("r2", "scratch", own, **place, expectedBytes=1 << 60)
        status = await world.until(PodVolumeRestore, "r2", "Failed")
        assert status["reason"] == "ScratchTooSmall"
        assert "1024.0 PiB are needed" in status["message"]
        assert files(scratch) == []
        await world.restore("r3", "scratch", own, **place, expectedBytes=100)
        status = await world.until(PodVolumeRestore, "r3", "Completed")
    assert files(scratch) == ["restored"]
    assert status["verified"]["files"] == 1
    assert files(path) == []
