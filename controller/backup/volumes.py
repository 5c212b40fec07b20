"""Which volumes a backup reads, by which pod, and what becomes of the others. Pure.

Problem: "Completed" over data that nobody read is the worst thing a backup can say.
Decision: every file volume of every pod in a chosen namespace, and every claim there, ends up in
the plan exactly once: read by a node job, skipped with a reason, failed with a reason, or
unprotected because nobody asked for it. Who decides, the closest first: the label that keeps a
claim out, the pod's annotations, the first of the backup's policies that fits, its default policy.
A claim that several pods mount is read once, by the pod
that is most surely able to (running, ready, on a node with an agent). A volume name in the
annotation that the pod does not have is an error before anything starts.
Limits: configuration volumes (secret, configMap, projected, downwardAPI) are API objects, not
files, and are listed only where somebody asks for them by name. The gate's own volume in a restored
pod is not the user's and is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ararat import excludes, gate, hostpaths
from ararat.api.backup import BackupVolumes
from ararat.api.base import Model
from ararat.api.manifest import Coverage
from ararat.api.names import BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, EXCLUDE, EXCLUDE_FROM_BACKUP
from ararat.api.nodejob import ClaimReference, PodReference
from ararat.api.volumepolicy import UnmountedClaims, VolumeAction
from ararat.errors import InvalidSpec

from .policies import Ruled, rule_for

_CONFIGURATION = frozenset({"secret", "configMap", "projected", "downwardAPI"})
#: Kinds of volume that live and die with their pod.
_POD_LIFETIME = frozenset({"emptyDir", "ephemeral"})
#: Reasons why a claim cannot be read, whatever is done about it.
_NEVER_READ = frozenset({"BlockMode", "HostPath"})
_OPTED_OUT = ("Excluded", f"its claim has the label {EXCLUDE_FROM_BACKUP}=true")
Raw = Mapping[str, Any]


class PlannedVolume(Model):
    """One volume, and what is to become of it.

    ``coverage`` is BACKED_UP for a volume that a node job is to read: the job decides in the end.
    """

    pod: PodReference
    node: str
    volume: str
    volume_type: str
    coverage: Coverage
    reason: str = ""
    message: str = ""
    claim: ClaimReference | None = None
    storage_class: str | None = None
    access_modes: tuple[str, ...] = ()
    capacity: str | None = None
    owner_kind: str = ""
    owner_name: str = ""
    ordinal: str = ""
    fs_group: bool = False
    #: Read between the hooks of the pods of this group (see hooks.plan); empty: there are none.
    group: str = ""
    #: No pod mounts the claim: one of ours is made that does, and its node job is made after it.
    helper: bool = False
    #: Patterns of files to leave out, from the annotations of the pod and the claim.
    excludes: tuple[str, ...] = ()
    #: Where it is read again because its pod went away: its node job, and the one before.
    job: str = ""
    replaces: str = ""

    @property
    def id(self) -> str:
        return f"{self.pod.namespace}/{self.pod.name or '-'}/{self.volume}"

    def host(self, cluster_uid: str) -> str:
        """The identity restic knows this volume by: survives new pods, nodes and PV names."""
        base = f"{cluster_uid}/{self.pod.namespace}"
        if self.claim is not None and self.volume_type != "ephemeral":
            return f"{base}/pvc/{self.claim.name}"
        kind, owner = self.owner_kind or "Pod", self.owner_name or self.pod.name
        return f"{base}/pod/{kind}/{owner}/{self.ordinal or '0'}/{self.volume}"


@dataclass(frozen=True)
class ClusterView:
    """What the planner looks at."""

    pods: Sequence[Raw]
    #: By (namespace, name).
    claims: Mapping[tuple[str, str], Raw]
    #: By name.
    volumes: Mapping[str, Raw]
    #: Nodes that have a Ready agent: of several pods that mount a claim, one there reads it.
    agent_nodes: frozenset[str]
    #: Claims (namespace, name) that pods mount which the selection leaves out.
    mounted_by_others: frozenset[tuple[str, str]] = frozenset()
    #: Claims (namespace, name) that the selection means; None: all.
    chosen_claims: frozenset[tuple[str, str]] | None = None
    #: Directories of the nodes that may be read though they are hostPath volumes.
    host_paths: tuple[PurePosixPath, ...] = ()


def plan_volumes(view: ClusterView, asked_for: BackupVolumes) -> list[PlannedVolume]:
    """Every volume met, in a stable order.

    Raises InvalidSpec: an annotation names a volume that its pod does not have.
    """
    planned: list[PlannedVolume] = []
    of_claims: dict[tuple[str, str], list[_Mount]] = {}
    mistakes: list[str] = []
    for pod in sorted(view.pods, key=lambda p: (_ns(p), _name(p))):
        asked, excluded = requested(pod), listed(pod, BACKUP_VOLUMES_EXCLUDES)
        mistakes += unknown_volumes(pod)
        for volume in pod["spec"].get("volumes") or []:
            name = volume["name"]
            if name == gate.VOLUME:
                continue  # a restored pod has it, and a backup leaves the gate out of the pod
            named = name in asked
            refused = name in excluded and not named
            claim_name = claim_of(pod, volume)
            rule = _ruled(view, asked_for, _ns(pod), volume, claim_name)
            wanted = named or (rule.action is VolumeAction.BACKUP and not refused)
            mount = _Mount(pod, volume, named=named, refused=refused, wanted=wanted, rule=rule)
            if claim_name is not None:
                of_claims.setdefault((_ns(pod), claim_name), []).append(mount)
            elif named or volume_type(volume) not in _CONFIGURATION:
                planned.append(_decide(view, mount))
    if mistakes:
        raise InvalidSpec("; ".join(mistakes), reason="UnknownVolume")
    _check_patterns([*view.pods, *view.claims.values()])
    for mounts in of_claims.values():
        entry = _of_claim(view, mounts)
        planned.append(_with_helper(view, asked_for, entry) if _idle(mounts) else entry)
    planned += [
        _with_helper(view, asked_for, _unmounted(view, namespace, claim))
        for (namespace, name), claim in view.claims.items()
        if (namespace, name) not in of_claims
    ]
    return sorted(planned, key=lambda v: (v.pod.namespace, v.pod.name, v.volume))


@dataclass(frozen=True)
class _Mount:
    """A volume in a pod, and what is asked about it."""

    pod: Raw
    volume: Raw
    #: An annotation names it.
    named: bool
    #: An annotation excludes it.
    refused: bool
    #: It is to be read: named, or a policy says so.
    wanted: bool
    rule: Ruled


def _of_claim(view: ClusterView, mounts: Sequence[_Mount]) -> PlannedVolume:
    """The one entry of a claim: where one pod asks for it, any pod that has it may read it."""
    named, wanted = any(m.named for m in mounts), any(m.wanted for m in mounts)
    entries = [(m, _decide(view, replace(m, named=named, wanted=wanted))) for m in mounts]
    return max(entries, key=lambda e: _rank(view, *e))[1]


def _check_patterns(objects: Iterable[Raw]) -> None:
    for obj in objects:
        if wrong := excludes.mistakes(excludes.annotated(EXCLUDE, obj)):
            raise InvalidSpec(
                f"{_ns(obj)}/{_name(obj)}: annotation {EXCLUDE}: {'; '.join(wrong)}",
                reason="InvalidExclude",
            )


def _ruled(
    view: ClusterView, asked_for: BackupVolumes, namespace: str, volume: Raw, claim_name: str | None
) -> Ruled:
    claim = view.claims.get((namespace, claim_name)) if claim_name else None
    bound = ((claim or {}).get("spec") or {}).get("volumeName") or ""
    return rule_for(asked_for, volume=volume, claim=claim, pv=view.volumes.get(bound))


def _idle(mounts: Sequence[_Mount]) -> bool:
    """Whether none of these pods has the claim mounted."""
    return all(finished(m.pod) or not is_used(m.pod, m.volume["name"]) for m in mounts)


def _with_helper(
    view: ClusterView, asked_for: BackupVolumes, entry: PlannedVolume
) -> PlannedVolume:
    """The entry of a claim that no pod has mounted, to be read by one of ours if that is asked."""
    if asked_for.unmounted is not UnmountedClaims.BACKUP or entry.claim is None:
        return entry
    if entry.reason in ("Excluded", "PodNotChosen"):
        return entry
    namespace, name = entry.pod.namespace, entry.claim.name
    if view.chosen_claims is not None and (namespace, name) not in view.chosen_claims:
        return entry
    if entry.volume_type == "ephemeral":
        return entry  # it goes with its pod, which is on its way out
    claim = view.claims[(namespace, name)]

    def instead(coverage: Coverage, reason: str = "", message: str = "") -> PlannedVolume:
        plain = _of_nobody(namespace, claim)
        return plain.model_copy(update={"coverage": coverage, "reason": reason, "message": message})

    rule = _ruled(view, asked_for, namespace, {"name": name, "persistentVolumeClaim": {}}, name)
    if rule.action is VolumeAction.SKIP and rule.policy is not None:
        return instead(Coverage.SKIPPED, "SkippedByPolicy", rule.sentence)
    problem = _claim_problem(view, claim, name)
    if problem is not None:
        return instead(Coverage.SKIPPED, *problem)
    return instead(Coverage.BACKED_UP).model_copy(update={"helper": True})


def requested(pod: Raw) -> set[str]:
    """The volumes that the pod's annotations name, whatever spelling of the key is used."""
    return listed(pod, BACKUP_VOLUMES)


