"""The webhooks, called by a real API server over TLS with our own certificates."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from ararat.api import PodVolumeRestore
from ararat.api.names import RESTORING
from ararat.api.nodejob import JobPhase, Role
from ararat.api.restore import ReleaseAction
from ararat.cli import release as releasing
from ararat.cli.settings import Settings
from ararat.errors import NotFound
from ararat.gate import is_gated
from ararat.kube import KubeApi
from ararat.kube.errors import ApiError, ApiUnavailable, Forbidden
from ararat.kube.resources import (
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    PVCS,
    SECRETS,
    VALIDATING_WEBHOOKS,
)
from controller.certificates import (
    CertificateKeeper,
    Certificates,
    ServerCertificate,
    ensured,
)
from controller.restore.probe import CONFIGURATION, NotHeld, prove_held
from controller.restore.webhook import Webhook, configurations, serve_webhooks
from tests.cluster.process import free_port
from tests.component.controller.restore.scene import data, database, ended, job_of
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim as stored_claim
from tests.unit.controller.restore.make import pod_spec


class Served:
    """The server, and the namespace that is being restored."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        port: int,
        keeper: CertificateKeeper,
        certificate: ServerCertificate,
    ) -> None:
        self.api = api
        self.namespace = namespace
        self.port = port
        self.keeper = keeper
        self.certificate = certificate

    async def claim(self, name: str, *, pending: str | None) -> None:
        annotations = {"ararat.dev/restore-pending": pending} if pending else {}
        await self.api.create(
            PVCS,
            {
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "annotations": annotations,
                    "labels": {
                        "ararat.dev/restore": "r1",
                        "ararat.dev/restore-uid": pending or "filled",
                    },
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


def aged_certificates() -> Certificates:
    """A CA in its last year, and a server certificate in its last two months."""
    now = datetime.now(UTC)
    first = ensured(None, names=["localhost"], now=now - timedelta(days=3300))
    return ensured(first, names=["localhost"], now=now - timedelta(days=310))


@pytest.fixture
def aged(request: pytest.FixtureRequest) -> bool:
    """Whether what it is served with is to be renewed."""
    return bool(getattr(request, "param", False))


@pytest.fixture
async def served(world: World, api: KubeApi, *, aged: bool) -> AsyncIterator[Served]:
    service, port = "hooks", free_port()
    namespace = f"hooked-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, {"metadata": {"name": namespace, "labels": {RESTORING: "r1"}}})
    keeper = CertificateKeeper(api, namespace=world.namespace, service=service, names=["localhost"])
    have = aged_certificates() if aged else None
    if have is not None:
        secret = {"metadata": {"name": "ararat-webhook-tls"}, "data": have.to_data()}
        await api.create(SECRETS, secret, namespace=world.namespace)
    for rt, body in zip(
        (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS),
        configurations(name=CONFIGURATION, namespace=world.namespace, service=service),
        strict=True,
    ):
        for webhook in body["webhooks"]:
            # No service network here: the same server, reached at its address.
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://localhost:{port}{path}"}
            if have is not None:
                bundle = base64.b64encode(have.ca_bundle).decode()
                webhook["clientConfig"]["caBundle"] = bundle
        await api.create(rt, body)
    if have is None:
        certificates = await keeper.ensure()
        assert certificates.ca_bundle
    certificate = ServerCertificate(api, namespace=world.namespace)
    hook = Webhook(api, namespace=world.namespace, gate_image="ararat-agent:test")
    serving = asyncio.create_task(serve_webhooks(hook, certificate, port=port))
    try:
        yield Served(api, namespace, port, keeper, certificate)
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


@pytest.mark.parametrize("aged", [True], indirect=True)
async def test_certificates_are_renewed_while_pods_are_held(world: World, served: Served) -> None:
    """With another CA: first the API server trusts both, then each replica gets the new one."""

    async def presented() -> x509.Certificate:
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("localhost", served.port))
        return x509.load_pem_x509_certificate(pem.encode())

    await world.kill_controller()
    await served.claim("pending", pending="u")
    await held(served, "pending", "u")
    old = await presented()
    renewed = await served.keeper.ensure()
    assert len(x509.load_pem_x509_certificates(renewed.ca_bundle)) == 2
    assert renewed.server() != old
    for rt in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        found = await served.api.get(rt, CONFIGURATION)
        for webhook in found["webhooks"]:
            assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == renewed.ca_bundle
    assert await presented() == old
    assert is_gated(await served.pod("pending"))
    assert await served.certificate.refresh()
    assert await presented() == renewed.server()
    assert is_gated(await served.pod("pending"))
    assert (await served.keeper.ensure()) == renewed


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
    others = {
        "metadata": {"name": "theirs", "namespace": served.namespace},
        "spec": stored_claim(volume=None).body["spec"],
    }
    with pytest.raises(ApiUnavailable, match=r"claims\.ararat\.dev"):
        await served.api.create(PVCS, others)

    # The way out that is documented, for whoever cannot wait.
    patch = {"metadata": {"labels": {RESTORING: None}}}
    await served.api.patch(NAMESPACES, served.namespace, patch)

    async def let_through() -> bool:
        try:
            return not is_gated(await served.pod("pending"))
        except ApiUnavailable:
            return False

    await until(let_through, what="pods to be let through")
    await served.api.create(PVCS, others)


async def lose_claim(world: World, name: str) -> None:
    """With everything that would bring it back in time: its pod, and who protects it."""
    await world.api.delete(PVCS, name, namespace=world.wp)
    patch = {"metadata": {"finalizers": None}}
    with contextlib.suppress(NotFound):
        await world.api.patch(PVCS, name, patch, namespace=world.wp)


async def make_claim(world: World, name: str) -> dict[str, Any]:
    """As its owner makes it again: it knows nothing of a restore."""
    claim = stored_claim(volume=None)
    body = {"metadata": {"name": name, "labels": {"app": "db"}}, "spec": claim.body["spec"]}
    return await world.api.create(PVCS, body, namespace=world.wp)


async def waits_for(world: World, reason: str) -> None:
    async def told() -> bool:
        waiting = (await world.status()).get("waiting") or []
        return [cause["reason"] for cause in waiting] == [reason]

    await until(told, what=f"the restore to say {reason}")


async def test_a_claim_that_was_lost_on_its_way_and_is_made_again_is_filled(
    world: World, served: Served
) -> None:
    """Its node went for good, and its volume with it; the StatefulSet makes pod and claim anew."""
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    uid = await world.restore_uid()

    async def objects_done() -> bool:
        return bool((await world.status()).get("objectsDone"))

    await until(objects_done, what="the objects")
    await world.schedule("db-0")
    first = await job_of(world, "db-0")
    await world.set_job(first, phase="InProgress", wrote=True)
    await world.api.delete(PODS, f"agent-{world.node}", namespace=world.namespace, grace_seconds=0)
    await world.remove_pod("db-0")
    await lose_claim(world, "data-db-0")
    await waits_for(world, "ClaimGone")

    async def abandoned() -> bool:
        (job,) = await world.jobs()
        return (job.status.phase, job.status.reason) == (JobPhase.CANCELLED, "NodeGone")

    await until(abandoned, what="the job on the lost node to be abandoned")
    again = await make_claim(world, "data-db-0")
    assert again["metadata"]["annotations"]["ararat.dev/restore-pending"] == uid
    assert again["metadata"]["labels"] == {
        "app": "db",
        "ararat.dev/restore": "r1",
        "ararat.dev/restore-uid": uid,
    }
    body = {
        "metadata": {"name": "db-0", "namespace": world.wp},
        "spec": pod_spec(claims={"data": "data-db-0"}),
    }
    assert is_gated(await world.api.create(PODS, body))
    await world.add_agent("other-node")
    await world.schedule("db-0", node="other-node")

    async def filled() -> PodVolumeRestore | None:
        return next((job for job in await world.jobs() if job.spec.node == "other-node"), None)

    second: PodVolumeRestore = await until(filled, what="a job for the new claim")
    assert second.spec.claim is not None
    assert second.spec.claim.uid == again["metadata"]["uid"]
    assert (second.spec.role, second.spec.takes_over) == (Role.FILL, None)
    await world.set_job(second, phase="Completed")
    await ended(world, "Completed")

    # What was filled once is not owed any more, while others still are.
    patch = {"metadata": {"labels": {RESTORING: "r1"}}}
    await world.api.patch(NAMESPACES, world.wp, patch)
    await lose_claim(world, "data-db-0")
    assert "annotations" not in (await make_claim(world, "data-db-0"))["metadata"]


async def test_a_claim_that_is_lost_can_be_given_up(world: World, served: Served) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore(gate={"noProgressSeconds": 60})
    await until(lambda: world.claim("data-db-0"), what="the claim")
    await world.remove_pod("db-0")
    await lose_claim(world, "data-db-0")
    await waits_for(world, "ClaimGone")
    settings = Settings(namespace=world.namespace)
    held_back = await releasing.held_back(world.api, settings, "r1")
    assert held_back.volumes == {f"{world.wp}/data-db-0": "its claim was deleted"}
    await releasing.release(world.api, settings, held_back, volumes=[], action=ReleaseAction.START)
    status = await ended(world, "PartiallyFailed")
    assert [failure["reason"] for failure in status["failures"]] == ["Released"]
    assert status["volumes"]["text"] == "0 of 1 filled, 1 released"
    assert "annotations" not in (await make_claim(world, "data-db-0"))["metadata"]
