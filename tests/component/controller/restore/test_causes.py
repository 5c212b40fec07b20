"""Every cause that keeps a volume from being filled is said: on the Restore, and on the pod."""

from __future__ import annotations

from typing import Any

from ararat.kube.resources import EVENTS, PODS
from ararat.kube.status import patch_status
from tests.component.controller.restore.scene import data, database
from tests.component.controller.restore.world import World, until


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


async def test_a_claim_that_nobody_provisions(world: World) -> None:
    await restoring(world)
    text = "0/2 nodes are available: 2 pod has unbound immediate PersistentVolumeClaims."
    condition = {"type": "PodScheduled", "status": "False", "message": text}
    raw = await world.pod("db-0")
    await patch_status(world.api, PODS, raw, {"phase": "Pending", "conditions": [condition]})
    await warn(world, "PersistentVolumeClaim", "data-db-0", "ProvisioningFailed", "no capacity")
    await told(world, "ClaimUnbound", "no capacity")


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
    await told(world, "NoPod", "exceeded quota: small", on_pod=False)