def unknown_volumes(pod: Raw) -> list[str]:
    """A sentence for each volume that the annotation names and the pod does not have."""
    has = {volume["name"] for volume in pod["spec"].get("volumes") or []}
    annotations = pod["metadata"].get("annotations") or {}
    found = []
    for key in (*BACKUP_VOLUMES, *BACKUP_VOLUMES_EXCLUDES):
        for name in sorted(_split(annotations.get(key, "")) - has):
            known = ", ".join(sorted(has)) or "none"
            found.append(
                f"pod {_ns(pod)}/{_name(pod)}: annotation {key} names volume {name!r}, "
                f"which the pod does not have (it has: {known})"
            )
    return found


def volume_type(volume: Raw) -> str:
    """The key that says what the volume is (``emptyDir``, ``persistentVolumeClaim``, ...)."""
    return next((key for key in volume if key != "name"), "emptyDir")


def claims_of(pod: Raw) -> set[str]:
    """Names of the claims that the pod's volumes stand on."""
    names = (claim_of(pod, volume) for volume in pod["spec"].get("volumes") or [])
    return {name for name in names if name is not None}


def listed(pod: Raw, keys: Iterable[str]) -> set[str]:
    annotations = pod["metadata"].get("annotations") or {}
    return set().union(*(_split(annotations.get(key, "")) for key in keys))


