"""Single objects against a real API server: what it refuses, and what that comes to."""

from __future__ import annotations

import asyncio
import base64
import uuid
from dataclasses import replace
from typing import Any

import pytest

from ararat.api.plan import Action
from ararat.kube import KubeApi, ResourceType
from ararat.kube.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    SERVICE_ACCOUNTS,
    SERVICES,
    VALIDATING_WEBHOOKS,
)
from controller.restore.create import Creator, Outcome
from controller.restore.plan import Item
from controller.restore.services import asked_node_ports
from controller.restore.stored import StoredObject
from controller.restore.transform import Target, prepare
from tests.unit.controller.restore.make import UID, stored


@pytest.fixture
async def namespace(api: KubeApi) -> str:
    name = f"create-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, {"metadata": {"name": name}})
    return name


async def no_sleep(_seconds: float) -> None:
    return


def creator(api: KubeApi, **fields: Any) -> Creator:
    return Creator(api, UID, sleep=no_sleep, **fields)


def item(obj: StoredObject, namespace: str) -> Item:
    metadata = {"name": obj.name, "namespace": namespace, "labels": dict(obj.labels)}
    body = {**obj.body, "metadata": metadata}
    return Item(stored=obj, action=Action.CREATE, name=obj.name, namespace=namespace, body=body)


OURS = {"ararat.dev/restore-uid": UID}


async def test_created_then_recognised(api: KubeApi, namespace: str) -> None:
    wanted = item(stored("ConfigMap", "c", labels=OURS, data={"a": "1"}), namespace)
    assert (await creator(api).create(wanted)).outcome is Outcome.CREATED
    assert (await creator(api).create(wanted)).outcome is Outcome.CREATED


async def test_of_somebody_else_is_left_alone_and_compared(api: KubeApi, namespace: str) -> None:
    theirs = item(stored("ConfigMap", "c", data={"a": "1"}), namespace)
    assert (await creator(api).create(theirs)).outcome is Outcome.CREATED
    ours = item(stored("ConfigMap", "c", labels=OURS, data={"a": "2"}), namespace)
    result = await creator(api).create(ours)
    assert result.outcome is Outcome.LEFT_ALONE
    assert result.differs == ("data.a",)
    same = item(stored("ConfigMap", "c", labels=OURS, data={"a": "1"}), namespace)
    assert (await creator(api).create(same)).differs == ()


async def test_an_account_that_the_cluster_made_is_added_to(api: KubeApi, namespace: str) -> None:
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": namespace}})
    wanted = item(
        stored("ServiceAccount", "default", imagePullSecrets=[{"name": "registry"}]), namespace
    )
    theirs = await creator(api).create(wanted)
    assert theirs.outcome is Outcome.LEFT_ALONE
    result = await creator(api, own_namespaces=frozenset({namespace})).create(wanted)
    assert (result.outcome, result.reason) == (Outcome.CREATED, "Merged")
    made = await api.get(SERVICE_ACCOUNTS, "default", namespace=namespace)
    assert made["imagePullSecrets"] == [{"name": "registry"}]


async def test_node_ports_that_are_taken(api: KubeApi, namespace: str) -> None:
    def service(name: str) -> StoredObject:
        return stored(
            "Service",
            name,
            spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 31234}]},
        )

    assert (await creator(api).create(item(service("one"), namespace))).warnings == ()
    result = await creator(api).create(item(service("two"), namespace))
    assert result.outcome is Outcome.CREATED
    assert len(result.warnings) == 1
    made = await api.get(SERVICES, "two", namespace=namespace)
    assert made["spec"]["ports"][0]["nodePort"] != 31234


async def test_another_version_of_the_same_kind(api: KubeApi, namespace: str) -> None:
    old = stored(
        "Role",
        "r",
        api_version="rbac.authorization.k8s.io/v1alpha9",
        rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    )
    served = {old.type.qualified: ResourceType("rbac.authorization.k8s.io", "v1", "roles", "Role")}
    result = await creator(api, served=served).create(item(old, namespace))
    assert result.outcome is Outcome.CREATED
    assert "rbac.authorization.k8s.io/v1 instead of" in result.warnings[0]


