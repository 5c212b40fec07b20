"""Namespaces that the pods of a verification run in: made, closed to the world, and removed.

Problem: a copy of an application that can reach what the original reaches sends its mails twice;
one that is left behind runs for ever; and a namespace that is removed by mistake is gone.
Decision: one namespace of our own for each of the backup's, with a name derived from the
verification's UID and a label with that UID. Before anything comes into it stands a NetworkPolicy:
nothing in, nothing out, but among the namespaces of this verification, and to port 53 for names.
Only a namespace that has both the label and the derived name is ever removed. Volumes that would be
kept are told before to go with their claims.
Limits: a NetworkPolicy is as good as the network plugin that enforces it; there are some that
enforce none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from ararat import naming
from ararat.api import BackupVerification, Restore
from ararat.api.names import COPY_OF, EXCLUDE_FROM_BACKUP, OWNER_UID, RUN_OF
from ararat.errors import AccessDenied, AraratError, Conflict, Retryable
from ararat.kube.errors import ApiNotFound, Invalid
from ararat.kube.resources import NAMESPACES, NETWORK_POLICIES, PVS
from ararat.kube.resources import of as resource_of
from controller.context import Context

#: What the copies are closed with.
POLICY = "ararat-verification"
#: Labels that say which pods a namespace lets in.
_ADMISSION = "pod-security.kubernetes.io/"
#: The chart's value that gives the right to remove namespaces.
VALUE = "verification.run.enabled"
_PROVISIONED = "pv.kubernetes.io/provisioned-by"
_RESTORES = resource_of(Restore)
_DNS = 53
log = structlog.get_logger("controller.verification")


class NamespaceTaken(AraratError):
    """A namespace of that name is there, and not ours."""

    default_reason = "NamespaceTaken"


def copy_name(namespace: str, uid: str) -> str:
    """Pure. The namespace that a verification makes for one of the backup's."""
    return naming.object_name("verify", namespace, unique=(uid,))


def build_namespace(
    verification: BackupVerification, namespace: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Pure. ``labels``: those of the namespace in the backup."""
    kept = {key: value for key, value in labels.items() if key.startswith(_ADMISSION)}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": copy_name(namespace, verification.uid),
            "labels": {**kept, RUN_OF: verification.uid, EXCLUDE_FROM_BACKUP: "true"},
            "annotations": {COPY_OF: namespace},
        },
    }


def build_policy(verification: BackupVerification, namespace: str) -> dict[str, Any]:
    """Pure."""
    among = [{"namespaceSelector": {"matchLabels": {RUN_OF: verification.uid}}}]
    names = [{"port": _DNS, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {
        "apiVersion": NETWORK_POLICIES.api_version,
        "kind": NETWORK_POLICIES.kind,
        "metadata": {
            "name": POLICY,
            "namespace": copy_name(namespace, verification.uid),
            "labels": {OWNER_UID: verification.uid},
        },
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": among}],
            "egress": [{"to": among}, {"ports": names}],
        },
    }


def is_ours(namespace: Mapping[str, Any], uid: str) -> bool:
    """Pure. Whether this verification made it: label and name say so, each by itself."""
    metadata = namespace["metadata"]
    source = (metadata.get("annotations") or {}).get(COPY_OF, "")
    label = (metadata.get("labels") or {}).get(RUN_OF)
    return bool(label == uid and metadata["name"] == copy_name(source, uid))


async def ensure(
    context: Context,
    verification: BackupVerification,
    labels: Mapping[str, Mapping[str, str]],
) -> None:
    """``labels``: of each namespace to copy. Raises NamespaceTaken, Retryable."""
    for source in sorted(labels):
        body = build_namespace(verification, source, labels[source])
        name = body["metadata"]["name"]
        try:
            await context.api.create(NAMESPACES, body)
        except Conflict:
            found = await context.api.get(NAMESPACES, name)
            if not is_ours(found, verification.uid):
                raise NamespaceTaken(
                    f"namespace {name} is there already and is not this verification's: remove it, "
                    "or find out whose it is"
                ) from None
            if found["metadata"].get("deletionTimestamp"):
                raise Retryable(
                    f"namespace {name} is being removed", reason="NamespaceTerminating"
                ) from None
        with contextlib.suppress(Conflict):
            await context.api.create(
                NETWORK_POLICIES, build_policy(verification, source), namespace=name
            )


async def remove(context: Context, verification: BackupVerification) -> str:
    """Begin, or go on; what is still there, in words. Empty: nothing."""
    api, uid = context.api, verification.uid
    left = ""
    restores = api.list(_RESTORES, namespace=context.namespace, labels=f"{OWNER_UID}={uid}")
    for raw in [raw async for raw in restores]:
        left = f"restore {raw['metadata']['name']} comes to its end"
        if not raw["metadata"].get("deletionTimestamp"):
            await api.delete(_RESTORES, raw["metadata"]["name"], namespace=context.namespace)
    if left:
        return left  # its jobs write into volumes of these namespaces
    found = [raw async for raw in api.list(NAMESPACES, labels=f"{RUN_OF}={uid}")]
    ours = [raw for raw in found if is_ours(raw, uid)]
    if any(not raw["metadata"].get("deletionTimestamp") for raw in ours):
        await _give_up_volumes(context, {str(raw["metadata"]["name"]) for raw in ours})
    for raw in ours:
        name = str(raw["metadata"]["name"])
        left = f"namespace {name} is being removed"
        if raw["metadata"].get("deletionTimestamp"):
            left += _hindrance(raw)
            continue
        try:
            await api.delete(NAMESPACES, name, uid=raw["metadata"]["uid"])
            log.info("namespace of a verification removed", namespace=name, uid=uid)
        except AccessDenied:
            return (
                f"namespace {name} stays: Ararat may not remove namespaces; set the chart's value "
                f"{VALUE} again, or remove it by hand"
            )
    return left


async def _give_up_volumes(context: Context, namespaces: Collection[str]) -> None:
    """Volumes made for these claims go with them, whatever their class says of others."""
    async for volume in context.api.list(PVS):
        spec, metadata = volume["spec"], volume["metadata"]
        claim = spec.get("claimRef") or {}
        if (
            claim.get("namespace") in namespaces
            and spec.get("persistentVolumeReclaimPolicy") == "Retain"
            and _PROVISIONED in (metadata.get("annotations") or {})
        ):
            patch: list[dict[str, Any]] = [
                {"op": "test", "path": "/spec/claimRef/uid", "value": claim.get("uid")},
                {"op": "replace", "path": "/spec/persistentVolumeReclaimPolicy", "value": "Delete"},
            ]
            with contextlib.suppress(ApiNotFound, Invalid):
                await context.api.patch(PVS, metadata["name"], patch)


def _hindrance(namespace: Mapping[str, Any]) -> str:
    conditions = (namespace.get("status") or {}).get("conditions") or []
    causes = [
        str(condition.get("message"))
        for condition in conditions
        if condition.get("status") == "True" and condition.get("message")
    ]
    return f": {causes[-1]}" if causes else ""
