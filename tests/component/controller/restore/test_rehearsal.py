"""A dry run says what this cluster's admission would refuse, and makes nothing."""

from __future__ import annotations

from typing import Any

from ararat.errors import AraratError
from ararat.kube import ResourceType
from ararat.kube.resources import CONFIG_MAPS, NAMESPACES, RESOURCE_QUOTAS
from tests.component.controller.restore.scene import data, database, ended, moved
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import stored

WEBHOOKS = ResourceType(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)


async def quota(world: World) -> None:
    """No Service fits into the namespace."""
    body = {"metadata": {"name": "q", "namespace": world.wp}, "spec": {"hard": {"services": "0"}}}
    made = await world.api.create(RESOURCE_QUOTAS, body)
    # Nothing here counts what is used: the quota's controller would.
    status = {"status": {"hard": {"services": "0"}, "used": {"services": "0"}}}
    name = made["metadata"]["name"]
    await world.api.patch(RESOURCE_QUOTAS, name, status, namespace=world.wp, subresource="status")


async def silent_webhook(world: World) -> str:
    """One that must be asked about ConfigMaps of this test, and does not answer."""
    name = f"silent-{world.wp}"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    webhook = {
        "name": "silent.example.org",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:9/none"},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 1,
        "namespaceSelector": {"matchLabels": {"test": world.wp}},
    }
    await world.api.create(WEBHOOKS, {"metadata": {"name": name}, "webhooks": [webhook]})
    return name


async def test_what_would_be_refused(world: World) -> None:
    labels = {"test": world.wp}
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp, "labels": labels}})
    await quota(world)
    name = await silent_webhook(world)
    wrong = moved(stored("ConfigMap", "binary", data={"a b": "not a key"}), world.other)
    await world.api.create(NAMESPACES, {"metadata": {"name": world.other}})
    try:

        async def refused() -> Any:
            # The API server takes a moment to know its webhooks.
            body = {"metadata": {"name": "probe", "namespace": world.wp}}
            try:
                await world.api.create(CONFIG_MAPS, body, dry_run=True)
            except AraratError as exc:
                return "silent.example.org" in exc.message
            return False

        await until(refused, what="the webhook to be asked")
        await world.backup(*database(world), wrong, volumes=[data(world)])
        await world.restore(dryRun=True)
        status = await ended(world, "Completed")
    finally:
        await world.api.delete(WEBHOOKS, name)
    found = {failure["object"]: failure for failure in status["failures"]}
    assert {
        (key.replace(world.wp, "wp").replace(world.other, "other"), failure["reason"])
        for key, failure in found.items()
    } == {
        ("services wp/db", "Forbidden"),
        ("configmaps wp/settings", "WebhookFailing"),
        ("configmaps other/binary", "Invalid"),
    }
    assert "exceeded quota: q" in found[f"services {world.wp}/db"]["message"]
    assert "the API server was asked" not in str(status["warnings"])
    made = [obj async for obj in world.api.list(CONFIG_MAPS, namespace=world.other)]
    assert [obj["metadata"]["name"] for obj in made if obj["metadata"]["name"] == "binary"] == []


async def test_what_could_not_be_asked_is_said(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore(dryRun=True)
    status = await ended(world, "Completed")
    (said,) = [warning for warning in status["warnings"] if "was asked about" in warning]
    assert "asked about 1 of 7 objects to create (1 namespace not there yet)" in said
