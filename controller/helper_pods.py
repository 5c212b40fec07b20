"""Pods of ours that mount a claim for a node job, where no pod of the user's does.

Problem: the agent reads what the kubelet mounted, and a claim without a pod is mounted nowhere.
Decision: a small pod that does nothing, in the claim's namespace. It passes the ``restricted``
profile, asks for little, is the same image as the gate (already on every node that has an agent),
has no service account's token, and sets no fsGroup: the kubelet must not change owners. It is left
out of every backup. Whoever made it removes it; ``HelperReaper`` removes it as well, as soon as
the Backup or Restore it was made for is gone or has ended: a controller that was killed leaves
nothing behind for longer than its successor needs to start.
Limits: where no controller comes back, a person removes it (label ``ararat.dev/helper``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ararat import naming
from ararat.api.names import EXCLUDE_FROM_BACKUP, HELPER, OWNER_UID
from ararat.kube.api import KubeApi
from ararat.kube.informer import Informer
from ararat.kube.resources import PODS

VOLUME = "data"
_UNPRIVILEGED = 65532
#: Ends at once when it is told to: the first process of a container ignores signals otherwise.
_WAIT = (
    "import signal, sys; "
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    "[signal.pause() for _ in iter(int, 1)]"
)


@dataclass(frozen=True)
class HelperSpec:
    namespace: str
    claim: str
    #: UID of the Backup or Restore that it is made for.
    owner_uid: str
    #: ``backup`` or ``restore``: part of its name.
    purpose: str
    image: str
    pull_policy: str = ""
    read_only: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Only there, where the volume can be attached nowhere else.
    node: str = ""

    @property
    def name(self) -> str:
        """Derived: a controller that was killed finds it instead of making it twice."""
        return naming.object_name(
            "ararat", self.purpose, self.claim, unique=(self.namespace, self.owner_uid)
        )


def build(spec: HelperSpec) -> dict[str, Any]:
    """The pod to create."""
    container: dict[str, Any] = {
        "name": "wait",
        "image": spec.image,
        "command": ["python3", "-I", "-S", "-c", _WAIT],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "100m", "memory": "32Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": _UNPRIVILEGED,
            "runAsGroup": _UNPRIVILEGED,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": VOLUME, "mountPath": "/data", "readOnly": spec.read_only}],
    }
    if spec.pull_policy:
        container["imagePullPolicy"] = spec.pull_policy
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": {
                **spec.labels,
                HELPER: "true",
                OWNER_UID: spec.owner_uid,
                EXCLUDE_FROM_BACKUP: "true",
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": VOLUME, "persistentVolumeClaim": {"claimName": spec.claim}}],
        },
    }
    if spec.node:
        here = {"key": "metadata.name", "operator": "In", "values": [spec.node]}
        terms = [{"matchFields": [here]}]
        pod["spec"]["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
            }
        }
    return pod


def is_helper(pod: Mapping[str, Any]) -> bool:
    return (pod["metadata"].get("labels") or {}).get(HELPER) == "true"


def trouble(pod: Mapping[str, Any]) -> str:
    """Why a helper does not run yet, as far as its status says."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            return str(condition["message"])
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("message") or waiting.get("reason"):
            return str(waiting.get("message") or waiting.get("reason"))
    return "no cause given"


async def remove(api: KubeApi, pod: Mapping[str, Any]) -> None:
    metadata = pod["metadata"]
    await api.delete(PODS, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])


class HelperReaper:
    """Removes helpers whose run is over. Keys are ``namespace/name`` of pods."""

    def __init__(self, api: KubeApi, *, helpers: Informer, needed: Callable[[str], bool]) -> None:
        """``needed``: whether the Backup or Restore with this UID is under way."""
        self._api = api
        self._helpers = helpers
        self._needed = needed

    async def reconcile(self, key: str) -> float | None:
        pod = self._helpers.by_key(key)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return None
        if not self._needed((pod["metadata"].get("labels") or {}).get(OWNER_UID, "")):
            await remove(self._api, pod)
        return None
