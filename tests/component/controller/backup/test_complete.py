"""A backup from asking for it to what is left in the location."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path
from typing import Any

from ararat import keys
from ararat.api.manifest import Coverage
from ararat.kube import patch_status
from ararat.kube.resources import SECRETS
from controller.backup.outcome import STATUS_LIMIT

from .world import JOBS, Volume, World, eventually


async def restic(binary: Path, world: World, repository: str, *arguments: str) -> str:
    """Plain restic on the directory, with nothing of Ararat's but the derived password."""
    process = await asyncio.create_subprocess_exec(
        binary,
        "--repo",
        world.store_path / "repositories" / repository,
        "--no-cache",
        *arguments,
        env={**os.environ, "RESTIC_PASSWORD": await world.password(repository)},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_a_backup_is_complete_and_can_be_read_without_ararat(
    world: World, restic: Path
) -> None:
    await world.workload_of("db", "web", web=Volume())
    await world.claim("spare")
    async with world.running() as agents:
        await world.backup()
        backup = await world.phase("Completed")
        backup = await world.settled()
        assert len(agents.taken) == 2

    status = backup.status
    assert status.location == "main"
    assert status.namespaces == [world.workload]
    assert status.coverage is not None
    assert status.coverage.text == "2 backed up, 1 unprotected"
    assert status.failures == []
    assert status.warnings == [
        f"not in this backup, and nobody asked for it: the data of {world.workload}/-/spare"
    ]
    assert [(c.type, c.status, c.reason) for c in status.conditions] == [
        ("Succeeded", "True", "Completed")
    ]
    assert status.start_time is not None
    assert status.completion_time is not None
    assert status.start_time <= status.completion_time
    assert backup.metadata.labels == {"ararat.dev/location": "main"}
    assert await world.secrets() == []
    assert len(await world.events("BackupCompleted")) == 1
    assert list((world.path / "spool").iterdir()) == []
    assert list((world.path / "scratch").iterdir()) == []

    manifest = await world.manifest()
    assert manifest.backup_uid == backup.uid
    assert manifest.cluster_uid == world.cluster
    assert manifest.objects == status.objects
    assert {v.volume: v.coverage for v in manifest.volumes if v.pod == ""} == {
        "spare": Coverage.UNPROTECTED
    }
    db, web = (v for v in manifest.volumes if v.pod)
    assert (db.pod, db.claim and db.claim.name, db.node) == ("pod-db", "db", world.node)
    assert (db.coverage, db.empty, db.capacity) == (Coverage.BACKED_UP, False, "1Gi")
    assert (web.coverage, web.empty, web.snapshot_id) == (Coverage.BACKED_UP, True, None)
    assert db.host == f"{world.cluster}/{world.workload}/pvc/db"
    folder = "backups/nightly"
    assert world.files() == {
        "location.json",
        f"{folder}/begin.json",
        f"{folder}/plan.json.gz",
        f"{folder}/log.jsonl.gz",
        f"{folder}/results.json.gz",
        f"{folder}/manifest.json",
    }
    await _check_log(world)
    await _check_by_hand(world, restic, db.directory, db.snapshot_id or "")


async def _check_log(world: World) -> None:
    packed = (world.store_path / "backups/nightly/log.jsonl.gz").read_bytes()
    lines = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    events = [line["event"] for line in lines]
    assert events.count("backup began") == 1
    assert events.count("node job created") == 2
    assert events.count("objects stored") == 1
    assert events[-1] == "backup ends"
    packed = (world.store_path / "backups/nightly/results.json.gz").read_bytes()
    results = json.loads(gzip.decompress(packed))
    assert results["manifest"] == (await world.manifest()).to_dict()
    # Neither a user's secret nor one of ours stands in anything that is not encrypted.
    master = await world.master()
    stored = b"".join(
        gzip.decompress(data) if name.endswith(".gz") else data
        for name in world.files()
        for data in [(world.store_path / name).read_bytes()]
    )
    kept = [path for name in ("cache", "scratch") for path in (world.path / name).rglob("*")]
    assert any(path.is_file() for path in kept)  # restic's cache: of encrypted things
    stored += b"".join(path.read_bytes() for path in kept if path.is_file())
    for secret in (b"hunter2", b"aHVudGVyMg", master.hex().encode()):
        assert secret not in stored
    assert keys.fingerprint(master).encode() in stored


async def _check_by_hand(world: World, binary: Path, directory: str, snapshot: str) -> None:
    manifest = await world.manifest()
    target = world.path / "by-hand"
    repository = manifest.objects.directory.removeprefix("repositories/")
    where = str(target / "objects")
    await restic(
        binary, world, repository, "restore", manifest.objects.snapshot_id, "--target", where
    )
    tree = target / "objects/resources"
    found = {str(path.relative_to(tree)) for path in tree.rglob("*.json")}
    ns = world.workload
    assert found >= {
        f"namespaces/cluster/{ns}.json",
        f"pods/namespaces/{ns}/pod-db.json",
        f"pods/namespaces/{ns}/pod-web.json",
        f"persistentvolumeclaims/namespaces/{ns}/db.json",
        f"persistentvolumes/cluster/pv-{ns}-db.json",
        f"secrets/namespaces/{ns}/credentials.json",
        f"configmaps/namespaces/{ns}/settings.json",
    }
    assert len(found) == manifest.objects.count
    assert not any("ararat.dev" in name or name.startswith("events") for name in found)
    served: dict[str, Any] = await world.api.get(SECRETS, "credentials", namespace=ns)
    served["metadata"].pop("managedFields", None)
    assert json.loads((tree / f"secrets/namespaces/{ns}/credentials.json").read_text()) == served

    where = str(target / "db")
    await restic(
        binary,
        world,
        directory.removeprefix("repositories/"),
        "restore",
        snapshot,
        "--target",
        where,
    )
    expected = world.volumes["pod-db"].files
    assert {name: (target / "db" / name).read_bytes() for name in expected} == expected


async def test_a_job_that_fails_costs_only_its_volume(world: World) -> None:
    await world.workload_of("bad", "good", bad=Volume(fail="NotMounted"))
    async with world.running():
        await world.backup()
        backup = await world.phase("PartiallyFailed")
        backup = await world.settled()
    assert backup.status.coverage is not None
    assert backup.status.coverage.text == "1 backed up, 1 failed"
    assert [(f.object, f.reason, f.message) for f in backup.status.failures] == [
        (f"{world.workload}/pod-bad/data", "NotMounted", "NotMounted on purpose")
    ]
    assert backup.status.failure_count == 1
    assert backup.status.message == f"{world.workload}/pod-bad/data: NotMounted on purpose"
    manifest = await world.manifest()
    assert [v.restorable for v in manifest.volumes] == [False, True]
    assert manifest.volumes[0].snapshot_id is None


async def test_more_failures_than_status_has_room_for_are_kept_in_full(world: World) -> None:
    await world.workload_of("db")
    late = [f"late-{number:02}" for number in range(STATUS_LIMIT + 5)]
    for name in late:
        await world.pod(name, scratch=("tmp",), asked="tmp", running=False)
    async with world.running():
        await world.backup()
        await world.phase("PartiallyFailed")
        status = (await world.settled()).status
    assert (len(status.failures), status.failure_count) == (STATUS_LIMIT, len(late))
    assert status.coverage is not None
    assert status.coverage.text == f"1 backed up, {len(late)} failed"
    packed = (world.store_path / "backups/nightly/results.json.gz").read_bytes()
    told = json.loads(gzip.decompress(packed))["manifest"]["failures"]
    assert [(failure["object"], failure["reason"]) for failure in told] == [
        (f"{world.workload}/{name}/tmp", "PodNotRunning") for name in late
    ]
    # What was read can be restored for all that.
    assert [v.pod for v in (await world.manifest()).volumes if v.restorable] == ["pod-db"]


async def test_a_snapshot_that_is_not_there_is_a_failed_volume(world: World) -> None:
    """What an agent says is looked up before it is promised."""
    await world.workload_of("db", db=Volume(hold=asyncio.Event()))
    async with world.running():
        await world.backup()
        await world.phase("InProgress")
        job = await _first_job(world)
        raw = await world.api.get(JOBS, job, namespace=world.namespace)
        lie = {"phase": "Completed", "snapshotID": "ab" * 32}
        await patch_status(world.api, JOBS, raw, lie)
        backup = await world.phase("PartiallyFailed")
    assert [f.reason for f in backup.status.failures] == ["SnapshotMissing"]


async def _first_job(world: World) -> str:
    async def look() -> str | None:
        jobs = await world.jobs()
        return jobs[0].name if jobs and jobs[0].status.phase == "InProgress" else None

    return await eventually(look, what="a job is in progress")


async def test_a_backup_of_nothing_but_objects_and_of_none_of_these(world: World) -> None:
    async with world.running():
        await world.backup("objects")
        await world.backup("none", includedResources=["statefulsets"])
        objects = await world.phase("Completed", name="objects")
        none = await world.phase("Completed", name="none")
    assert objects.status.objects is not None
    assert objects.status.objects.count >= 1
    assert none.status.objects is not None
    assert none.status.objects.count == 0
    assert none.status.objects.snapshot_id


async def test_two_repositories_serve_all_backups(world: World) -> None:
    await world.workload_of("db")
    async with world.running():
        for name in ("one", "two"):
            await world.backup(name)
            await world.phase("Completed", name=name)
        found = await world.repositories()
    assert sorted((r.spec.kind, r.spec.namespace, r.status.phase) for r in found) == [
        ("Objects", None, "Ready"),
        ("Volumes", world.workload, "Ready"),
    ]
    one, two = await world.manifest("one"), await world.manifest("two")
    assert one.repositories == two.repositories
    assert one.objects.snapshot_id != two.objects.snapshot_id
    assert {r.status.directory for r in found} == {r.directory for r in one.repositories}
