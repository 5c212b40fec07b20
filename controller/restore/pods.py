"""A stored pod, as it can be created again. Pure.

Decision: what the scheduler, the kubelet and admission put into a pod is taken out, so that they
put in what is right *now*: node, priority (recomputed from its class; a stale number is refused),
overhead, ephemeral containers (refused at creation), the mounted service-account token. Both forms
of the latter are known: a projected volume ``kube-api-access-…`` (1.21 and later), and a Secret
``<account>-token-…`` (before). A pod's own projected tokens stay.
Gates of an earlier restore go, Ararat's and Velero's alike: nobody would ever open them. So do the
init containers that an earlier restore's hooks put there.
Networks' answers in annotations go, because some network plugins take them for requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ararat import gate

from .hooks import inject
from .metadata import drop
from .stored import Object

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_PROJECTED_TOKEN = re.compile(r"^kube-api-access-[a-z0-9]{5}$")
#: Velero's gate, and what it was called before.
_OTHER_GATES = frozenset({"restic-wait", "restore-wait"})
_CONTAINERS = ("initContainers", "containers")
_DECIDED_ANEW = (
    "nodeName",
    "priority",
    "preemptionPolicy",
    "overhead",
    "ephemeralContainers",
)
_NETWORK_ANSWERS = frozenset(
    {
        "cni.projectcalico.org/containerID",
        "cni.projectcalico.org/podIP",
        "cni.projectcalico.org/podIPs",
        "k8s.ovn.org/pod-networks",
        "k8s.v1.cni.cncf.io/network-status",
        "k8s.v1.cni.cncf.io/networks-status",
    }
)


def prepare_pod(pod: Object) -> None:
    """Make a stripped pod creatable (in place)."""
    spec = pod["spec"]
    for field in _DECIDED_ANEW:
        spec.pop(field, None)
    drop(pod["metadata"], "annotations", _NETWORK_ANSWERS)
    inject.remove(pod)
    _drop_containers(spec, _OTHER_GATES)
    _drop_volumes(spec, {gate.VOLUME} | _token_volumes(spec))


def claims_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """Volume name → claim name, for volumes that are claims."""
    return {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in spec.get("volumes") or []
        if "persistentVolumeClaim" in volume
    }


def mounted_volumes(spec: Mapping[str, Any]) -> set[str]:
    """Volumes that a container mounts; the kubelet does not set up the others."""
    return {
        mount["name"]
        for field in _CONTAINERS
        for container in spec.get(field) or []
        for mount in container.get("volumeMounts") or []
    }


def pod_lifetime_volumes(spec: Mapping[str, Any]) -> list[str]:
    """Volumes that live and die with the pod and hold files: emptyDir, generic ephemeral."""
    return [
        volume["name"]
        for volume in spec.get("volumes") or []
        if "emptyDir" in volume or "ephemeral" in volume
    ]


def _token_volumes(spec: Mapping[str, Any]) -> set[str]:
    account = spec.get("serviceAccountName") or "default"
    secret_token = re.compile(rf"^{re.escape(account)}-token-[a-z0-9]{{5}}$")
    mounted = {
        mount["name"]
        for field in _CONTAINERS
        for container in spec.get(field) or []
        for mount in container.get("volumeMounts") or []
        if mount.get("mountPath") == TOKEN_PATH
    }
    found = set()
    for volume in spec.get("volumes") or []:
        name = volume["name"]
        if "projected" in volume and _PROJECTED_TOKEN.match(name):
            found.add(name)
        secret = (volume.get("secret") or {}).get("secretName", "")
        if secret == name and secret_token.match(secret) and name in mounted:
            found.add(name)
    return found


def _drop_volumes(spec: Object, names: set[str]) -> None:
    _keep(spec, "volumes", lambda volume: volume["name"] not in names)
    for field in _CONTAINERS:
        for container in spec.get(field) or []:
            _keep(container, "volumeMounts", lambda mount: mount["name"] not in names)


def _drop_containers(spec: Object, names: frozenset[str]) -> None:
    _keep(spec, "initContainers", lambda container: container["name"] not in names)


def _keep(holder: Object, field: str, wanted: Any) -> None:
    if field not in holder:
        return
    kept = [item for item in holder[field] or [] if wanted(item)]
    if kept:
        holder[field] = kept
    else:
        holder.pop(field)
