"""Which namespaces, kinds and objects a Backup or a Restore means. Pure.

Decision: everything is resolved against what the cluster (or the backup) really has, and a name
that matches nothing is an error rather than an empty result: a typing mistake must not look like
a successful backup of nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ararat.api.backup import Selection
from ararat.api.names import EXCLUDE_FROM_BACKUP
from ararat.errors import InvalidSpec
from ararat.kinds import chosen_kinds, known_kinds, meant_by
from ararat.kube.resources import ResourceType

#: Kinds that are never stored: they describe the moment, belong to the node, or are derived by
#: the cluster from other objects.
NEVER_STORED = frozenset(
    {
        "events",
        "events.events.k8s.io",
        "nodes",
        "componentstatuses",
        "csinodes.storage.k8s.io",
        "volumeattachments.storage.k8s.io",
        "leases.coordination.k8s.io",
        "endpointslices.discovery.k8s.io",
        "nodes.metrics.k8s.io",
        "pods.metrics.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "csistoragecapacities.storage.k8s.io",
        # The same objects as ingresses.networking.k8s.io.
        "ingresses.extensions",
    }
)


def match_namespaces(
    existing: Iterable[str], selection: Selection, *, never: frozenset[str] = frozenset()
) -> list[str]:
    """The namespaces that are meant, sorted.

    ``never`` are left out whatever is asked (Ararat's own). Raises InvalidSpec: an included
    pattern matches no namespace, or nothing is left.
    """
    names = [name for name in existing if name not in never]
    for pattern in selection.included_namespaces:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InvalidSpec(
                f"includedNamespaces: {pattern!r} matches no namespace", reason="NamespaceNotFound"
            )
    included = selection.included_namespaces or ["*"]
    chosen = sorted(
        name
        for name in names
        if any(fnmatchcase(name, p) for p in included)
        and not any(fnmatchcase(name, p) for p in selection.excluded_namespaces)
    )
    if not chosen:
        raise InvalidSpec(
            "no namespace is left after excludedNamespaces", reason="NamespaceNotFound"
        )
    return chosen


def match_resources(available: Sequence[ResourceType], selection: Selection) -> list[ResourceType]:
    """The kinds that are meant, in the given order.

    Raises InvalidSpec: a name that no available kind has, or only kinds that are never stored.
    """
    known = known_kinds(available)
    chosen = chosen_kinds(known, selection, unknown="the cluster has no kind called")
    for word in selection.included_resources:
        meant = meant_by(known, word)
        if meant and meant <= NEVER_STORED:
            raise InvalidSpec(
                f"includedResources: {word!r} is never stored: it describes the moment, or the "
                "cluster makes it anew",
                reason="NeverStored",
            )
    return [
        resource
        for resource in available
        if resource.qualified in chosen
        and resource.qualified not in NEVER_STORED
        and "list" in resource.verbs
    ]


def selects(selection: Selection, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is meant."""
    if selection.label_selector is not None:
        return selection.label_selector.matches(labels)
    if selection.or_label_selectors:
        return any(s.matches(labels) for s in selection.or_label_selectors)
    return True


def left_out(obj: Mapping[str, Any]) -> bool:
    """Whether no backup holds this object, whatever it selects: opted out, or on its way out."""
    metadata = obj.get("metadata", {})
    labels = metadata.get("labels") or {}
    return bool(metadata.get("deletionTimestamp")) or labels.get(EXCLUDE_FROM_BACKUP) == "true"


def wanted(selection: Selection, obj: Mapping[str, Any]) -> bool:
    """Whether this object is stored: selected, not opted out, not on its way out."""
    labels = obj.get("metadata", {}).get("labels") or {}
    return not left_out(obj) and selects(selection, labels)


@dataclass(frozen=True)
class Needs:
    """Cluster-scoped objects that chosen namespaced ones need, by kind and name."""

    names: Mapping[str, frozenset[str]]
    #: Service accounts (namespace, name) whose cluster role bindings come along.
    service_accounts: frozenset[tuple[str, str]]

    def includes(self, resource: ResourceType, obj: Mapping[str, Any]) -> bool:
        key = resource.qualified
        name = obj["metadata"]["name"]
        if name in self.names.get(key, frozenset()):
            return True
        if key == "clusterrolebindings.rbac.authorization.k8s.io":
            return bool(subjects_of(obj) & self.service_accounts)
        return False


def subjects_of(binding: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Service accounts (namespace, name) that a role binding names."""
    return {
        (subject.get("namespace", ""), subject.get("name", ""))
        for subject in binding.get("subjects") or []
        if subject.get("kind") == "ServiceAccount"
    }


class NeedsCollector:
    """Gathers, object by object, what the chosen ones need outside their namespaces."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._accounts: set[tuple[str, str]] = set()

    def add(self, resource: ResourceType, obj: Mapping[str, Any]) -> None:
        spec = obj.get("spec") or {}
        key = resource.qualified
        # Built-in kinds have no definition, so naming theirs changes nothing; custom ones may well
        # be of a group below k8s.io (VolumeSnapshots, Gateways).
        if "." in resource.group:
            self._need("customresourcedefinitions.apiextensions.k8s.io", key)
        if key == "persistentvolumeclaims":
            self._need("persistentvolumes", spec.get("volumeName"))
            self._need("storageclasses.storage.k8s.io", spec.get("storageClassName"))
        elif key == "pods":
            self._need("priorityclasses.scheduling.k8s.io", spec.get("priorityClassName"))
            self._need("runtimeclasses.node.k8s.io", spec.get("runtimeClassName"))
        elif key == "serviceaccounts":
            metadata = obj["metadata"]
            self._accounts.add((metadata.get("namespace", ""), metadata["name"]))
        elif key == "rolebindings.rbac.authorization.k8s.io":
            self.add_role(obj)

    def add_role(self, binding: Mapping[str, Any]) -> None:
        """The cluster role that a binding grants."""
        role = binding.get("roleRef") or {}
        if role.get("kind") == "ClusterRole":
            self._need("clusterroles.rbac.authorization.k8s.io", role.get("name"))

    def _need(self, kind: str, name: object) -> None:
        if isinstance(name, str) and name:
            self._names.setdefault(kind, set()).add(name)

    def needs(self) -> Needs:
        return Needs(
            names={kind: frozenset(names) for kind, names in self._names.items()},
            service_accounts=frozenset(self._accounts),
        )
