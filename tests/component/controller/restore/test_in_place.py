"""Restores into claims that exist, against a real API server."""

from __future__ import annotations

from typing import Any

from ararat.api.nodejob import RestoreMode
from ararat.kube.resources import NAMESPACES, PODS, PVCS
from ararat.kube.status import patch_status
from tests.component.controller.restore.scene import data, database, ended, job_of, moved
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim as stored_claim

IN_PLACE = {"mode": "InPlace", "include": [], "paths": ["sub/dir"], "deleteExtra": True}


async def standing(world: World, *, pod: bool = True) -> dict[str, Any]:
    """The database as it runs now; its pod."""
    await world.backup(*database(world), volumes=[data(world)])
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    claim = moved(stored_claim(volume=None), world.wp).body
    await world.api.create(
        PVCS, {"metadata": {"name": "data-db-0", "namespace": world.wp}, "spec": claim["spec"]}
    )
    return await run_pod(world) if pod else {}


async def run_pod(world: World) -> dict[str, Any]:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}
    mounts = [{"name": "data", "mountPath": "/data"}]
    raw = await world.api.create(
        PODS,
        {
            "metadata": {"name": "db-0", "namespace": world.wp},
            "spec": {
                "nodeName": world.node,
                "volumes": [volume],
                "containers": [{"name": "app", "image": "x", "volumeMounts": mounts}],
            },
        },
    )
    return await patch_status(world.api, PODS, raw, {"phase": "Running"})


async def test_into_the_claim_of_a_running_pod(world: World) -> None:
    pod = await standing(world)
    volumes = {**IN_PLACE, "include": [f"{world.wp}/data-*"]}
    await world.restore(volumes=volumes)
    job = await job_of(world, "db-0")
    assert job.spec.mode is RestoreMode.IN_PLACE
    assert (job.spec.paths, job.spec.delete_extra) == (["sub/dir"], True)
    assert (job.spec.pod.uid, job.spec.volume) == (pod["metadata"]["uid"], "data")
    claim = await world.claim("data-db-0")
    assert "annotations" not in claim["metadata"]
    await world.kill_controller()
    world.start_controller()
    await world.set_job(job, phase="Completed")
    status = await ended(world, "Completed")
    assert status["volumes"]["text"] == "1 of 1 filled"
    assert "objects" not in status
    assert len(await world.jobs()) == 1
    namespace = await world.api.get(NAMESPACES, world.wp)
    assert "ararat.dev/restoring" not in (namespace["metadata"].get("labels") or {})
    assert "initContainers" not in (await world.pod("db-0"))["spec"]


async def test_a_pod_that_ends_meanwhile_gives_way_to_the_next(world: World) -> None:
    await standing(world)
    await world.restore(volumes={"mode": "InPlace"})
    job = await job_of(world, "db-0")
    await world.remove_pod("db-0")
    await world.set_job(job, phase="Failed", reason="PodTerminating", message="gone", wrote=True)

    async def waits() -> Any:
        causes = (await world.status()).get("waiting") or []
        return [cause for cause in causes if cause["reason"] == "NoPod"]

    await until(waits, what="the cause")
    await run_pod(world)
    again = await job_of(world, "db-0", besides=0)
    again = next(j for j in await until(lambda: _two(world)) if j.name != job.name)
    assert again.spec.takes_over is None
    await world.set_job(again, phase="Completed")
    await ended(world, "Completed")


async def _two(world: World) -> Any:
    jobs = await world.jobs()
    return jobs if len(jobs) == 2 else None


async def test_what_cannot_be_meant(world: World) -> None:
    await standing(world)
    await world.restore(volumes={"mode": "InPlace", "include": [f"{world.wp}/nope"]})
    status = await ended(world, "Failed")
    assert "no data of a claim" in status["message"]
    await world.api.delete(PVCS, "data-db-0", namespace=world.wp)
    await world.restore("r2", volumes={"mode": "InPlace"}, namespaceMapping={world.wp: world.other})
    status = await ended(world, "PartiallyFailed", "r2")
    assert [f["reason"] for f in status["failures"]] == ["ClaimNotFound"]
