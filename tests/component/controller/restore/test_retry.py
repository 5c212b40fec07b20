"""``ararat restore retry``: what failed goes on when its cause is mended, from wherever it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ararat.api.names import RETRY
from ararat.cli import runs
from ararat.cli.settings import Settings
from ararat.errors import InvalidSpec
from ararat.kube.resources import CONFIG_MAPS, NAMESPACES
from ararat.kube.status import patch_status
from controller.restore import reconcile
from tests.component.controller.restore.scene import data, database, ended, job_of
from tests.component.controller.restore.world import World, until

_LABELLED = """
version: v1
resourceModifierRules:
  - conditions: {groupResource: configmaps}
    mergePatches: [{patchData: '{"metadata": {"labels": {"tried": "twice"}}}'}]
"""


async def retry(world: World, name: str = "r1") -> None:
    """As a person does."""
    settings = Settings(namespace=world.namespace, kubeconfig=str(world.plane.kubeconfig))
    await asyncio.to_thread(runs.retry, settings, name)


async def ended_again(world: World, phase: str) -> dict[str, Any]:
    """The status with which it has ended after the retry: that is taken up first."""

    async def over() -> Any:
        raw = await world.raw_restore()
        left = RETRY in (raw["metadata"].get("annotations") or {})
        return raw["status"] if raw["status"].get("completionTime") and not left else None

    status: dict[str, Any] = await until(over, what=f"it to be {phase} again")
    assert status["phase"] == phase, status
    return status


async def test_one_that_could_not_begin_begins_anew(world: World) -> None:
    await world.backup(*database(world))
    await world.restore(resourceModifiers="rules")
    status = await ended(world, "Failed")
    assert "there is no ConfigMap" in status["message"]
    await retry(world)
    status = await ended_again(world, "Failed")
    assert "there is no ConfigMap" in status["message"]
    rules = {"metadata": {"name": "rules"}, "data": {"rules.yaml": _LABELLED}}
    await world.api.create(CONFIG_MAPS, rules, namespace=world.namespace)
    await retry(world)
    status = await ended_again(world, "Completed")
    assert status["objects"]["failed"] == 0
    settings = await world.api.get(CONFIG_MAPS, "settings", namespace=world.wp)
    assert settings["metadata"]["labels"]["tried"] == "twice"
    with pytest.raises(InvalidSpec, match="is Completed"):
        await retry(world)


async def test_one_that_had_begun_goes_on_where_it_was(world: World) -> None:
    """Something that no waiting mends, in the middle."""
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="pod db-0")

    async def objects_done() -> bool:
        return bool((await world.status()).get("objectsDone"))

    await until(objects_done, what="the objects")
    await world.kill_controller()
    manifest = world.store_path / "backups/b1/manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole.replace("Completed", "PartiallyFailed"))
    world.start_controller()
    status = await ended(world, "PartiallyFailed")
    (failure,) = status["failures"]
    assert "HMAC" in failure["message"]
    assert "to go on: ararat restore retry r1" in failure["message"]
    await retry(world)
    status = await ended_again(world, "PartiallyFailed")
    assert len(status["failures"]) == 1
    # Nobody starts on nothing meanwhile.
    assert (
        "ararat.dev/restore-pending" in (await world.claim("data-db-0"))["metadata"]["annotations"]
    )
    manifest.write_text(whole)
    await retry(world)
    await world.schedule("db-0")
    await world.set_job(await job_of(world, "db-0"), phase="Completed")
    status = await ended_again(world, "Completed")
    assert status["failures"] == []
    assert "annotations" not in (await world.claim("data-db-0"))["metadata"]


async def test_a_namespace_that_does_not_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waited for until the deadline, and from the beginning again when somebody has seen to it."""
    monkeypatch.setattr(reconcile, "TERMINATING_SECONDS", 3.0)
    monkeypatch.setattr(reconcile, "_TERMINATING_PAUSE", 0.2)
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    await world.api.delete(NAMESPACES, world.wp)
    raw = await world.api.get(NAMESPACES, world.wp)
    why = "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource"
    condition = {
        "type": "NamespaceFinalizersRemaining",
        "status": "True",
        "reason": "SomeFinalizersRemain",
        "message": why,
    }
    # The words of a real namespace controller; there is none here.
    await patch_status(world.api, NAMESPACES, raw, {"conditions": [condition]})
    await world.backup(*database(world))
    await world.restore()
    status = await ended(world, "Failed")
    assert f"namespace {world.wp} is still being deleted: {why}" in status["message"]
    assert "ararat restore retry r1" in status["message"]
    conditions = {c["type"]: c["reason"] for c in status["conditions"]}
    assert conditions["Succeeded"] == "NamespaceTerminating"
    monkeypatch.setattr(reconcile, "TERMINATING_SECONDS", 600.0)
    await retry(world)

    async def waits_again() -> Any:
        return (await world.status()).get("waiting")

    await until(waits_again, what="it to wait again")
    raw = await world.api.get(NAMESPACES, world.wp)
    raw["spec"]["finalizers"] = []
    await world.api.replace(NAMESPACES, world.wp, raw, subresource="finalize")
    await ended_again(world, "Completed")
