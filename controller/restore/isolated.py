"""What may run in a copy that reaches nobody, and what is changed so that it can. Pure.

Problem: a verification starts a backup's pods beside the ones that work. A copy that writes into a
node's directory or a shared file system, takes another's address, evicts another's pod, runs
another's job or is acted upon by an operator does harm that no NetworkPolicy holds back.
Decision: kinds are listed that may come, not those that may not: what pods need to start, and their
owners. Definitions of others' kinds, rights, jobs, everything of the cluster's, and the backup's
own NetworkPolicies (policies add up: one that allows is enough) stay out. A pod that would use its
node, or a volume that is neither its own nor a claim, stays out with its owner. What is left loses
addresses from outside, priority, ports of nodes and hooks; claims get disks of their own.
Limits: a custom resource's pods are its operator's, and do not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ararat.api.names import INIT_HOOK_RESTORE, POST_HOOK_RESTORE
from ararat.api.restore import ExistingResourcePolicy, RestoreSpec, RestoreVolumesMode
from ararat.errors import InvalidSpec

from .claims import class_of
from .classes import StorageClasses
from .skips import Skip
from .stored import Object, StoredObject
from .templates import pod_metadata, pod_spec

_KINDS = frozenset(
    {
        "configmaps", "controllerrevisions.apps", "deployments.apps", "limitranges", "namespaces",
        "persistentvolumeclaims", "pods", "replicasets.apps", "replicationcontrollers", "secrets",
        "serviceaccounts", "services", "statefulsets.apps",
    }
)  # fmt: skip
#: Volumes that are the pod's own, or made for it.
_VOLUMES = frozenset(
    {
        "configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
        "secret",
    }
)  # fmt: skip
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_PRIORITY = ("priorityClassName", "priority", "preemptionPolicy")
_OUTSIDE = (
    "allocateLoadBalancerNodePorts", "externalIPs", "externalTrafficPolicy", "healthCheckNodePort",
    "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges",
)  # fmt: skip
_CONTAINERS = ("initContainers", "containers")
_HOOKS = (*INIT_HOOK_RESTORE, *POST_HOOK_RESTORE)


def check(spec: RestoreSpec, namespaces: Mapping[str, str]) -> None:
    """``namespaces``: where each chosen one goes. Raises InvalidSpec."""
    wrong = ""
    if stays := sorted(old for old, new in namespaces.items() if old == new):
        wrong = f"namespace {stays[0]} must be mapped to another"
    elif spec.include_cluster_resources is not False:
        wrong = "includeClusterResources must be false"
    elif spec.existing_resource_policy is not ExistingResourcePolicy.NONE:
        wrong = "existingResourcePolicy must be None"
    elif spec.volumes.mode is not RestoreVolumesMode.NEW_POD or spec.volumes.reuse:
        wrong = "volumes come back as new ones only"
    if wrong:
        raise InvalidSpec(f"isolated: {wrong}", reason="NotIsolated")


def why_not(obj: StoredObject) -> Skip | None:
    """Why an object stays out; None: it may come."""
    if obj.resource not in _KINDS:
        return Skip("ReachesOut", "is not needed to start pods, or would act beyond its namespace")
    spec = pod_spec(obj.resource, dict(obj.body))
    why = _reaches(spec) if spec is not None else ""
    return Skip("ReachesOut", why) if why else None


def _reaches(spec: Mapping[str, Any]) -> str:
    for field in _HOST:
        if spec.get(field):
            return f"its pods use {field}"
    for volume in spec.get("volumes") or []:
        sources = set(volume) - {"name"} - _VOLUMES
        if sources:
            return f"its pods mount {min(sources)} volume {volume['name']}, which is not a copy's"
    for field in _CONTAINERS:
        for container in spec.get(field) or []:
            if (container.get("securityContext") or {}).get("privileged"):
                return f"container {container['name']} of its pods is privileged"
    return ""


def confine(resource: str, body: Object, classes: StorageClasses) -> None:
    """Change what comes so that it reaches nobody (in place)."""
    metadata = body["metadata"]
    match resource:
        case "namespaces":  # it is there, and made for this
            metadata.pop("labels", None)
            metadata.pop("annotations", None)
        case "services":
            _confine_service(body)
        case "persistentvolumeclaims":
            _own_disk(body, classes)
        case "statefulsets.apps":
            for template in body["spec"].get("volumeClaimTemplates") or []:
                _own_disk(template, classes)
    spec = pod_spec(resource, body)
    if spec is None:
        return
    described = pod_metadata(resource, body)
    annotations = described.get("annotations") or {}
    for key in [key for key in annotations if key.startswith(_HOOKS)]:
        annotations.pop(key)
    for field in _PRIORITY:
        spec.pop(field, None)
    for volume in spec.get("volumes") or []:
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template:
            _own_disk(template, classes)
    for field in _CONTAINERS:
        for container in spec.get(field) or []:
            for port in container.get("ports") or []:
                port.pop("hostPort", None)
                port.pop("hostIP", None)


def own_classes(classes: StorageClasses) -> StorageClasses:
    """Disks that lie about ready made are somebody's: claims get new ones."""
    return replace(classes, static=frozenset())


def _confine_service(body: Object) -> None:
    # Whoever publishes names or makes balancers goes by annotations.
    body["metadata"].pop("annotations", None)
    spec = body["spec"]
    if spec.get("type") in ("LoadBalancer", "NodePort"):
        spec["type"] = "ClusterIP"
    for field in _OUTSIDE:
        spec.pop(field, None)
    for port in spec.get("ports") or []:
        port.pop("nodePort", None)


def _own_disk(claim: Object, classes: StorageClasses) -> None:
    spec = claim["spec"]
    spec.pop("selector", None)
    if class_of({"metadata": {}, **claim}) == "" and "" not in classes.mapping:
        spec.pop("storageClassName", None)
        (claim.get("metadata") or {}).pop("annotations", None)
