"""Restores in place that take the claim's workloads to zero and back, against a real API server.

Nothing here makes pods for workloads or removes them: the test does, as a cluster would.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from ararat.api import Restore
from ararat.kube import of
from ararat.kube.resources import DEPLOYMENTS, PODS, STATEFUL_SETS
from ararat.kube.status import patch_status
from tests.component.controller.backup.kills import Killed, Killer
from tests.component.controller.restore.scene import ended
from tests.component.controller.restore.test_in_place import run_pod, standing
from tests.component.controller.restore.world import World, until

SCALED = {"mode": "InPlace", "scaleDown": True}
RESTORES = of(Restore)


async def workload(world: World, *, replicas: int = 1) -> dict[str, Any]:
    """The StatefulSet that made the claim, and its pod; a Deployment that has nothing to do."""
    await standing(world, pod=False)
    labels = {"matchLabels": {"app": "db"}}
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{"name": "app", "image": "x"}]},
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = await world.api.create(
        STATEFUL_SETS,
        {
            "metadata": {"name": "db", "namespace": world.wp},
            "spec": {
                "replicas": replicas,
                "serviceName": "db",
                "selector": labels,
                "template": template,
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            },
        },
    )
    await world.api.create(
        DEPLOYMENTS,
        {
            "metadata": {"name": "other", "namespace": world.wp},
            "spec": {"replicas": 2, "selector": labels, "template": template},
        },
    )
    await owned_pod(world, made)
    return made


async def owned_pod(world: World, owner: dict[str, Any]) -> None:
    pod = await run_pod(world)
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    patch = {"metadata": {"ownerReferences": [reference]}}
    await world.api.patch(PODS, pod["metadata"]["name"], patch, namespace=world.wp)


async def replicas(world: World) -> int:
    raw = await world.api.get(STATEFUL_SETS, "db", namespace=world.wp)
    return int(raw["spec"]["replicas"])


async def scaled_to(world: World, count: int) -> None:
    async def there() -> bool:
        return await replicas(world) == count

    await until(there, what=f"{count} replicas")


async def helper(world: World) -> Any:
    found = [
        pod async for pod in world.api.list(PODS, namespace=world.wp, labels="ararat.dev/helper")
    ]
    return found[0] if found else None


async def run_helper(world: World) -> None:
    """The kubelet starts it."""
    raw = await until(lambda: helper(world), what="the helper pod")
    await world.schedule(raw["metadata"]["name"])
    raw = await world.pod(raw["metadata"]["name"])
    await patch_status(world.api, PODS, raw, {"phase": "Running"})


async def cause(world: World, reason: str) -> dict[str, Any]:
    async def seen() -> Any:
        causes = (await world.status()).get("waiting") or []
        return next((c for c in causes if c["reason"] == reason), None)

    found: dict[str, Any] = await until(seen, what=reason)
    return found


async def unmarked(world: World) -> None:
    """Up again, nothing of ours is left, and what has nothing to do with it was left alone."""
    raw = await world.api.get(STATEFUL_SETS, "db", namespace=world.wp)
    assert "annotations" not in raw["metadata"]
    other = await world.api.get(DEPLOYMENTS, "other", namespace=world.wp)
    assert other["spec"]["replicas"] == 2


async def test_to_zero_and_back(world: World) -> None:
    await workload(world, replicas=3)
    await world.restore(volumes=SCALED)
    await scaled_to(world, 0)
    (recorded,) = (await world.status())["scaledDown"]
    assert (recorded["name"], recorded["replicas"]) == ("db", 3)
    assert "db-0" in (await cause(world, "ScalingDown"))["message"]
    assert await helper(world) is None
    assert await world.jobs() == []
    await world.remove_pod("db-0")
    await run_helper(world)
    (job,) = await until(world.jobs, what="a job")
    assert job.spec.pod.name != "db-0"
    assert await replicas(world) == 0
    await world.set_job(job, phase="Completed")
    status = await ended(world, "Completed")
    assert status.get("scaledDown", []) == []
    assert await replicas(world) == 3
    await unmarked(world)


async def test_what_cannot_be_scaled_is_not_touched(world: World) -> None:
    made = await workload(world)
    daemon = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", "uid": "d"}}
    await world.remove_pod("db-0")
    await owned_pod(world, daemon)
    await world.restore(volumes=SCALED)
    status = await ended(world, "PartiallyFailed")
    assert [f["reason"] for f in status["failures"]] == ["CannotScaleDown"]
    assert "belongs to DaemonSet d" in status["message"]
    assert await replicas(world) == 1
    assert made["metadata"]["generation"] == 1


@pytest.mark.parametrize("how", ["cancel", "delete", "fail"])
async def test_however_it_ends_it_is_scaled_up(world: World, how: str) -> None:
    await workload(world, replicas=2)
    await world.restore(volumes=SCALED)
    await scaled_to(world, 0)
    await world.remove_pod("db-0")
    await run_helper(world)
    (job,) = await until(world.jobs, what="a job")
    await world.kill_controller()
    if how == "cancel":
        await world.api.patch(RESTORES, "r1", {"spec": {"cancel": True}}, namespace=world.namespace)
    elif how == "delete":
        await world.api.delete(RESTORES, "r1", namespace=world.namespace)
    else:
        await world.set_job(job, phase="Failed", reason="Damaged", message="broken")
    world.start_controller()
    if how != "fail":

        async def cancelled() -> Any:
            return (await world.jobs())[0].spec.cancel

        await until(cancelled, what="the job to be cancelled")
        assert await replicas(world) == 0  # the agent may still write
        await world.set_job(job, phase="Cancelled")
    await scaled_to(world, 2)
    await unmarked(world)
    if how == "delete":

        async def gone() -> Any:
            found = world.api.list(RESTORES, namespace=world.namespace)
            return [raw async for raw in found] == []

        await until(gone, what="the Restore to go")
    else:
        await ended(world, {"cancel": "Cancelled", "fail": "PartiallyFailed"}[how])


async def test_what_somebody_scaled_meanwhile_stays(world: World) -> None:
    await workload(world, replicas=2)
    await world.restore(volumes=SCALED)
    await scaled_to(world, 0)
    await world.remove_pod("db-0")
    await run_helper(world)
    (job,) = await until(world.jobs, what="a job")
    await world.api.patch(STATEFUL_SETS, "db", {"spec": {"replicas": 5}}, namespace=world.wp)
    await world.set_job(job, phase="Completed")
    await ended(world, "Completed")
    assert await replicas(world) == 5
    await unmarked(world)


@pytest.mark.parametrize("seed", range(3))
async def test_a_killed_controller_forgets_no_workload(world: World, seed: int) -> None:
    """Ended in the middle of any call, from the first to the last, again and again."""
    chance = random.Random(f"scale-{seed}")
    await workload(world, replicas=3)
    whole = world.context
    await world.kill_controller()
    await world.restore(volumes=SCALED)
    for _ in range(8):
        killer = Killer(at=chance.randint(3, 25), after=chance.random() < 0.5)
        killed: Any = Killed(world.api, killer, what="api")
        world.context = dataclasses.replace(whole, api=killed)
        world.start_controller()

        async def over(killer: Killer = killer) -> Any:
            await _next_of_node(world)
            return killer.fired.is_set() or (await world.status()).get("completionTime")

        await until(over, seconds=60, what="the end, of the restore or the controller")
        await world.kill_controller()
    world.context = whole
    world.start_controller()

    async def up() -> Any:
        await _next_of_node(world)
        return (await world.status()).get("completionTime") and await replicas(world) == 3

    await until(up, seconds=60, what="the end, with three replicas")
    status = await ended(world, "Completed")
    assert status.get("scaledDown", []) == []
    await unmarked(world)
    assert len(await world.jobs()) == 1


async def _next_of_node(world: World) -> None:
    """What the cluster does next."""
    pods = {p["metadata"]["name"]: p async for p in world.api.list(PODS, namespace=world.wp)}
    if await replicas(world) == 0 and "db-0" in pods:
        assert await world.jobs() == [], "written to before the pod was gone"
        await world.remove_pod("db-0")
    for name, pod in pods.items():
        if "ararat.dev/helper" in pod["metadata"].get("labels", {}) and not pod["spec"].get(
            "nodeName"
        ):
            await world.schedule(name)
            await patch_status(world.api, PODS, await world.pod(name), {"phase": "Running"})
    for job in await world.jobs():
        if not job.status.phase.terminal:
            assert await replicas(world) == 0, "scaled up while it was written to"
            await world.set_job(job, phase="Completed")
