"""What a held pod says of itself, to the end: in its condition, in Events, in its gate."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api import Restore
from ararat.api.nodejob import Answer, ClaimReference, Role
from ararat.kube import of
from ararat.kube.resources import EVENTS
from controller.restore import reconcile
from tests.component.controller.restore.scene import data, database, ended, job_of, moved
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim as stored_claim
from tests.unit.controller.restore.make import pod as stored_pod


async def says(world: World, pod: str, status: str, reason: str) -> dict[str, Any]:
    """The pod's condition, once it is this."""

    async def look() -> Any:
        conditions = (await world.pod(pod))["status"].get("conditions") or []
        found = [c for c in conditions if c["type"] == "ararat.dev/volumes-restored"]
        now = [(c["status"], c["reason"]) for c in found]
        return found if now == [(status, reason)] else None

    (found,) = await until(look, seconds=60, what=f"{pod} to say {status} {reason}")
    return dict(found)


async def blocked(world: World, pod: str) -> list[str]:
    async def look() -> Any:
        return [
            e["message"]
            async for e in world.api.list(EVENTS, namespace=world.wp)
            if e["reason"] == "RestoreBlocked" and e["involvedObject"]["name"] == pod
        ]

    found: list[str] = await until(look, seconds=60, what=f"an Event on {pod}")
    return found


async def test_a_gate_that_opens_before_anybody_looks_and_one_long_after_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A readiness gate may name the condition: it must not stay False on a pod that goes on."""
    monkeypatch.setattr(reconcile, "IDLE_SECONDS", 1.0)
    objects = [
        moved(obj, world.wp)
        for name in ("fast", "late")
        for obj in (stored_pod(name, claims={"data": name}), stored_claim(name))
    ]
    volumes = [
        data(world, pod=name, claim=ClaimReference(name=name, uid="old"))
        for name in ("fast", "late")
    ]
    await world.backup(*objects, volumes=volumes)
    await world.restore(gate={"noProgressSeconds": 10})
    for name in ("fast", "late"):
        await until(lambda name=name: world.pod(name), what=name)  # type: ignore[misc]
    await world.schedule("fast")
    job = await job_of(world, "fast")
    await says(world, "fast", "False", "Restoring")
    await world.kill_controller()
    await world.set_job(job, phase="Completed")
    await world.pass_gate("fast", ready=True)
    world.start_controller()
    await says(world, "fast", "True", "Restored")
    # The other is not scheduled for as long as the restore waits, and then is after all.
    status = await ended(world, "PartiallyFailed")
    assert "nothing moved for 10 s" in status["message"]
    await says(world, "late", "False", "NoProgress")
    await world.schedule("late")
    job = await job_of(world, "late")
    await world.set_job(job, phase="Completed")
    await world.pass_gate("late", ready=True)
    await says(world, "late", "True", "Restored")

    async def filled() -> Any:
        return (await world.status())["message"] == "every volume was filled in the end"

    await until(filled, what="the restore to say so")


async def test_cancelled(world: World) -> None:
    """Whoever holds, holds with that reason: pods being filled, waiting, and scheduled later."""
    objects = [
        moved(obj, world.wp)
        for obj in (
            stored_pod("late", claims={"data": "late"}),
            stored_claim("late"),
            stored_pod("bare", empty=("scratch",)),
        )
    ]
    volumes = [
        data(world),
        data(world, pod="late", claim=ClaimReference(name="late", uid="old")),
        data(world, pod="bare", volume="scratch", volume_type="emptyDir", claim=None),
    ]
    await world.backup(*database(world), *objects, volumes=volumes)
    await world.restore()
    for name in ("db-0", "late", "bare"):
        await until(lambda name=name: world.pod(name), what=name)  # type: ignore[misc]
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    await world.set_job(job, phase="InProgress")
    await world.api.patch(of(Restore), "r1", {"spec": {"cancel": True}}, namespace=world.namespace)

    async def asked() -> Any:
        return (await job_of(world, "db-0")).spec.cancel

    await until(asked, what="the job to be told")
    assert (await world.status())["phase"] == "InProgress"
    await world.set_job(job, phase="Cancelled")
    status = await ended(world, "Cancelled")
    assert "held pods stay held" in status["message"]
    for name in ("db-0", "late", "bare"):
        found = await says(world, name, "False", "Cancelled")
        assert "ararat restore release r1" in found["message"]
        assert "restore r1 was cancelled" in (await blocked(world, name))[0]
    for claim in ("data-db-0", "late"):
        assert "ararat.dev/restore-pending" in (await world.claim(claim))["metadata"]["annotations"]
    # The gate of a pod that starts only now is answered, and holds.
    for name in ("late", "bare"):
        await world.schedule(name)
        answer = await job_of(world, name)
        assert (answer.spec.role, answer.spec.answer) == (Role.ANSWER, Answer.FAILED)
        assert "restore r1 was cancelled" in answer.spec.cause
        await world.set_job(answer, phase="Completed")
    assert len(await world.jobs()) == 3
