"""What is never brought back, and why. Pure.

Decision: an object stays out when the cluster makes it by itself (and a restored copy would be in
its way), when it describes a moment or a node that is gone, or when somebody else makes it: pods of
DaemonSets, Jobs and custom owners come from their owner, claims of generic ephemeral volumes from
their pod. Pods that come back are those whose owner *adopts* what it finds: bare ones, and those of
ReplicaSets, ReplicationControllers and StatefulSets. Every skip has a reason that is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ararat.api import GROUP

from .stored import StoredObject
from .workloads import is_automatic_token

_KINDS = {
    "certificatesigningrequests.certificates.k8s.io": "signed for the old cluster",
    "ciliumendpoints.cilium.io": "made by the network plugin for each pod",
    "componentstatuses": "describes the old control plane",
    "csinodes.storage.k8s.io": "describes a node of the old cluster",
    "csistoragecapacities.storage.k8s.io": "measured by the storage driver",
    "events": "describes a moment of the old cluster",
    "events.events.k8s.io": "describes a moment of the old cluster",
    "ipaddresses.networking.k8s.io": "allocated by the cluster for each service",
    "leases.coordination.k8s.io": "held by a process of the old cluster",
    "nodes": "a machine of the old cluster",
    "nodes.metrics.k8s.io": "a measurement",
    "pods.metrics.k8s.io": "a measurement",
    "resourceslices.resource.k8s.io": "describes a node of the old cluster",
    "volumeattachments.storage.k8s.io": "a volume on a node of the old cluster",
}
#: Owners that take over a pod which they find.
ADOPTING = frozenset({"ReplicaSet", "ReplicationController", "StatefulSet"})
_PUBLISHED = frozenset({"kube-root-ca.crt", "openshift-service-ca.crt"})
_BOOTSTRAP_LABEL = "kubernetes.io/bootstrapping"
_AUTOMANAGED_LABEL = "kube-aggregator.kubernetes.io/automanaged"
_AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
_MIRROR = "kubernetes.io/config.mirror"
_SLICE_MANAGER = "endpointslice.kubernetes.io/managed-by"


@dataclass(frozen=True)
class Skip:
    reason: str
    message: str


class Skips:
    """The decider; knows the services of the backup, because endpoints depend on them."""

    def __init__(self, objects: Iterable[StoredObject]) -> None:
        self._selecting = {
            (obj.namespace, obj.name)
            for obj in objects
            if obj.resource == "services" and obj.spec.get("selector")
        }

    def why(self, obj: StoredObject) -> Skip | None:
        """Why the object stays out; None: it comes back."""
        if obj.group == GROUP:
            return Skip("OwnKind", "Ararat's own objects are not brought back")
        kind = _KINDS.get(obj.resource)
        if kind is not None:
            return Skip("ClusterOwned", kind)
        if obj.metadata.get("deletionTimestamp"):
            return Skip("Terminating", "was being deleted when the backup was made")
        owner = next(
            (
                owner
                for owner in obj.metadata.get("ownerReferences") or []
                if owner.get("kind") in ("Pod", "Node") and owner.get("apiVersion") == "v1"
            ),
            None,
        )
        if owner is not None and obj.resource != "pods":
            return Skip(
                "MadeByItsPod" if owner["kind"] == "Pod" else "ClusterOwned",
                f"belongs to {owner['kind'].lower()} {owner.get('name')} and comes with it",
            )
        return self._by_kind(obj)

    def _by_kind(self, obj: StoredObject) -> Skip | None:
        match obj.resource:
            case "pods":
                return why_not_pod(obj)
            case "jobs.batch":
                return _why_not_job(obj)
            case "configmaps" if obj.name in _PUBLISHED:
                return Skip("ClusterOwned", "published by the cluster into every namespace")
            case "secrets" if is_automatic_token(obj):
                return Skip("ClusterOwned", "a token that the cluster made for an account")
            case "services" | "endpoints" if obj.path == "default/kubernetes":
                return Skip("ClusterOwned", "the API server's own service")
            case "endpoints" if (obj.namespace, obj.name) in self._selecting:
                return Skip("ClusterOwned", "filled by its service")
            case "endpointslices.discovery.k8s.io" if obj.labels.get(_SLICE_MANAGER, "").endswith(
                "-controller.k8s.io"
            ):
                return Skip("ClusterOwned", "filled by its service")
            case "apiservices.apiregistration.k8s.io" if _AUTOMANAGED_LABEL in obj.labels:
                return Skip("ClusterOwned", "made by the API server")
            case "priorityclasses.scheduling.k8s.io" if obj.name.startswith("system-"):
                return Skip("ClusterOwned", "made by the API server")
            case "servicecidrs.networking.k8s.io" if obj.name == "kubernetes":
                return Skip("ClusterOwned", "made by the API server")
        if _AUTOUPDATE in obj.annotations or _BOOTSTRAP_LABEL in obj.labels:
            return Skip("ClusterOwned", "made by the API server")
        return None


def why_not_pod(pod: StoredObject) -> Skip | None:
    """Why a pod stays out."""
    phase = (pod.body.get("status") or {}).get("phase")
    owner = pod.controller
    if _MIRROR in pod.annotations or (owner or {}).get("kind") == "Node":
        return Skip("MirrorPod", "a static pod of a node of the old cluster")
    if phase in ("Succeeded", "Failed"):
        return Skip("PodFinished", f"had ended ({phase})")
    if owner is not None and owner.get("kind") not in ADOPTING:
        return Skip("MadeByItsOwner", f"{owner.get('kind')} {owner.get('name')} makes it")
    return None


def _why_not_job(job: StoredObject) -> Skip | None:
    conditions = (job.body.get("status") or {}).get("conditions") or []
    ended = next(
        (
            str(condition["type"])
            for condition in conditions
            if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True"
        ),
        None,
    )
    if ended is not None:
        return Skip("JobFinished", f"had ended ({ended}) and is not run again")
    owner = job.controller
    if owner is not None and owner.get("kind") == "CronJob":
        return Skip("MadeByItsOwner", f"CronJob {owner.get('name')} makes the next one")
    return None