def _split(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}


def claim_of(pod: Raw, volume: Raw) -> str | None:
    if "persistentVolumeClaim" in volume:
        return str(volume["persistentVolumeClaim"]["claimName"])
    if "ephemeral" in volume:
        return f"{_name(pod)}-{volume['name']}"
    return None


def _decide(view: ClusterView, mount: _Mount) -> PlannedVolume:
    pod, volume, named = mount.pod, mount.volume, mount.named
    kind = volume_type(volume)
    claim_name = claim_of(pod, volume)
    claim = view.claims.get((_ns(pod), claim_name)) if claim_name else None

    def entry(coverage: Coverage, reason: str = "", message: str = "") -> PlannedVolume:
        owner_kind, owner_name, ordinal = owner_of(pod)
        return PlannedVolume(
            pod=PodReference(namespace=_ns(pod), name=_name(pod), uid=pod["metadata"]["uid"]),
            node=pod["spec"].get("nodeName") or "",
            volume=volume["name"],
            volume_type=kind,
            coverage=coverage,
            reason=reason,
            message=message,
            claim=_claim_reference(claim) if claim else None,
            storage_class=(claim or {}).get("spec", {}).get("storageClassName"),
            access_modes=tuple((claim or {}).get("spec", {}).get("accessModes") or ()),
            capacity=_capacity(claim),
            owner_kind=owner_kind,
            owner_name=owner_name,
            ordinal=ordinal,
            fs_group="fsGroup" in (pod["spec"].get("securityContext") or {}),
            excludes=excludes.annotated(EXCLUDE, pod, claim),
        )

    if claim is not None and _opted_out(claim):
        return entry(Coverage.SKIPPED, *_OPTED_OUT)
    if not mount.wanted:
        if mount.refused:
            return entry(
                Coverage.SKIPPED, "Excluded", f"an annotation of pod {_name(pod)} excludes it"
            )
        if mount.rule.policy is not None:
            return entry(Coverage.SKIPPED, "SkippedByPolicy", mount.rule.sentence)
        if kind == "hostPath" and not _allowed(view, volume):
            return entry(Coverage.SKIPPED, "HostPath", "a directory of the node, not a volume")
        if kind in _POD_LIFETIME:
            return entry(Coverage.SKIPPED, "NotRequested", "lives and dies with its pod")
        return entry(
            Coverage.UNPROTECTED,
            "NotRequested",
            f"no annotation of pod {_name(pod)} names it",
        )
    if kind in _CONFIGURATION:
        return entry(Coverage.SKIPPED, "NotFiles", f"a {kind} is kept as an API object")
    # Every pod of a node's daemons has some: without a name, none is meant.
    if kind == "hostPath" and not (named and _allowed(view, volume)):
        if named:
            return entry(
                Coverage.FAILED,
                "HostPath",
                "no entry of the chart's agent.hostPaths allows to read it",
            )
        return entry(Coverage.SKIPPED, "HostPath", "a directory of the node, not a volume")
    if claim_name is not None:
        problem = _claim_problem(view, claim, claim_name)
        if problem is not None:
            # What can never be read is a failure only where somebody asked for this very volume.
            unreadable = problem[0] in _NEVER_READ and not named
            return entry(Coverage.SKIPPED if unreadable else Coverage.FAILED, *problem)
    if not is_used(pod, volume["name"]):
        message = f"no container of pod {_name(pod)} mounts it, so the kubelet does not set it up"
        if named:
            return entry(Coverage.FAILED, "VolumeNotUsed", message)
        # Nobody named it: a pod's own volume is empty then, a claim is one that no pod mounts.
        unused = Coverage.SKIPPED if kind in _POD_LIFETIME else Coverage.UNPROTECTED
        return entry(unused, "VolumeNotUsed", message)
    problem = _pod_problem(pod)
    if problem is not None:
        reason, message = problem
        if reason != "PodFinished":
            return entry(Coverage.FAILED, reason, message)
        # A claim outlives its pod, with data that nobody reads.
        lasting = claim_name is not None and kind not in _POD_LIFETIME
        return entry(Coverage.UNPROTECTED if lasting else Coverage.SKIPPED, reason, message)
    return entry(Coverage.BACKED_UP)


