"""Which workloads must be scaled to zero so that nobody uses a claim. Pure.

Decision: a workload uses a claim if its pod template mounts it, or if it is a StatefulSet that has
made the claim from a template. Only what stands on its own is scaled: a ReplicaSet of a Deployment
follows that. A pod that uses the claim and that no such workload makes (a bare one, a DaemonSet's,
a Job's, an operator's) cannot be scaled away, and then nothing is scaled at all for that claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ararat.api.names import HELPER, SCALED_DOWN
from ararat.api.restore import ScaledWorkload
from ararat.kube.resources import (
    DEPLOYMENTS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    ResourceType,
)

from .pods import claims_of
from .stored import Object

SCALABLE: Mapping[str, ResourceType] = {
    rt.qualified: rt for rt in (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS)
}


@dataclass(frozen=True)
class Workload:
    resource: str
    body: Object

    @property
    def uid(self) -> str:
        return str(self.body["metadata"]["uid"])

    @property
    def id(self) -> str:
        metadata = self.body["metadata"]
        return f"{SCALABLE[self.resource].kind} {metadata['namespace']}/{metadata['name']}"

    @property
    def replicas(self) -> int:
        replicas = self.body["spec"].get("replicas")
        return 1 if replicas is None else int(replicas)

    @property
    def owner(self) -> Mapping[str, str] | None:
        return _controller(self.body)

    def uses(self, claim: str) -> bool:
        spec, name = self.body["spec"], self.body["metadata"]["name"]
        template = (spec.get("template") or {}).get("spec") or {}
        if claim in claims_of(template).values():
            return True
        return any(
            re.fullmatch(rf"{re.escape(made['metadata']['name'])}-{re.escape(name)}-\d+", claim)
            for made in spec.get("volumeClaimTemplates") or []
        )

    def recorded(self) -> ScaledWorkload:
        metadata = self.body["metadata"]
        return ScaledWorkload(
            resource=self.resource,
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=self.uid,
            replicas=self.replicas,
        )


@dataclass(frozen=True)
class Use:
    """Who uses a claim."""

    #: Those that make its pods and stand on their own.
    workloads: tuple[Workload, ...]
    #: Pods that have not gone yet.
    pods: tuple[str, ...] = ()
    #: Why it cannot be freed by scaling, in one sentence.
    problem: str = ""


def scaled_by(body: Object) -> str:
    """The name of the restore that has scaled a workload to zero."""
    mark = (body["metadata"].get("annotations") or {}).get(SCALED_DOWN, "")
    return str(mark).partition(" ")[0]


def use_of(claim: str, workloads: Sequence[Workload], pods: Iterable[Object]) -> Use:
    """``workloads`` and ``pods`` are those of the claim's namespace."""
    by_uid = {workload.uid: workload for workload in workloads}
    using = tuple(w for w in workloads if w.owner is None and w.uses(claim))
    known = {workload.uid for workload in using}
    left, problem = [], ""
    for pod in pods:
        metadata = pod["metadata"]
        if claim not in claims_of(pod["spec"]).values() or HELPER in (metadata.get("labels") or {}):
            continue
        left.append(metadata["name"])
        owner = _controller(pod)
        above = by_uid.get(owner["uid"]) if owner is not None else None
        if above is not None and above.owner is not None:
            owner, above = above.owner, by_uid.get(above.owner["uid"])
        if metadata.get("deletionTimestamp") or (above is not None and above.uid in known):
            continue
        maker = f"{owner['kind']} {owner['name']}" if owner is not None else "nobody"
        problem = problem or (
            f"pod {metadata['name']} uses the claim and belongs to {maker}, which cannot be scaled "
            "to zero: stop it first, or restore without --scale-down"
        )
    return Use(using, tuple(sorted(left)), problem)


def _controller(body: Object) -> Mapping[str, str] | None:
    owners = body["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)
