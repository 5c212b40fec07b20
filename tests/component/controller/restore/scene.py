"""What most tests of restores restore: a database with one volume; and how they look at it."""

from __future__ import annotations

from typing import Any

from ararat.api import PodVolumeRestore
from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.nodejob import BackupSummary, ClaimReference
from controller.restore.stored import StoredObject
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim as stored_claim
from tests.unit.controller.restore.make import pod as stored_pod
from tests.unit.controller.restore.make import stored


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


async def ended(world: World, phase: str, name: str = "r1") -> dict[str, Any]:
    async def look() -> Any:
        status = await world.status(name)
        if status.get("completionTime"):
            assert status["phase"] == phase, status
            return status
        return None

    status: dict[str, Any] = await until(look, seconds=60, what=f"{name} to be {phase}")
    return status


async def job_of(world: World, pod: str, *, besides: int = 0) -> PodVolumeRestore:
    """The newest job of a pod, once it has more than ``besides``."""

    async def look() -> Any:
        jobs = [job for job in await world.jobs() if job.spec.pod.name == pod]
        return jobs if len(jobs) > besides else None

    jobs: list[PodVolumeRestore] = await until(look, seconds=60, what=f"a job for {pod}")
    return jobs[-1]
