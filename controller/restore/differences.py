"""In what an existing object differs from the backup's, and how to make it alike. Pure.

Problem: of an object that exists, most fields were written by the server, by controllers, or by
another version's defaults; a report that lists those hides the one that matters.
Decision: both sides go through the same preparation first, then what is empty, what well-known
defaults say and what controllers note in annotations is taken off. What is left is named by path,
list items by their name (``spec.template.spec.containers[web].image``), values never: they may be
secret.
Decision: an update is a merge patch from one to the other. Fields are set and removed as in the
backup; labels and annotations that others added stay; what an object *is* (a namespace's spec, an
account's tokens, a pod) is never patched.
Limits: there is no common ancestor, so that a field which somebody added since goes with an update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .metadata import drop
from .stored import Object
from .transform import Target, prepare
from .workloads import merge_account

#: Paths that are reported of one object, at most.
LIMIT = 10
#: Notes of controllers; the next one they write differs.
_NOTES = frozenset(
    {
        "autoscaling.alpha.kubernetes.io/conditions",
        "autoscaling.alpha.kubernetes.io/current-metrics",
        "control-plane.alpha.kubernetes.io/leader",
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
        "deployment.kubernetes.io/revision",
        "deployment.kubernetes.io/revision-history",
        "deprecated.daemonset.template.generation",
        "endpoints.kubernetes.io/last-change-trigger-time",
        "kubectl.kubernetes.io/last-applied-configuration",
    }
)
#: What newer servers fill in where an older one wrote nothing.
_DEFAULTS: Mapping[str, frozenset[Any]] = {
    "allocateLoadBalancerNodePorts": frozenset({True}),
    "completionMode": frozenset({"NonIndexed"}),
    "internalTrafficPolicy": frozenset({"Cluster"}),
    "ipFamilyPolicy": frozenset({"SingleStack"}),
    "manualSelector": frozenset({False}),
    "maxSurge": frozenset({0}),
    "podManagementPolicy": frozenset({"OrderedReady"}),
    "podReplacementPolicy": frozenset({"TerminatingOrFailed"}),
    "preemptionPolicy": frozenset({"PreemptLowerPriority"}),
    "reinvocationPolicy": frozenset({"Never"}),
    "requiresRepublish": frozenset({False}),
    "seLinuxMount": frozenset({False}),
    "storageCapacity": frozenset({False}),
    "suspend": frozenset({False}),
    "volumeMode": frozenset({"Filesystem"}),
    "whenDeleted": frozenset({"Retain"}),
    "whenScaled": frozenset({"Retain"}),
}
#: Where the empty text is a value like any other.
_TEXTS = frozenset({"configmaps", "secrets"})


def differences(resource: str, existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Paths of fields in which an existing object differs from the one to create, sorted."""
    full_left, full_right = _prepared_pair(resource, existing, wanted)
    left, right = _comparable(resource, full_left), _comparable(resource, full_right)
    return sorted(set(_paths(left, right, "")))[:LIMIT]