@pytest.mark.parametrize(("coming", "waits"), [(True, 8), (False, 0)])
async def test_a_kind_that_is_not_served_is_waited_for_once_if_the_restore_brings_it(
    api: KubeApi, namespace: str, *, coming: bool, waits: int
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    patient = replace(creator(api, coming=lambda _: coming), sleep=sleep)
    for name in ("a", "b"):
        result = await patient.create(
            item(stored("Gadget", name, api_version="nobody.example.org/v1"), namespace)
        )
        assert (result.outcome, result.reason) == (Outcome.FAILED, "KindNotServed")
    assert len(pauses) == waits


async def test_a_webhook_that_does_not_answer_is_waited_for_once(
    api: KubeApi, namespace: str
) -> None:
    await api.patch(NAMESPACES, namespace, {"metadata": {"labels": {"guarded": namespace}}})
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    hook = {
        "name": "nobody.example.org",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
        "namespaceSelector": {"matchLabels": {"guarded": namespace}},
    }
    await api.create(VALIDATING_WEBHOOKS, {"metadata": {"name": namespace}, "webhooks": [hook]})
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    patient = replace(creator(api), sleep=sleep)
    try:
        # The API server hears of its webhooks a moment later.
        for attempt in range(100):
            first = await patient.create(item(stored("ConfigMap", f"c{attempt}"), namespace))
            if first.outcome is Outcome.FAILED:
                break
            await asyncio.sleep(0.2)
        assert first.reason == "WebhookFailing"
        assert "nobody.example.org" in first.message
        waited = len(pauses)
        assert waited == 8
        second = await patient.create(item(stored("ConfigMap", "next"), namespace))
        assert (second.reason, len(pauses)) == ("WebhookFailing", waited)
    finally:
        await api.delete(VALIDATING_WEBHOOKS, namespace)


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (stored("ConfigMap", "c", data={"bad key!": "x"}), "Invalid"),
        (stored("Service", "s", spec={"ports": []}), "Invalid"),
    ],
)
async def test_what_is_never_accepted_fails_at_once(
    api: KubeApi, namespace: str, obj: StoredObject, reason: str
) -> None:
    result = await creator(api).create(item(obj, namespace))
    assert (result.outcome, result.reason) == (Outcome.FAILED, reason)
    assert result.message


async def test_a_namespace_that_is_not_there(api: KubeApi) -> None:
    result = await creator(api).create(item(stored("ConfigMap", "c"), "no-such-namespace"))
    assert (result.outcome, result.reason) == (Outcome.FAILED, "NamespaceNotFound")


# --- updates ------------------------------------------------------------------------------------


async def exists(api: KubeApi, obj: StoredObject, namespace: str) -> StoredObject:
    """Make it; returned is what a backup would hold: with everything the server fills in."""
    body = {**obj.body, "metadata": {"name": obj.name}}
    return replace(obj, body=await api.create(obj.type, body, namespace=namespace))


def deployment(replicas: int, app: str = "web") -> StoredObject:
    return stored(
        "Deployment",
        "web",
        api_version="apps/v1",
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {"containers": [{"name": "c", "image": "i:1"}]},
            },
        },
    )


async def test_update_patches_what_differs(api: KubeApi, namespace: str) -> None:
    kept = await exists(api, deployment(1), namespace)
    await api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, namespace=namespace)
    result = await creator(api, update=True).create(item(kept, namespace))
    assert (result.outcome, result.differs) == (Outcome.UPDATED, ("spec.replicas",))
    again = await creator(api, update=True).create(item(kept, namespace))
    assert (again.outcome, again.differs) == (Outcome.LEFT_ALONE, ())


async def test_update_that_the_server_refuses_names_the_field(api: KubeApi, namespace: str) -> None:
    await exists(api, deployment(1, app="theirs"), namespace)
    result = await creator(api, update=True).create(item(deployment(1), namespace))
    assert (result.outcome, result.reason) == (Outcome.FAILED, "CannotUpdate")
    assert "spec.selector cannot be changed" in result.message
    assert "delete the object" in result.message


async def test_update_of_a_secret_shows_no_value(api: KubeApi, namespace: str) -> None:
    def secret(value: str) -> StoredObject:
        data = {"password": base64.b64encode(value.encode()).decode()}
        return stored("Secret", "s", data=data, immutable=True, type="Opaque")

    await exists(api, secret("old-secret-value"), namespace)
    result = await creator(api, update=True).create(item(secret("new-secret-value"), namespace))
    assert result.reason == "CannotUpdate"
    assert "data" in result.message
    shown = repr(result.message) + repr(result.differs)
    for value in ("old-secret-value", "new-secret-value"):
        assert value not in shown
        assert base64.b64encode(value.encode()).decode() not in shown


async def test_update_keeps_allocated_node_ports(api: KubeApi, namespace: str) -> None:
    def service(target: int) -> StoredObject:
        ports = [{"port": 80, "targetPort": target, "protocol": "TCP"}]
        return stored("Service", "s", spec={"type": "NodePort", "ports": ports})

    kept = await exists(api, service(9090), namespace)
    patch = {"spec": {"ports": service(8080).spec["ports"]}}
    await api.patch(SERVICES, "s", patch, namespace=namespace)
    before = await api.get(SERVICES, "s", namespace=namespace)
    wanted = prepare("services", kept.body, Target()).body
    result = await creator(api, update=True).create(item(replace(kept, body=wanted), namespace))
    assert (result.outcome, result.differs) == (Outcome.UPDATED, ("spec.ports[0].targetPort",))
    after = await api.get(SERVICES, "s", namespace=namespace)
    assert after["spec"]["ports"][0]["targetPort"] == 9090
    assert after["spec"]["ports"][0]["nodePort"] == before["spec"]["ports"][0]["nodePort"]
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]


async def test_node_ports_that_somebody_asked_for_are_told_from_others(
    api: KubeApi, namespace: str
) -> None:
    """By the managed fields, as a real API server writes them."""
    asked = {"port": 81, "nodePort": 31777, "name": "asked"}
    spec = {"type": "NodePort", "ports": [{"port": 80, "name": "given"}, asked]}
    made = await api.create(
        SERVICES, {"metadata": {"name": "s"}, "spec": spec}, namespace=namespace
    )
    assert all(port.get("nodePort") for port in made["spec"]["ports"])
    assert asked_node_ports(made) == {31777}