def is_used(pod: Raw, volume: str) -> bool:
    containers = (pod["spec"].get("initContainers") or []) + (pod["spec"].get("containers") or [])
    return any(
        mount["name"] == volume
        for container in containers
        for mount in (container.get("volumeMounts") or [])
    ) or any(
        device["name"] == volume
        for container in containers
        for device in (container.get("volumeDevices") or [])
    )


def finished(pod: Raw) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _pod_problem(pod: Raw) -> tuple[str, str] | None:
    phase, name = (pod.get("status") or {}).get("phase", "Unknown"), _name(pod)
    if finished(pod):
        return "PodFinished", f"pod {name} has ended ({phase}), its volumes are not mounted"
    if pod["metadata"].get("deletionTimestamp"):
        return "PodTerminating", f"pod {name} is terminating"
    if phase != "Running":
        return "PodNotRunning", f"pod {name} is {phase}: its volumes are read once it runs"
    # Whether the node's agent comes (back) is the watchdog's business: one that is being replaced
    # at this very moment must cost nothing.
    return None


def _claim_problem(view: ClusterView, claim: Raw | None, name: str) -> tuple[str, str] | None:
    if claim is None:
        return "ClaimNotFound", f"claim {name} does not exist"
    spec = claim.get("spec") or {}
    if spec.get("volumeMode") == "Block":
        return "BlockMode", f"claim {name} is a block device: only file systems are read"
    if (claim.get("status") or {}).get("phase") != "Bound":
        return "ClaimNotBound", f"claim {name} is not bound to a volume"
    pv = view.volumes.get(spec.get("volumeName") or "")
    if pv is not None and "hostPath" in (pv.get("spec") or {}) and not _allowed(view, pv["spec"]):
        return (
            "HostPath",
            f"claim {name} is bound to a hostPath volume, which the kubelet does not mount and no "
            "entry of the chart's agent.hostPaths allows to read",
        )
    return None


