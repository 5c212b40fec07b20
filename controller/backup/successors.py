"""Which pod takes the place of one that went away while its volumes were read. Pure.

Decision: a claim is read through any running pod that mounts it. A volume that lives with its pod
belongs to a slot of the pod's owner: of a StatefulSet to the pod of the same name, of others to a
new pod that stands in for no other. Nobody is waited for where nobody will come: a bare pod has no
one to make it anew, and an owner that was removed or scaled down wants no more than it has.
Limits: what an owner of another kind (an operator's) wants is not known, so it gets the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.helper_pods import is_helper

from .volumes import PlannedVolume, claim_of, finished, is_used, owner_of

#: Further pods through which a volume is tried.
MOST = 3
#: For the new pod to be scheduled, to have its volumes attached and its image pulled.
PATIENCE_SECONDS = 600.0
Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Through:
    """Read the volume through this pod, where it has this name."""

    pod: Raw
    volume: str


@dataclass(frozen=True)
class Wait:
    """Somebody may come."""


@dataclass(frozen=True)
class Nobody:
    """The failure stands; why, as the end of a sentence."""

    why: str


@dataclass(frozen=True)
class Scene:
    """The namespace as it is now."""

    pods: Sequence[Raw]
    #: The object that made the pod; None: it is gone, or there never was one.
    owner: Raw | None
    #: UIDs of pods that the plan knows.
    planned: frozenset[str]
    #: UID of a new pod → UID of the planned one that it stands in for.
    taken: Mapping[str, str]
    agent_nodes: frozenset[str] = frozenset()


def successor(
    volume: PlannedVolume, scene: Scene, *, tried: int, waited: float, patience: float
) -> Through | Wait | Nobody:
    """``tried``: how many further pods before; ``waited``: seconds since the last one went."""
    if volume.volume_type == "hostPath":
        return Nobody("a directory of the node does not move with the pod")
    if tried >= MOST:
        return Nobody(f"it was tried through {MOST} further pods, which went away as well")
    lives_on = volume.claim is not None and volume.volume_type != "ephemeral"
    candidates = [
        (pod, name)
        for pod in scene.pods
        if not is_helper(pod) and not finished(pod) and not _terminating(pod)
        if (name := _place(volume, pod, scene, lives_on=lives_on)) is not None
    ]
    running = [(pod, name) for pod, name in candidates if _phase(pod) == "Running"]
    if running:
        best = min(running, key=lambda found: _order(found[0], scene))
        return Through(*best)
    if not candidates:
        why = _nobody_comes(volume, scene)
        if why is not None:
            return Nobody(why)
    if waited >= patience:
        if candidates:
            name = candidates[0][0]["metadata"]["name"]
            return Nobody(f"pod {name}, which takes its place, did not run within {patience:.0f} s")
        return Nobody(f"no pod took its place within {patience:.0f} s")
    return Wait()


def _place(volume: PlannedVolume, pod: Raw, scene: Scene, *, lives_on: bool) -> str | None:
    """What the volume is called in this pod; None: the pod does not have it."""
    uid = pod["metadata"]["uid"]
    if uid == volume.pod.uid:
        return None
    if lives_on:
        assert volume.claim is not None
        for candidate in pod["spec"].get("volumes") or []:
            named = claim_of(pod, candidate) == volume.claim.name
            if named and is_used(pod, candidate["name"]):
                return str(candidate["name"])
        return None
    if not volume.owner_kind:
        return None
    same = owner_of(pod) == (volume.owner_kind, volume.owner_name, volume.ordinal)
    if not same or uid in scene.planned:
        return None
    if scene.taken.get(uid, volume.pod.uid) != volume.pod.uid:
        return None
    has = any(v["name"] == volume.volume for v in pod["spec"].get("volumes") or [])
    return volume.volume if has and is_used(pod, volume.volume) else None


def _order(pod: Raw, scene: Scene) -> tuple[bool, str]:
    metadata, node = pod["metadata"], pod["spec"].get("nodeName") or ""
    return node not in scene.agent_nodes, str(metadata["name"])


def _nobody_comes(volume: PlannedVolume, scene: Scene) -> str | None:
    kind, name = volume.owner_kind, volume.owner_name
    if not kind:
        return "no pod took its place, and nobody makes such a pod anew"
    if kind not in ("StatefulSet", "Deployment", "ReplicaSet", "ReplicationController", "Job"):
        return None
    if scene.owner is None:
        return f"no pod takes its place: {kind} {name} is gone"
    if kind == "Job":
        conditions = (scene.owner.get("status") or {}).get("conditions") or []
        ended = any(c["type"] in ("Complete", "Failed") for c in conditions if _true(c))
        return f"no pod takes its place: Job {name} has ended" if ended else None
    wanted = scene.owner["spec"].get("replicas", 1)
    if kind == "StatefulSet":
        first = (scene.owner["spec"].get("ordinals") or {}).get("start", 0)
        if volume.ordinal and int(volume.ordinal) >= first + wanted:
            return f"no pod takes its place: {kind} {name} was scaled to {wanted}"
        return None
    there = sum(
        owner_of(pod)[:2] == (kind, name) and not _terminating(pod) and not finished(pod)
        for pod in scene.pods
    )
    return f"no pod takes its place: {kind} {name} wants {wanted}" if there >= wanted else None


def _true(condition: Raw) -> bool:
    return condition.get("status") == "True"


def _terminating(pod: Raw) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _phase(pod: Raw) -> str:
    return str((pod.get("status") or {}).get("phase", "Unknown"))