def update(resource: str, existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> Object | None:
    """The merge patch that makes an existing object as it is in the backup; None: nothing to do.

    It holds the resource version: whoever changes the object in between is not overwritten.
    """
    if resource == "pods" or not differences(resource, existing, wanted):
        return None
    if resource == "serviceaccounts":
        patch = merge_account(existing, wanted)
    else:
        left, right = _prepared_pair(resource, existing, wanted)
        patch = _merge(_comparable(resource, left), _comparable(resource, right), left, right)
        metadata = _metadata(left["metadata"], right["metadata"])
        patch.pop("metadata", None)
        patch |= {"metadata": metadata} if metadata else {}
        if resource == "namespaces":
            patch.pop("spec", None)
        if resource == "services":
            _keep_allocated(patch, existing)
    if not patch:
        return None
    version = existing["metadata"].get("resourceVersion")
    if version:
        patch["metadata"] = {**patch.get("metadata", {}), "resourceVersion": version}
    return patch


# --- the same form ------------------------------------------------------------------------------


def _prepared_pair(
    resource: str, existing: Mapping[str, Any], wanted: Mapping[str, Any]
) -> tuple[Object, Object]:
    left, right = _prepared(resource, existing), _prepared(resource, wanted)
    if resource == "services":
        _drop_allocated(left["spec"], right["spec"])
    return left, right


def _prepared(resource: str, body: Mapping[str, Any]) -> Object:
    target = Target(preserve_node_ports=True)
    made = prepare(resource, body, target, keep_volume=True).body
    made.pop("apiVersion", None)
    made.pop("kind", None)
    drop(made["metadata"], "annotations", _NOTES)
    if resource == "persistentvolumeclaims":
        made["spec"].pop("volumeName", None)
    return made


def _drop_allocated(spec: Object, wanted: Mapping[str, Any]) -> None:
    """Node ports that an existing service got where the wanted one asks for none (in place)."""
    asking = {
        (port.get("port"), port.get("protocol", "TCP"))
        for port in wanted.get("ports") or []
        if port.get("nodePort")
    }
    for port in spec.get("ports") or []:
        if (port.get("port"), port.get("protocol", "TCP")) not in asking:
            port.pop("nodePort", None)
    if "healthCheckNodePort" not in wanted:
        spec.pop("healthCheckNodePort", None)


def _keep_allocated(patch: Object, existing: Mapping[str, Any]) -> None:
    """Ports that are written anew keep the node ports they have (in place)."""
    have = {
        (port.get("port"), port.get("protocol", "TCP")): port["nodePort"]
        for port in (existing.get("spec") or {}).get("ports") or []
        if port.get("nodePort")
    }
    spec = patch.get("spec") or {}
    if not spec.get("ports") or spec.get("type", "NodePort") not in ("NodePort", "LoadBalancer"):
        return
    spec["ports"] = [
        {"nodePort": have[key], **port}
        if (key := (port.get("port"), port.get("protocol", "TCP"))) in have
        else port
        for port in spec["ports"]
    ]


def _comparable(resource: str, prepared: Object) -> Object:
    made: Object = _quiet(prepared) or {}
    if resource in _TEXTS:
        made |= {key: prepared[key] for key in ("data", "binaryData") if prepared.get(key)}
    return made


def _quiet(value: Any, key: str = "") -> Any:
    """Without what means nothing; None where nothing is left."""
    if isinstance(value, dict):
        inner = {name: _quiet(part, name) for name, part in value.items()}
        return {name: part for name, part in inner.items() if part is not None} or None
    if isinstance(value, list):
        return [_quiet(part) for part in value] or None
    if value == "" and key != "storageClassName":
        return None
    if key in _DEFAULTS and value in _DEFAULTS[key]:
        return None
    return value


# --- paths --------------------------------------------------------------------------------------


def _paths(left: Any, right: Any, at: str) -> Iterator[str]:
    if left == right:
        return
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            yield from _paths(left.get(key), right.get(key), f"{at}.{key}" if at else str(key))
        return
    if isinstance(left, list) and isinstance(right, list):
        ours, theirs = _by_name(left), _by_name(right)
        if ours is not None and theirs is not None:
            for name in ours.keys() | theirs.keys():
                yield from _paths(ours.get(name), theirs.get(name), f"{at}[{name}]")
            if ours.keys() == theirs.keys() and ours == theirs:
                yield at  # the same items in another order
            return
        if len(left) == len(right):
            for number, (one, other) in enumerate(zip(left, right, strict=True)):
                yield from _paths(one, other, f"{at}[{number}]")
            return
    yield at or "."


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    """Items by their name, where each has one of its own."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        return None
    return dict(zip((str(name) for name in names), items, strict=True))


# --- the patch ----------------------------------------------------------------------------------


def _merge(left: Any, right: Any, full_left: Any, full_right: Any) -> Object:
    """RFC 7386, from one to the other: compared quietly, written in full."""
    patch: Object = {}
    for key in left.keys() | right.keys():
        old, new = left.get(key), right.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            patch[key] = _merge(old, new, full_left[key], full_right[key])
        else:
            patch[key] = full_right.get(key)
    return patch


def _metadata(left: Mapping[str, Any], right: Mapping[str, Any]) -> Object:
    """Labels and annotations of the backup; those of others stay."""
    found: Object = {}
    for field in ("labels", "annotations"):
        have = left.get(field) or {}
        changed = {k: v for k, v in (right.get(field) or {}).items() if have.get(k) != v}
        if changed:
            found[field] = changed
    return found
