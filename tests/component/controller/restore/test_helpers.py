"""Claims that no pod mounts, against a real API server."""

from __future__ import annotations

import functools
from typing import Any

from ararat.api.nodejob import RestoreMode, Role
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import NAMESPACES, PODS, PVCS
from ararat.kube.status import patch_status
from tests.component.controller.restore.scene import data, ended, job_of, moved
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim as stored_claim


async def helper(world: World) -> Any:
    """The pod of ours, once there is one."""
    pods = world.api.list(PODS, namespace=world.wp, labels="ararat.dev/helper=true")
    return next(iter([pod async for pod in pods]), None)


async def gone(world: World, name: str) -> bool:
    try:
        pod = await world.pod(name)
    except ApiNotFound:
        return True
    # Nobody plays the kubelet's part of ending it.
    return bool(pod["metadata"].get("deletionTimestamp"))


async def test_a_claim_that_no_pod_mounts_is_filled(world: World) -> None:
    await world.backup(moved(stored_claim(), world.wp), volumes=[data(world)])
    await world.restore()
    pod = await until(lambda: helper(world), seconds=60, what="a helper pod")
    name = pod["metadata"]["name"]
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["restore-wait"]
    await world.schedule(name)
    job = await job_of(world, name)
    assert (job.spec.role, job.spec.claim and job.spec.claim.name) == (Role.FILL, "data-db-0")
    await world.kill_controller()
    await world.set_job(job, phase="Completed")
    world.start_controller()
    world.queue.add(f"{world.namespace}/r1")
    status = await ended(world, "Completed")
    assert status["volumes"]["text"] == "1 of 1 filled"
    await until(functools.partial(gone, world, name), what="the helper to go")
    assert "annotations" not in (await world.claim("data-db-0"))["metadata"]


async def test_in_place_without_a_pod(world: World) -> None:
    await world.backup(moved(stored_claim(), world.wp), volumes=[data(world)])
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    claim = moved(stored_claim(volume=None), world.wp).body
    await world.api.create(
        PVCS, {"metadata": {"name": "data-db-0", "namespace": world.wp}, "spec": claim["spec"]}
    )
    await world.restore(volumes={"mode": "InPlace"})
    pod = await until(lambda: helper(world), seconds=60, what="a helper pod")
    name = pod["metadata"]["name"]
    assert "initContainers" not in pod["spec"]
    await world.schedule(name)
    await patch_status(world.api, PODS, await world.pod(name), {"phase": "Running"})
    job = await job_of(world, name)
    assert job.spec.mode is RestoreMode.IN_PLACE
    await world.set_job(job, phase="Completed")
    await ended(world, "Completed")
    await until(functools.partial(gone, world, name), what="the helper to go")
