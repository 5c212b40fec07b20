"""From a stored object to the object to create. Pure.

One function per kind, each in the module of its noun; this one chooses them. The same function
serves to compare with an object that exists already: both are brought to the same form first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .claims import prepare_claim, prepare_volume
from .classes import DEFAULT_CLASS, StorageClasses, is_default
from .metadata import drop, strip
from .pods import prepare_pod
from .references import rewrite_selectors, rewrite_services, rewrite_subjects
from .services import prepare_service
from .stored import Object
from .workloads import (
    prepare_account,
    prepare_job,
    prepare_namespace,
    prepare_secret,
    prepare_stateful_set,
)

_BINDINGS = frozenset(
    {
        "rolebindings.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
    }
)
_CALLS_SERVICES = frozenset(
    {
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
    }
)


@dataclass(frozen=True)
class Target:
    """What differs between where an object was and where it comes back."""

    namespaces: Mapping[str, str] = field(default_factory=dict)
    classes: StorageClasses = field(default_factory=StorageClasses)


@dataclass(frozen=True)
class Prepared:
    body: Object
    warnings: tuple[str, ...] = ()


def prepare(
    resource: str, body: Mapping[str, Any], target: Target, *, keep_volume: bool = False
) -> Prepared:
    """The object to create. ``keep_volume``: a claim that gets its very own volume back."""
    made = strip(body)
    warnings: list[str] = []
    namespaces = target.namespaces
    metadata = made["metadata"]
    if metadata.get("namespace"):
        metadata["namespace"] = namespaces.get(metadata["namespace"], metadata["namespace"])
    if resource in _BINDINGS:
        rewrite_subjects(made, namespaces)
    if resource in _CALLS_SERVICES:
        rewrite_services(made, namespaces)
    match resource:
        case "namespaces":
            metadata["name"] = namespaces.get(metadata["name"], metadata["name"])
            prepare_namespace(made)
        case "pods":
            prepare_pod(made)
        case "persistentvolumeclaims":
            warnings += prepare_claim(made, classes=target.classes, keep_volume=keep_volume)
        case "persistentvolumes":
            prepare_volume(made, namespaces=namespaces)
        case "services":
            prepare_service(made)
        case "serviceaccounts":
            prepare_account(made)
        case "secrets":
            prepare_secret(made)
        case "jobs.batch":
            prepare_job(made)
        case "statefulsets.apps":
            warnings += prepare_stateful_set(made, classes=target.classes)
        case "networkpolicies.networking.k8s.io":
            rewrite_selectors(made, namespaces)
        case "storageclasses.storage.k8s.io":
            if is_default(made) and target.classes.default not in (None, metadata["name"]):
                # Two defaults would make every later claim of the cluster a matter of luck.
                drop(metadata, "annotations", frozenset(DEFAULT_CLASS))
    return Prepared(made, tuple(warnings))


def differences(resource: str, existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Fields in which an existing object differs from the one to create, at most five paths.

    What the server fills in by itself is taken off both; so is what this restore added.
    """
    left = prepare(resource, existing, Target(), keep_volume=True).body
    right = prepare(resource, wanted, Target(), keep_volume=True).body
    for body in (left, right):
        body.pop("apiVersion", None)
        if resource == "persistentvolumeclaims":
            body["spec"].pop("volumeName", None)
    return sorted(set(_paths(left, right, "")))[:5]


def _paths(left: Any, right: Any, at: str) -> list[str]:
    """Paths that differ, not deeper than three fields: enough to see what it is about."""
    if left == right:
        return []
    if at.count(".") >= 2 or not (isinstance(left, dict) and isinstance(right, dict)):
        return [at or "."]
    found = []
    for key in left.keys() | right.keys():
        inner = f"{at}.{key}" if at else str(key)
        found += _paths(left.get(key), right.get(key), inner)
    return found
