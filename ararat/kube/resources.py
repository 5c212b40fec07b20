"""Which resources Ararat talks about, and how their addresses are built.

Decision: a ``ResourceType`` is all that is needed to reach any resource, built-in or custom, so the
client needs no generated class per kind. Constants name what our code uses by hand; everything else
comes from discovery.
Limits: the constants name versions that every supported server has (1.20 and later). Kinds that
changed version since (CronJob, PodDisruptionBudget) must be found by discovery.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ararat.api.base import GROUP, VERSION, Resource


@dataclass(frozen=True)
class ResourceType:
    """One kind of one API version. Equality ignores what only discovery knows."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    verbs: tuple[str, ...] = field(default=(), compare=False)
    short_names: tuple[str, ...] = field(default=(), compare=False)
    singular: str = field(default="", compare=False)
    categories: tuple[str, ...] = field(default=(), compare=False)

    @property
    def api_version(self) -> str:
        """As in an object's ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """``deployments.apps``, ``pods``: unique in a cluster whatever the version."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(
        self,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> str:
        """The address below the server's root, with every part quoted.

        Raises ValueError where parts are missing or would lead elsewhere.
        """
        if name is not None and not self.namespaced and namespace:
            namespace = None
        if name is not None and self.namespaced and not namespace:
            raise ValueError(f"{self.qualified} {name} needs a namespace")
        parts = [self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", _segment(namespace)]
        parts.append(self.plural)
        if name is not None:
            parts.append(_segment(name))
            if subresource:
                parts.append(subresource)
        return ("/apis/" if self.group else "/api/") + "/".join(parts)

    def __str__(self) -> str:
        return self.qualified


def _segment(text: str) -> str:
    if not text or text in {".", ".."} or "/" in text or "%" in text:
        raise ValueError(f"{text!r} is not a name")
    return quote(text, safe="")


def of(kind: type[Resource[Any, Any]]) -> ResourceType:
    """One of our own kinds."""
    return ResourceType(
        group=GROUP,
        version=VERSION,
        plural=kind.PLURAL,
        kind=kind.KIND,
        namespaced=True,
        short_names=kind.SHORT_NAMES,
        singular=kind.KIND.lower(),
    )


def _core(plural: str, kind: str, *, namespaced: bool = True) -> ResourceType:
    return ResourceType("", "v1", plural, kind, namespaced)


def _apps(plural: str, kind: str) -> ResourceType:
    return ResourceType("apps", "v1", plural, kind)


def _rbac(plural: str, kind: str, *, namespaced: bool) -> ResourceType:
    return ResourceType("rbac.authorization.k8s.io", "v1", plural, kind, namespaced)


NAMESPACES = _core("namespaces", "Namespace", namespaced=False)
NODES = _core("nodes", "Node", namespaced=False)
PVS = _core("persistentvolumes", "PersistentVolume", namespaced=False)
PVCS = _core("persistentvolumeclaims", "PersistentVolumeClaim")
PODS = _core("pods", "Pod")
SECRETS = _core("secrets", "Secret")
CONFIG_MAPS = _core("configmaps", "ConfigMap")
SERVICES = _core("services", "Service")
ENDPOINTS = _core("endpoints", "Endpoints")
SERVICE_ACCOUNTS = _core("serviceaccounts", "ServiceAccount")
LIMIT_RANGES = _core("limitranges", "LimitRange")
RESOURCE_QUOTAS = _core("resourcequotas", "ResourceQuota")
REPLICATION_CONTROLLERS = _core("replicationcontrollers", "ReplicationController")
EVENTS = _core("events", "Event")

DEPLOYMENTS = _apps("deployments", "Deployment")
REPLICA_SETS = _apps("replicasets", "ReplicaSet")
STATEFUL_SETS = _apps("statefulsets", "StatefulSet")
DAEMON_SETS = _apps("daemonsets", "DaemonSet")
CONTROLLER_REVISIONS = _apps("controllerrevisions", "ControllerRevision")
JOBS = ResourceType("batch", "v1", "jobs", "Job")

ROLES = _rbac("roles", "Role", namespaced=True)
ROLE_BINDINGS = _rbac("rolebindings", "RoleBinding", namespaced=True)
NETWORK_POLICIES = ResourceType("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")

CLUSTER_ROLES = _rbac("clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = _rbac("clusterrolebindings", "ClusterRoleBinding", namespaced=False)

STORAGE_CLASSES = ResourceType(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False
)
CSI_DRIVERS = ResourceType("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced=False)
VOLUME_ATTACHMENTS = ResourceType(
    "storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False
)
PRIORITY_CLASSES = ResourceType(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False
)
RUNTIME_CLASSES = ResourceType(
    "node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False
)
CRDS = ResourceType(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
LEASES = ResourceType("coordination.k8s.io", "v1", "leases", "Lease")
MUTATING_WEBHOOKS = ResourceType(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_WEBHOOKS = ResourceType(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
SELF_SUBJECT_ACCESS_REVIEWS = ResourceType(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
)
