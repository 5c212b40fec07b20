"""Which storage class a claim gets in the target cluster. Pure.

Decision: what the user mapped wins; a class that the cluster has is kept; where the old class does
not exist, the cluster's default class takes its place and the restore says so. A class *name* that
only existing, free volumes carry (static provisioning) counts as existing. The empty name means
"no dynamic provisioning, on purpose" and is changed by a mapping only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


@dataclass(frozen=True)
class Resolution:
    name: str | None
    #: What a person should know; empty where the class stays or was mapped on request.
    warning: str = ""

    def changed(self, old: str | None) -> bool:
        return self.name != old


@dataclass(frozen=True)
class StorageClasses:
    """What is known about classes in the target cluster, the restored ones included."""

    existing: frozenset[str] = frozenset()
    default: str | None = None
    #: Class names of volumes that exist and are free.
    static: frozenset[str] = frozenset()
    mapping: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, old: str | None) -> Resolution:
        if old is not None and old in self.mapping:
            return Resolution(self.mapping[old])
        if not old or old in self.existing or old in self.static:
            return Resolution(old)
        if self.default is not None:
            return Resolution(
                self.default,
                f"storage class {old!r} does not exist here: the default class {self.default!r} "
                "takes its place",
            )
        return Resolution(
            old,
            f"storage class {old!r} does not exist here and there is no default class: the claim "
            "stays pending until there is one, or restore with a storage class mapping",
        )


def is_default(storage_class: Mapping[str, Any]) -> bool:
    """Whether claims without a class get this one."""
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(key) == "true" for key in DEFAULT_CLASS)


def default_class(classes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The class Kubernetes itself would choose: of several defaults, the newest."""
    defaults = [
        (str(body["metadata"].get("creationTimestamp") or ""), name)
        for name, body in classes.items()
        if is_default(body)
    ]
    if not defaults:
        return None
    newest = max(created for created, _ in defaults)
    return min(name for created, name in defaults if created == newest)


def provisioner_served(
    storage_class: Mapping[str, Any],
    *,
    existing: Mapping[str, Mapping[str, Any]],
    csi_drivers: frozenset[str],
) -> bool:
    """Whether a stored class could provision here: its driver is known in this cluster.

    A class without its driver is worse than none, because claims of it wait for ever instead of
    getting the default class.
    """
    provisioner = storage_class.get("provisioner", "")
    return (
        provisioner == "kubernetes.io/no-provisioner"
        or provisioner in csi_drivers
        or any(body.get("provisioner") == provisioner for body in existing.values())
    )
