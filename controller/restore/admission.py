"""Which pods are held, and which are refused, while a namespace is being restored. Pure.

Problem: a ReplicaSet's replacement, an operator, a GitOps tool make pods that the restore did not
make, and such a pod would start on a claim whose data is still on its way.
Decision: every pod that mounts a claim marked ``restore-pending`` gets the gate, whoever makes it
(mutating); and no pod gets past whose gate is missing, altered, or stands behind a container that
mounts a pending volume (validating), because other webhooks change pods after ours. A pod whose
claim does not exist yet is refused for the moment: the claim may be about to come back, and whoever
makes pods tries again.
Limits: only claims are known here; volumes that live with their pod are held in pods that the
restore itself makes.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ararat import gate
from ararat.api.names import RESTORE_UID
from ararat.errors import InvalidSpec

from .claims import pending_for
from .gate import GateSettings, add_gate, gated_volumes
from .hooks.inject import inject
from .hooks.parse import restore_hooks
from .pods import claims_of, mounted_volumes
from .stored import Object

Claims = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    #: Why not, in one sentence.
    message: str = ""
    #: RFC 6902.
    patch: Sequence[Mapping[str, Any]] = field(default=())


ALLOWED = Verdict(allowed=True)


@dataclass(frozen=True)
class Pending:
    """Volumes of a pod that wait for data, by the UID of the restore that owes it."""

    volumes: Mapping[str, tuple[str, ...]]

    @property
    def restore_uid(self) -> str | None:
        return next(iter(self.volumes), None)


def claims_to_read(pod: Mapping[str, Any]) -> list[str]:
    """The claims a verdict depends on."""
    spec = pod.get("spec") or {}
    return sorted({claim for claim in claims_of(spec).values() if claim})


def pending_volumes(pod: Mapping[str, Any], claims: Claims) -> Pending:
    """Which of the pod's volumes wait for data. ``claims`` by name, None where there is none."""
    spec = pod.get("spec") or {}
    mounted = mounted_volumes(spec)
    found: dict[str, list[str]] = {}
    for volume, claim in claims_of(spec).items():
        body = claims.get(claim)
        owed = pending_for(body) if body is not None else None
        if owed is not None and volume in mounted:
            found.setdefault(owed, []).append(volume)
    return Pending({uid: tuple(volumes) for uid, volumes in found.items()})


def mutate(
    pod: Mapping[str, Any], claims: Claims, settings: GateSettings | None, *, namespace: str = ""
) -> Verdict:
    """Hold the pod if it must be held. ``settings`` of the restore that its claims wait for."""
    refusal = _refuse(pod, claims)
    if refusal is not None:
        return refusal
    pending = pending_volumes(pod, claims)
    if pending.restore_uid is None:
        return ALLOWED
    if settings is None or settings.restore_uid != pending.restore_uid:
        raise ValueError("the settings of another restore")
    wanted = pending.volumes[pending.restore_uid]
    if _is_held(pod, wanted, pending.restore_uid):
        return ALLOWED
    held: Object = copy.deepcopy(dict(pod))
    held.setdefault("metadata", {})
    # The pod's own slots, if the restore made it, stay waited for.
    others = [v for v in _own_gate(pod, pending.restore_uid) if v not in wanted]
    add_gate(held, [*wanted, *others], settings)
    _add_hooks(held, settings, namespace)
    paths = (
        ("/metadata/labels", held["metadata"]["labels"]),
        ("/metadata/annotations", held["metadata"]["annotations"]),
        ("/spec/volumes", held["spec"]["volumes"]),
        ("/spec/initContainers", held["spec"]["initContainers"]),
    )
    patch = [{"op": "add", "path": path, "value": value} for path, value in paths]
    return Verdict(allowed=True, patch=patch)


def _add_hooks(pod: Object, settings: GateSettings, namespace: str) -> None:
    """The restore's init containers; a mistake in them is told when the pod runs."""
    metadata = pod["metadata"]
    # What its owner makes has a name and a namespace only later.
    named = {**pod, "metadata": {"name": "", **metadata, "namespace": namespace}}
    with contextlib.suppress(InvalidSpec):
        inject(pod, restore_hooks(named, settings.hooks, images=settings.images).init)


def validate(pod: Mapping[str, Any], claims: Claims) -> Verdict:
    """Refuse a final pod that would reach its data too early."""
    refusal = _refuse(pod, claims)
    if refusal is not None:
        return refusal
    pending = pending_volumes(pod, claims)
    if pending.restore_uid is None:
        return ALLOWED
    wanted = pending.volumes[pending.restore_uid]
    if not _is_held(pod, wanted, pending.restore_uid):
        return Verdict(
            allowed=False,
            message=f"volumes {', '.join(wanted)} are still being restored and the pod has no "
            f"(or an altered) {gate.CONTAINER} container: another webhook may have removed it",
        )
    for container in (pod.get("spec") or {}).get("initContainers") or []:
        if container.get("name") == gate.CONTAINER:
            break
        reached = {mount["name"] for mount in container.get("volumeMounts") or []} & {*wanted}
        if reached:
            return Verdict(
                allowed=False,
                message=f"init container {container.get('name')} would see volume "
                f"{min(reached)} before it is restored: {gate.CONTAINER} must stand before it",
            )
    return ALLOWED


def _refuse(pod: Mapping[str, Any], claims: Claims) -> Verdict | None:
    pending = pending_volumes(pod, claims)
    if len(pending.volumes) > 1:
        return Verdict(
            allowed=False,
            message="its claims wait for the data of several restores: it can be made when all "
            "but one of them have ended",
        )
    missing = sorted(name for name, claim in claims.items() if claim is None)
    labels = (pod.get("metadata") or {}).get("labels") or {}
    if missing and RESTORE_UID not in labels:
        return Verdict(
            allowed=False,
            message=f"claim {missing[0]} does not exist, and the namespace is being restored: "
            "try again when it is there",
        )
    return None


def _own_gate(pod: Mapping[str, Any], restore_uid: str) -> list[str]:
    """Volumes that a gate which this restore made waits for."""
    labels = (pod.get("metadata") or {}).get("labels") or {}
    return gated_volumes(pod) if labels.get(RESTORE_UID) == restore_uid else []


def _is_held(pod: Mapping[str, Any], wanted: Sequence[str], restore_uid: str) -> bool:
    """Whether the pod has the right gate for these volumes, unaltered but for its image."""
    spec = pod.get("spec") or {}
    containers = [c for c in spec.get("initContainers") or [] if c.get("name") == gate.CONTAINER]
    labels = (pod.get("metadata") or {}).get("labels") or {}
    if len(containers) != 1 or labels.get(RESTORE_UID) != restore_uid:
        return False
    found = containers[0]
    arguments = list(found.get("args") or [])
    if list(found.get("command") or []) != list(gate.COMMAND):
        return False
    if found.get("restartPolicy"):  # a sidecar would let the others start beside it
        return False
    listed = _argument(arguments, "--volumes").split(",")
    mounts = {(m.get("name"), m.get("mountPath")) for m in found.get("volumeMounts") or []}
    sources = {v.get("name"): v for v in spec.get("volumes") or []}
    return (
        _argument(arguments, "--restore-uid") == restore_uid
        and set(wanted) <= set(listed)
        and set(wanted) <= set(gated_volumes(pod))
        and (gate.VOLUME, gate.MOUNT_PATH) in mounts
        and "emptyDir" in sources.get(gate.VOLUME, {})
    )


def _argument(arguments: Sequence[str], name: str) -> str:
    for key, value in itertools.pairwise(arguments):
        if key == name:
            return value
    return ""
