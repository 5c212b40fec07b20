"""Restores against a real API server."""

from __future__ import annotations

from typing import Any

from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.nodejob import BackupSummary, ClaimReference
from ararat.kube.resources import NAMESPACES
from controller.restore.stored import StoredObject
from tests.unit.controller.restore.make import claim as stored_claim
from tests.unit.controller.restore.make import pod as stored_pod
from tests.unit.controller.restore.make import stored

from .world import World, until


def moved(obj: StoredObject, namespace: str) -> StoredObject:
    """The object as it was in another namespace."""
    metadata = {**obj.body["metadata"], "namespace": namespace}
    return StoredObject(obj.plural, obj.group, {**obj.body, "metadata": metadata})


def data(world: World, **fields: Any) -> ManifestVolume:
    return ManifestVolume(
        **{
            "namespace": world.wp,
            "pod": "db-0",
            "volume": "data",
            "volume_type": "persistentVolumeClaim",
            "claim": ClaimReference(name="data-db-0", uid="old"),
            "coverage": Coverage.BACKED_UP,
            "directory": world.directory,
            "snapshot_id": "5" * 64,
            "summary": BackupSummary(bytes_processed=1000, files_total=10),
            **fields,
        }
    )


def database(world: World) -> list[StoredObject]:
    return [
        moved(obj, world.wp)
        for obj in (
            stored_pod(claims={"data": "data-db-0"}, labels={"app": "db"}),
            stored_claim(),
            stored("ConfigMap", "settings", data={"a": "b"}),
            stored("Secret", "password", data={"password": "eA=="}, type="Opaque"),
            stored(
                "Service",
                "db",
                spec={"clusterIP": "10.9.9.9", "selector": {"app": "db"}, "ports": [{"port": 1}]},
            ),
            stored(
                "StatefulSet",
                "db",
                api_version="apps/v1",
                spec={
                    "serviceName": "db",
                    "replicas": 1,
                    "selector": {"matchLabels": {"app": "db"}},
                    "template": {
                        "metadata": {"labels": {"app": "db"}},
                        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
                    },
                },
            ),
        )
    ]


async def test_from_backup_to_running_pod(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()

    pod = await until(lambda: world.pod("db-0"), what="pod db-0")
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["restore-wait"]
    assert "nodeName" not in pod["spec"]
    claim = await world.claim("data-db-0")
    assert "ararat.dev/restore-pending" in claim["metadata"]["annotations"]
    namespace = await world.api.get(NAMESPACES, world.wp)
    assert namespace["metadata"]["labels"]["ararat.dev/restoring"] == "r1"

    async def in_volumes() -> Any:
        status = await world.status()
        return status if status.get("objectsDone") and status.get("volumes") else None

    status = await until(in_volumes, what="volumes stage")
    assert status["phase"] == "InProgress"
    assert status["objects"]["text"] == "7 created"
    assert await world.jobs() == []

    await world.schedule("db-0")
    (job,) = await until(world.jobs, what="a job")
    assert job.spec.to_dict() == {
        "restore": "r1",
        "restoreUID": (await world.restore_uid()),
        "node": world.node,
        "pod": {"namespace": world.wp, "name": "db-0", "uid": pod["metadata"]["uid"]},
        "volume": "data",
        "claim": {"name": "data-db-0", "uid": claim["metadata"]["uid"], "volumeName": ""},
        "repository": {
            "location": "default",
            "locationID": "loc-restore",
            "directory": world.directory,
            "keyID": "k",
            "passwordSecret": job.spec.repository.password_secret,
            "readOnly": True,
        },
        "snapshotID": "5" * 64,
        "role": "Fill",
        "expectedBytes": 1000,
        "expectedFiles": 10,
        "noProgressSeconds": 900,
        "cancel": False,
    }
    await world.set_job(
        job,
        phase="InProgress",
        progress={"bytesDone": 500, "filesDone": 5, "bytesPerSecond": 50},
    )

    async def half() -> Any:
        return (await world.status()).get("progress", {}).get("bytesDone") == 500

    await until(half, what="progress")
    await world.set_job(job, phase="Completed")

    async def over() -> Any:
        status = await world.status()
        return status if status.get("phase") == "Completed" else None

    status = await until(over, what="the end")
    assert status["volumes"] == {"total": 1, "completed": 1, "failed": 0, "text": "1 of 1 filled"}
    assert status["progress"]["text"] == "1000 B"
    assert status.get("failures", []) == []
    assert "annotations" not in (await world.claim("data-db-0"))["metadata"]
    namespace = await world.api.get(NAMESPACES, world.wp)
    assert "ararat.dev/restoring" not in namespace["metadata"]["labels"]

    async def let_go() -> Any:
        return not (await world.raw_restore())["metadata"].get("finalizers")

    await until(let_go, what="the finalizer to go")
