"""Every cause that keeps a volume from being filled is said: on the Restore, and on the pod."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api.base import utcnow
from ararat.api.nodejob import STALLED
from ararat.kube.resources import EVENTS, NAMESPACES, PODS, PVCS, RESOURCE_QUOTAS
from ararat.kube.status import patch_status
from controller.restore import filling, helpers, reconcile, waiting
from tests.component.controller.restore.scene import data, database, job_of, moved
from tests.component.controller.restore.world import World, until
from tests.containers import ended_state
from tests.unit.controller.restore.make import claim as stored_claim


async def restoring(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="pod db-0")


async def told(world: World, reason: str, words: str, *, on_pod: bool = True) -> None:
    """On the Restore with its condition; and as the pod's condition and Event."""

    async def said() -> Any:
        status = await world.status()
        causes = status.get("waiting") or []
        found = [c for c in causes if c["reason"] == reason and words in c["message"]]
        progressing = [c for c in status.get("conditions") or [] if c["type"] == "Progressing"]
        return found and progressing[0]["reason"] == reason and progressing[0]["status"] == "False"

    await until(said, seconds=75, what=f"{reason} ({words}) on the restore")
    if not on_pod:
        return

    async def on_the_pod() -> Any:
        conditions = (await world.pod("db-0"))["status"].get("conditions") or []
        mine = [c for c in conditions if c["type"] == "ararat.dev/volumes-restored"]
        return mine and mine[0]["reason"] == reason and words in mine[0]["message"]

    await until(on_the_pod, seconds=30, what=f"{reason} on the pod")

    async def event() -> Any:
        events = world.api.list(EVENTS, namespace=world.wp)
        return [
            e async for e in events if e["reason"] == "RestoreWaiting" and words in e["message"]
        ]

    await until(event, seconds=30, what=f"an event about {words}")


async def warn(world: World, kind: str, name: str, reason: str, message: str) -> None:
    await world.api.create(
        EVENTS,
        {
            "metadata": {"name": f"{name}.{reason.lower()}", "namespace": world.wp},
            "involvedObject": {"kind": kind, "name": name, "namespace": world.wp},
            "reason": reason,
            "message": message,
            "type": "Warning",
            "source": {"component": "somebody"},
        },
    )


async def unscheduled(world: World, message: str) -> None:
    """The scheduler's word."""
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    raw = await world.pod("db-0")
    await patch_status(world.api, PODS, raw, {"phase": "Pending", "conditions": [condition]})


async def test_pods_that_cannot_be_scheduled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_EVENTS_SECONDS", 1.0)
    monkeypatch.setattr(reconcile, "IDLE_SECONDS", 1.0)
    await restoring(world)
    await unscheduled(world, "0/2 nodes are available: 2 Insufficient memory.")
    await told(world, "Unschedulable", "2 Insufficient memory")
    await unscheduled(world, "0/2 nodes are available: 2 pod has unbound PersistentVolumeClaims.")
    await told(world, "ClaimUnbound", "unbound PersistentVolumeClaims")
    await warn(world, "PersistentVolumeClaim", "data-db-0", "ProvisioningFailed", "no capacity")
    await told(world, "ClaimUnbound", "no capacity")
    patch = {"spec": {"volumeName": "pv-in-zone-b"}}
    await world.api.patch(PVCS, "data-db-0", patch, namespace=world.wp)
    await unscheduled(
        world, "0/2 nodes are available: 2 node(s) had volume node affinity conflict."
    )
    await told(world, "WrongZone", "2 node(s) had volume node affinity conflict")
    monkeypatch.setattr(waiting, "_STARTING", 0.0)
    await world.schedule("db-0")
    await world.set_gate("db-0", {"waiting": {"reason": "PodInitializing"}})
    await warn(world, "Pod", "db-0", "FailedAttachVolume", "Multi-Attach error for volume x")
    await told(world, "PodStarting", "Multi-Attach error for volume x")


async def test_agents_that_do_not_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready, and takes no job; takes it, and says nothing; says that it stands; keeps ending."""
    monkeypatch.setattr(reconcile, "IDLE_SECONDS", 1.0)
    monkeypatch.setattr(waiting, "_PICKING_UP", 1.0)
    monkeypatch.setattr(waiting, "_SILENCE", 3.0)
    await restoring(world)
    await world.schedule("db-0")
    await told(world, "Queued", f"the agent on node {world.node} has not taken the job yet")
    job = await job_of(world, "db-0")
    await world.set_job(job, phase="InProgress", heartbeatTime=utcnow().isoformat())
    await told(world, "AgentSilent", f"has said nothing about node job {job.name}")
    monkeypatch.setattr(waiting, "_SILENCE", 600.0)
    await world.set_job(job, reason=STALLED, message="the store does not answer")
    await told(world, STALLED, "the store does not answer")
    await world.set_job(job, reason=None, message=None)

    async def moves() -> Any:
        status = await world.status()
        return not status.get("waiting") and status["message"] == "filling 1 volume"

    await until(moves, what="the cause to go")
    agent = await world.api.get(PODS, f"agent-{world.node}", namespace=world.namespace)
    dies = {
        "name": "agent",
        "image": "x",
        "imageID": "",
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": ended_state(137, reason="OOMKilled"),
    }
    conditions = [{"type": "Ready", "status": "False"}]
    status = {"conditions": conditions, "containerStatuses": [dies]}
    await patch_status(world.api, PODS, agent, status)
    await told(world, "NoAgent", "keeps ending: exit code 137, OOMKilled")


async def test_the_gates_image_cannot_be_pulled(world: World) -> None:
    await restoring(world)
    await world.schedule("db-0")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image x"}}
    await world.set_gate("db-0", waiting)
    await told(world, "GateCannotStart", "ImagePullBackOff: no such image x")


async def test_a_node_without_an_agent(world: World) -> None:
    await restoring(world)
    await world.schedule("db-0", node="bare-node")
    await told(world, "NoAgent", "the agent on node bare-node does not exist")


async def test_a_quota_that_lets_no_pod_be_made(world: World) -> None:
    await restoring(world)
    await world.remove_pod("db-0")
    refused = 'pods "db-0" is forbidden: exceeded quota: small'
    await warn(world, "StatefulSet", "db", "FailedCreate", refused)
    await told(world, "PodRefused", "exceeded quota: small", on_pod=False)
    await told_on_claim(world, "exceeded quota: small")


async def test_a_quota_that_leaves_no_room_for_a_pod_of_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that no pod mounts, in a namespace that is full: by the server's own admission."""
    monkeypatch.setattr(helpers, "LONELY_SECONDS", 0.5)
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    spec = {"hard": {"pods": "0"}}
    body = {"metadata": {"name": "small", "namespace": world.wp}, "spec": spec}
    quota = await world.api.create(RESOURCE_QUOTAS, body)
    await patch_status(world.api, RESOURCE_QUOTAS, quota, {**spec, "used": {"pods": "0"}})
    await world.backup(moved(stored_claim(), world.wp), volumes=[data(world)])
    await world.restore()
    await told(world, "PodRefused", "exceeded quota: small", on_pod=False)
    await told_on_claim(world, "exceeded quota: small")


async def told_on_claim(world: World, words: str) -> None:
    async def event() -> Any:
        events = world.api.list(EVENTS, namespace=world.wp)
        return [
            e
            async for e in events
            if e["involvedObject"]["kind"] == "PersistentVolumeClaim"
            and e["reason"] == "RestoreWaiting"
            and words in e["message"]
        ]

    await until(event, seconds=30, what="an event on the claim")
