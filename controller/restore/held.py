"""Whether pods are still held wherever a restore owes data.

Problem: the label that the webhooks go by is on a namespace, which is somebody else's object. A
tool that keeps namespaces as it knows them takes it off, or a person does, and the next pod starts
on an empty volume. So does one that was made while the restore was being planned: after pods were
looked at, and before the label was there.
Decision: each look at the volumes puts the label back. When it was gone, and once after the objects
were made, the pods of such namespaces are looked at: one that mounts a claim which is owed its
data, and has no gate for it, cannot be held any more, and is named as a failure of the restore.
Limits: told, not undone: what such a pod has made of an empty volume, nobody knows. Restores that
have ended look only while pods are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ararat.api.backup import Failure
from ararat.api.names import RESTORING
from ararat.errors import NotFound
from ararat.kube.resources import NAMESPACES, PODS, PVCS
from ararat.naming import label_value

from .claims import pending_for
from .gate import gated_volumes
from .pods import claims_of
from .progress import unique
from .run import Look
from .stored import Object

_OVER = ("Succeeded", "Failed")


async def keep_held(look: Look, claims: Iterable[Object]) -> None:
    """``claims``: those that the restore made, as they are."""
    if not look.restore.status.objects_done:
        return  # namespaces are being labelled, and what fails is counted at the end of that
    owed: dict[str, set[str]] = {}
    for claim in claims:
        if pending_for(claim) == look.restore.uid:
            metadata = claim["metadata"]
            owed.setdefault(metadata["namespace"], set()).add(metadata["name"])
    if not owed:
        return
    lost = await _label_again(look, owed)
    places = lost if look.memory.pods_looked_at else sorted(owed)
    for namespace in places:
        await _name_those_not_held(look, namespace, owed[namespace])
    look.memory.pods_looked_at = True


async def _label_again(look: Look, owed: Mapping[str, set[str]]) -> list[str]:
    """The namespaces that had lost it."""
    api, label = look.context.api, label_value(look.restore.name)
    there = {found["metadata"]["name"] async for found in api.list(NAMESPACES, labels=RESTORING)}
    lost = sorted(owed.keys() - there)
    for namespace in lost:
        try:
            await api.patch(NAMESPACES, namespace, {"metadata": {"labels": {RESTORING: label}}})
        except NotFound:
            continue
        text = (
            f"namespace {namespace} had lost its label {RESTORING}, by which pods are held until "
            "their volumes are filled: it was put back"
        )
        look.memory.warnings = list(dict.fromkeys([*look.memory.warnings, text]))
        look.log.warning("to look at", message=text)
    return lost


async def _name_those_not_held(look: Look, namespace: str, owed: set[str]) -> None:
    failures = []
    async for pod in look.context.api.list(PODS, namespace=namespace):
        for claim in sorted(not_held(pod, owed)):
            if not await _still_owed(look, namespace, claim):
                continue
            path = f"{namespace}/{pod['metadata']['name']}"
            failure = Failure(
                object=f"pod {path}",
                reason="PodNotHeld",
                message=f"it was made when no pod was held there, and starts, or has started, "
                f"before claim {claim} has its data: delete it; its owner makes another, which "
                "is held",
            )
            failures.append(failure)
            look.log.error("pod not held", object=failure.object, message=failure.message)
    if failures:
        look.memory.failures = unique([*(look.memory.failures or []), *failures])


async def _still_owed(look: Look, namespace: str, name: str) -> bool:
    try:
        claim = await look.context.api.get(PVCS, name, namespace=namespace)
    except NotFound:
        return False
    return pending_for(claim) == look.restore.uid


def not_held(pod: Object, owed: set[str]) -> set[str]:
    """Which of these claims the pod mounts without waiting for them. Pure."""
    if (pod.get("status") or {}).get("phase") in _OVER:
        return set()
    waits = set(gated_volumes(pod))
    mounted = claims_of(pod.get("spec") or {})
    return {claim for volume, claim in mounted.items() if claim in owed and volume not in waits}
