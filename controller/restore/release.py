"""Takes marks off: of claims whose data is verified, and of namespaces that wait for nothing more.

Marks outlive failures and cancels; only verified data, or a person (who gives the data up: a note
with the restore's UID then stays on the claim), removes them. The label of a
namespace belongs to the restore that set it last, and goes with the last one that owes data there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from ararat.api import Restore
from ararat.api.names import RELEASED, RESTORE_PENDING, RESTORE_UID, RESTORING
from ararat.api.restore import CLAIM_GONE, ReleaseAction, RestorePhase
from ararat.errors import NotFound
from ararat.kube.errors import Invalid
from ararat.kube.resources import NAMESPACES, PVCS
from ararat.naming import label_value

from .claims import pending_for
from .gated import read_pods
from .run import Look
from .units import Unit, word_on


async def release_claim(look: Look, unit: Unit) -> None:
    """The claim's data is verified: take the mark off, of that very claim."""
    if await _unmark(look, unit):
        look.log.info("claim restored", claim=unit.id)


async def let_go(look: Look, unit: Unit) -> None:
    """The claim's data was given up, and nothing writes into it any more: pods may have it."""
    note = {"op": "add", "path": _path(RELEASED), "value": look.restore.uid}
    if await _unmark(look, unit, note):
        look.log.warning("claim released", claim=unit.id, message="its data is not complete")


async def _unmark(look: Look, unit: Unit, *more: dict[str, Any]) -> bool:
    metadata, path = unit.raw["metadata"], _path(RESTORE_PENDING)
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": path, "value": look.restore.uid},
        {"op": "remove", "path": path},
        *more,
    ]
    try:
        await look.context.api.patch(PVCS, metadata["name"], patch, namespace=metadata["namespace"])
    except (NotFound, Invalid):
        return False  # gone, replaced, or released by somebody else
    return True


def _path(annotation: str) -> str:
    return f"/metadata/annotations/{annotation.replace('/', '~1')}"


async def release_namespaces(look: Look, units: Sequence[Unit]) -> None:
    """Take the label off namespaces where every volume is filled and nobody else restores."""
    api = look.context.api
    for namespace in sorted(look.memory.sources):
        if any(unit.key[1] == namespace for unit in units if not unit.over and unit.claim):
            continue
        if any(
            holder.pod.namespace == namespace
            for unit in units
            if not unit.over
            for holder in unit.holders
        ):
            continue
        try:
            found = await api.get(NAMESPACES, namespace)
        except NotFound:
            continue
        label = (found["metadata"].get("labels") or {}).get(RESTORING)
        if (
            label is None
            or _is_others(look, label)
            or await _owed(look, namespace, besides={look.restore.uid})
        ):
            continue
        await api.patch(NAMESPACES, namespace, {"metadata": {"labels": {RESTORING: None}}})
        look.log.info("namespace restored", namespace=namespace)


async def sweep(look: Look) -> None:
    """Labels that nobody needs any more: of restores that ended side by side, or were deleted."""
    async for namespace in look.context.api.list(NAMESPACES, labels=RESTORING):
        name = namespace["metadata"]["name"]
        label = namespace["metadata"]["labels"][RESTORING]
        if _is_active(look, label) or await _owed(look, name, besides=frozenset()):
            continue
        await look.context.api.patch(NAMESPACES, name, {"metadata": {"labels": {RESTORING: None}}})
        look.log.info("namespace restored", namespace=name)


def _is_others(look: Look, label: str) -> bool:
    """Whether the label was set by another restore that is still at work (the last one sets it)."""
    return label != label_value(look.restore.name) and _is_active(look, label)


def _is_active(look: Look, label: str) -> bool:
    return any(
        label_value(raw["metadata"]["name"]) == label and not _phase(raw).terminal
        for raw in look.context.restores.items()
    )


async def _owed(look: Look, namespace: str, *, besides: Set[str]) -> bool:
    """Whether a restore (``besides`` these, by UID) still owes data to the namespace."""
    async for claim in look.context.api.list(PVCS, namespace=namespace):
        if pending_for(claim) not in {None, *besides}:
            return True
    restores = look.context.restores.items()
    if any(
        _misses_claim(raw, namespace) for raw in restores if raw["metadata"]["uid"] not in besides
    ):
        return True
    completed = {
        raw["metadata"]["uid"]
        for raw in look.context.restores.items()
        if _phase(raw) is RestorePhase.COMPLETED
    }
    gated = [
        pod for pod in look.context.gated_pods.items() if pod["metadata"]["namespace"] == namespace
    ]
    owners = {(pod["metadata"].get("labels") or {}).get(RESTORE_UID) for pod in gated}
    # A pod whose restore is Completed has its answer, and passes its gate any moment.
    return any(
        pod.held
        for owner in owners - completed - besides - {None}
        for pod in read_pods(gated, str(owner))
    )


def _misses_claim(raw: Mapping[str, Any], namespace: str) -> bool:
    """Whether it ended while a claim that it owes data to was not there: it may be made again."""
    if _phase(raw) is not RestorePhase.PARTIALLY_FAILED:
        return False
    restore = Restore.parse(raw)
    return any(
        failure.reason == CLAIM_GONE
        and failure.object.startswith(f"{namespace}/")
        and word_on(failure.object, restore.spec.released) is not ReleaseAction.START
        for failure in restore.status.failures
    )


def _phase(raw: Mapping[str, Any]) -> RestorePhase:
    return RestorePhase((raw.get("status") or {}).get("phase") or RestorePhase.NEW)
