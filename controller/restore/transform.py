"""From a stored object to the object to create. Pure.

One function per kind, each in the module of its noun; this one chooses them. ``differences`` brings
an object that exists to the same form with it, before it compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .claims import prepare_claim, prepare_volume
from .classes import DEFAULT_CLASS, StorageClasses, is_default
from .images import map_images
from .isolated import confine
from .metadata import drop, strip
from .pods import prepare_pod
from .references import rewrite
from .services import asked_node_ports, prepare_service
from .stored import Object
from .workloads import (
    prepare_account,
    prepare_job,
    prepare_namespace,
    prepare_secret,
    prepare_stateful_set,
)

#: By this label two revisions are told apart before their content is.
_HASH = frozenset({"controller.kubernetes.io/hash"})


@dataclass(frozen=True)
class Target:
    """What differs between where an object was and where it comes back."""

    namespaces: Mapping[str, str] = field(default_factory=dict)
    classes: StorageClasses = field(default_factory=StorageClasses)
    #: Beginnings of image names, old to new.
    images: Mapping[str, str] = field(default_factory=dict)
    preserve_node_ports: bool = False
    #: Nothing of it may reach beyond the namespaces it comes back to.
    isolated: bool = False


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
    rewrite(resource, made, namespaces)
    if target.isolated:
        confine(resource, made, target.classes)
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
            prepare_service(
                made,
                node_ports=None if target.preserve_node_ports else asked_node_ports(body),
            )
        case "serviceaccounts":
            prepare_account(made)
        case "secrets":
            prepare_secret(made)
        case "jobs.batch":
            prepare_job(made)
        case "statefulsets.apps":
            warnings += prepare_stateful_set(made, classes=target.classes)
        case "storageclasses.storage.k8s.io":
            if is_default(made) and target.classes.default not in (None, metadata["name"]):
                # Two defaults would make every later claim of the cluster a matter of luck.
                drop(metadata, "annotations", frozenset(DEFAULT_CLASS))
    map_images(resource, made, target.images)
    if resource == "controllerrevisions.apps" and made.get("data") != body.get("data"):
        # Its owner then compares content, finds its own template again, and replaces no pod.
        drop(metadata, "labels", _HASH)
    return Prepared(made, tuple(warnings))
