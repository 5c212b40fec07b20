"""Pods that nobody could hold, because they came too early, or the namespace lost its label."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api.names import RESTORING
from ararat.kube.resources import NAMESPACES, PODS, PVCS
from tests.component.controller.restore.scene import data, database, ended, job_of
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import pod_spec


async def make_pod(world: World, name: str) -> None:
    """By somebody who knows nothing of the restore; no webhook is there to hold it."""
    body = {
        "metadata": {"name": name, "namespace": world.wp},
        "spec": pod_spec(claims={"data": "data-db-0"}),
    }
    await world.api.create(PODS, body)


async def label(world: World) -> str | None:
    found = await world.api.get(NAMESPACES, world.wp)
    labels: dict[str, str] = found["metadata"].get("labels") or {}
    return labels.get(RESTORING)


async def names_the_pod(world: World, name: str) -> None:
    async def told() -> bool:
        failures = (await world.status()).get("failures") or []
        return [(f["object"], f["reason"]) for f in failures] == [
            (f"pod {world.wp}/{name}", "PodNotHeld")
        ]

    await until(told, what="the pod to be named")


async def test_a_namespace_that_loses_its_label(world: World) -> None:
    """As a tool does that keeps namespaces as it knows them."""
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="the pod")
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    assert await label(world) == "r1"
    await make_pod(world, "finished")
    finished: dict[str, Any] = {"status": {"phase": "Succeeded"}}
    await world.api.patch(PODS, "finished", finished, namespace=world.wp, subresource="status")
    await make_pod(world, "intruder")
    patch = {"metadata": {"labels": {RESTORING: None}}}
    await world.api.patch(NAMESPACES, world.wp, patch)

    async def back() -> bool:
        return await label(world) == "r1"

    await until(back, what="the label to be back")
    await names_the_pod(world, "intruder")
    await world.set_job(job, phase="Completed")
    status = await ended(world, "PartiallyFailed")
    assert status["volumes"]["text"] == "1 of 1 filled"
    assert any("had lost its label" in warning for warning in status["warnings"])
    assert await label(world) is None


async def test_a_pod_that_comes_between_plan_and_claim(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    create = world.api.create

    async def after_another(rt: Any, body: Any, **more: Any) -> dict[str, Any]:
        if rt == PVCS:
            await make_pod(world, "intruder")
        return await create(rt, body, **more)

    monkeypatch.setattr(world.api, "create", after_another)
    await world.restore()
    await until(lambda: world.pod("db-0"), what="the pod")
    await world.schedule("db-0")
    await world.set_job(await job_of(world, "db-0"), phase="Completed")
    await ended(world, "PartiallyFailed")
    await names_the_pod(world, "intruder")