def _allowed(view: ClusterView, source: Raw) -> bool:
    """Whether agents may read the directory of a hostPath volume."""
    path = (source["hostPath"] or {}).get("path") or ""
    return hostpaths.prefix_of(path, view.host_paths) is not None


def _opted_out(obj: Raw) -> bool:
    return (obj["metadata"].get("labels") or {}).get(EXCLUDE_FROM_BACKUP) == "true"


def _rank(view: ClusterView, mount: _Mount, entry: PlannedVolume) -> tuple[int, ...]:
    """Which pod of a claim reads it: the most able one; among equals the one that asks for it."""
    conditions = (mount.pod.get("status") or {}).get("conditions") or []
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    order = {
        Coverage.BACKED_UP: 4,
        Coverage.FAILED: 3,
        Coverage.SKIPPED: 2,
        Coverage.UNPROTECTED: 1,
    }
    has_agent = entry.node in view.agent_nodes
    return (order.get(entry.coverage, 0), int(has_agent), int(mount.wanted), int(ready))


def _unmounted(view: ClusterView, namespace: str, claim: Raw) -> PlannedVolume:
    name = _name(claim)
    coverage, reason, message = Coverage.UNPROTECTED, "NotMounted", f"no pod mounts claim {name}"
    if (namespace, name) in view.mounted_by_others:
        reason = "PodNotChosen"
        message = f"the selection leaves out the pods that mount claim {name}"
    if _opted_out(claim):
        coverage, (reason, message) = Coverage.SKIPPED, _OPTED_OUT
    return _of_nobody(namespace, claim).model_copy(
        update={"coverage": coverage, "reason": reason, "message": message}
    )


def _of_nobody(namespace: str, claim: Raw) -> PlannedVolume:
    """The entry of a claim without a pod."""
    return PlannedVolume(
        pod=PodReference(namespace=namespace, name="", uid=""),
        node="",
        volume=_name(claim),
        volume_type="persistentVolumeClaim",
        coverage=Coverage.UNPROTECTED,
        excludes=excludes.annotated(EXCLUDE, claim),
        claim=_claim_reference(claim),
        storage_class=claim["spec"].get("storageClassName"),
        access_modes=tuple(claim["spec"].get("accessModes") or ()),
        capacity=_capacity(claim),
    )


def owner_of(pod: Raw) -> tuple[str, str, str]:
    """(kind, name, ordinal) of what made the pod; a Deployment's pods are named after it.

    The ordinal tells siblings apart where their names do (StatefulSet), else it is empty.
    """
    references = pod["metadata"].get("ownerReferences") or []
    owner = next((r for r in references if r.get("controller")), None)
    if owner is None:
        return "", "", ""
    kind, name = owner["kind"], owner["name"]
    if kind == "ReplicaSet":
        template = (pod["metadata"].get("labels") or {}).get("pod-template-hash")
        if template and name.endswith(f"-{template}"):
            return "Deployment", name.removesuffix(f"-{template}"), ""
    if kind == "StatefulSet":
        match = re.search(r"-(\d+)$", _name(pod))
        return kind, name, match.group(1) if match else ""
    return kind, name, ""


def _claim_reference(claim: Raw) -> ClaimReference:
    return ClaimReference(
        name=_name(claim),
        uid=claim["metadata"].get("uid", ""),
        volume_name=claim["spec"].get("volumeName") or "",
    )


def _capacity(claim: Raw | None) -> str | None:
    if claim is None:
        return None
    status = (claim.get("status") or {}).get("capacity") or {}
    asked = ((claim["spec"].get("resources") or {}).get("requests")) or {}
    return status.get("storage") or asked.get("storage")


def _ns(obj: Raw) -> str:
    return str(obj["metadata"].get("namespace", ""))


def _name(obj: Raw) -> str:
    return str(obj["metadata"]["name"])
