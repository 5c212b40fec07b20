"""The webhooks, called by a real API server over TLS with our own certificates."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ararat.api.names import RESTORING
from ararat.gate import is_gated
from ararat.kube import KubeApi
from ararat.kube.errors import ApiError, ApiUnavailable, Forbidden
from ararat.kube.resources import (
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    PVCS,
    VALIDATING_WEBHOOKS,
)
from controller.certificates import CertificateKeeper, ServerCertificate
from controller.restore.probe import CONFIGURATION, NotHeld, prove_held
from controller.restore.webhook import Webhook, configurations, serve_webhooks
from tests.cluster.process import free_port
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import pod_spec


class Served:
    """The server, and the namespace that is being restored."""

    def __init__(self, api: KubeApi, namespace: str, port: int) -> None:
        self.api = api
        self.namespace = namespace
        self.port = port

    async def claim(self, name: str, *, pending: str | None) -> None:
        annotations = {"ararat.dev/restore-pending": pending} if pending else {}
        await self.api.create(
            PVCS,
            {
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "annotations": annotations,
                    "labels": {"ararat.dev/restore": "r1"},
                },
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
        )

    async def pod(self, claim: str, **spec: Any) -> dict[str, Any]:
        return await self.api.create(
            PODS,
            {
                "metadata": {"generateName": "web-", "namespace": self.namespace},
                "spec": {**pod_spec(claims={"data": claim}), **spec},
            },
        )


@pytest.fixture
async def served(world: World, api: KubeApi) -> AsyncIterator[Served]:
    service, port = "hooks", free_port()
    namespace = f"hooked-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, {"metadata": {"name": namespace, "labels": {RESTORING: "r1"}}})
    keeper = CertificateKeeper(api, namespace=world.namespace, service=service, names=["localhost"])
    for rt, body in zip(
        (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS),
        configurations(name=CONFIGURATION, namespace=world.namespace, service=service),
        strict=True,
    ):
        for webhook in body["webhooks"]:
            # No service network here: the same server, reached at its address.
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://localhost:{port}{path}"}
        await api.create(rt, body)
    certificates = await keeper.ensure()
    assert certificates.ca_bundle
    certificate = ServerCertificate(api, namespace=world.namespace)
    hook = Webhook(api, namespace=world.namespace, gate_image="ararat-agent:test")
    serving = asyncio.create_task(serve_webhooks(hook, certificate, port=port))
    try:
        yield Served(api, namespace, port)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        for rt in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            await api.delete(rt, CONFIGURATION)
        await asyncio.sleep(1)  # until the API server has heard of it


async def held(served: Served, claim: str, uid: str) -> None:
    """The API server hears of new webhooks a moment late."""

    async def proven() -> bool:
        proof = await prove_held(
            served.api, {served.namespace: claim}, image="probe:1", restore_uid=uid
        )
        return proof.warnings == ()

    await until(proven, what="the webhook to be consulted")


async def test_pods_of_others_are_held_until_their_claim_is_filled(
    world: World, served: Served
) -> None:
    await world.kill_controller()
    await world.restore(gate={"noProgressSeconds": 77})
    uid = await world.restore_uid()
    await served.claim("pending", pending=uid)
    await served.claim("ready", pending=None)
    await held(served, "pending", uid)

    pod = await served.pod("pending")
    assert is_gated(pod)
    gate = pod["spec"]["initContainers"][0]
    assert gate["image"] == "ararat-agent:test"
    assert gate["args"][:8] == [
        *("--restore", "r1"),
        *("--restore-uid", uid),
        *("--volumes", "data"),
        *("--no-progress-seconds", "77"),
    ]
    assert pod["metadata"]["labels"]["ararat.dev/restore-uid"] == uid
    assert not is_gated(await served.pod("ready"))

    with pytest.raises(Forbidden, match="does not exist"):
        await served.pod("not-there")
    patch = {"metadata": {"annotations": {"ararat.dev/restore-pending": None}}}
    await served.api.patch(PVCS, "pending", patch, namespace=served.namespace)
    assert not is_gated(await served.pod("pending"))


async def test_the_restore_may_be_gone(world: World, served: Served) -> None:
    await world.kill_controller()
    await served.claim("orphaned", pending="a-restore-that-was-deleted")
    await held(served, "orphaned", "a-restore-that-was-deleted")
    gate = (await served.pod("orphaned"))["spec"]["initContainers"][0]
    assert gate["args"][:2] == ["--restore", "r1"]
    assert gate["args"][-2:] == ["--no-progress-seconds", "900"]


async def test_other_namespaces_are_never_asked_about(world: World, served: Served) -> None:
    await world.kill_controller()
    other = f"other-{uuid.uuid4().hex[:8]}"
    await served.api.create(NAMESPACES, {"metadata": {"name": other}})
    pod = await served.api.create(
        PODS,
        {
            "metadata": {"name": "p", "namespace": other},
            "spec": pod_spec(claims={"data": "no-such-claim"}),
        },
    )
    assert not is_gated(pod)


async def test_a_gate_that_another_webhook_removed(world: World, served: Served) -> None:
    """The validating webhook on its own: the mutating one is taken away."""
    await world.kill_controller()
    await served.claim("pending", pending="u")
    await held(served, "pending", "u")
    await served.api.delete(MUTATING_WEBHOOKS, CONFIGURATION)

    async def refused() -> bool:
        try:
            await served.pod("pending")
        except Forbidden as exc:
            return "restore-wait" in exc.message
        return False

    await until(refused, what="the pod to be refused")


async def test_a_dead_webhook_holds_everybody_back_there(world: World, served: Served) -> None:
    await world.kill_controller()
    await served.claim("pending", pending="u")
    await held(served, "pending", "u")
    found = await served.api.get(MUTATING_WEBHOOKS, CONFIGURATION)
    for webhook in found["webhooks"]:
        webhook["clientConfig"]["url"] = f"https://localhost:{free_port()}/nobody"
    await served.api.replace(MUTATING_WEBHOOKS, CONFIGURATION, found)

    async def refused() -> bool:
        try:
            await served.pod("pending")
        except ApiUnavailable:
            return True
        except ApiError:
            return False
        return False

    await until(refused, what="pods to be refused")

    async def no_sleep(_seconds: float) -> None:
        return

    with pytest.raises(NotHeld):
        await prove_held(
            served.api,
            {served.namespace: "pending"},
            image="probe:1",
            restore_uid="u",
            sleep=no_sleep,
        )
