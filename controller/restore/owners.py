"""Who makes the objects that a restore would make, and is there already. Pure.

Problem: a pod of a ReplicaSet that exists is one too many: its owner removes it, the restored data
with it, and starts its own on an empty volume. The same happens a level higher: the old ReplicaSet
of a Deployment that exists is scaled down at once.
Decision: an object whose controller exists, and was not made by this restore, is left to it; so is
one whose controller's controller exists. A StatefulSet adopts the pod of an ordinal that it wants
and does not have. What the owner makes is held by the webhook while its claim is owed data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .metadata import made_by
from .skips import Skip
from .stored import Object, StoredObject

#: Kinds that their owner makes again, and would make beside restored ones.
OWNED = frozenset({"pods", "replicasets.apps", "controllerrevisions.apps"})

#: (group, kind, namespace, name).
OwnerKey = tuple[str, str, str, str]


def owner_kinds(objects: Iterable[StoredObject]) -> frozenset[tuple[str, str]]:
    """Group and kind of whatever controls an object that could be one too many."""
    return frozenset(
        (_group(owner), str(owner.get("kind")))
        for obj in objects
        if obj.resource in OWNED and (owner := obj.controller) is not None
    )


class Owners:
    """The decider. ``existing``: owners in the target cluster, by its own namespaces' names."""

    def __init__(
        self,
        objects: Iterable[StoredObject],
        existing: Mapping[OwnerKey, Object],
        *,
        namespaces: Mapping[str, str],
        restore_uid: str,
    ) -> None:
        self._stored = {
            (obj.group, obj.kind, str(obj.namespace), obj.name): obj
            for obj in objects
            if obj.resource == "replicasets.apps"
        }
        self._existing = {
            key: body for key, body in existing.items() if not made_by(body, restore_uid)
        }
        self._namespaces = namespaces

    def why_not(self, obj: StoredObject) -> Skip | None:
        """Why the object is left to its owner; None: it is not."""
        if obj.resource not in OWNED or obj.namespace is None or not self._existing:
            return None
        seen: StoredObject | None = obj
        while seen is not None and (owner := seen.controller) is not None:
            namespace = self._namespaces.get(obj.namespace, obj.namespace)
            key = (_group(owner), str(owner.get("kind")), namespace, str(owner.get("name")))
            present = self._existing.get(key)
            if present is not None and not _adopts(present, obj):
                return Skip(
                    "OwnerExists", f"{key[1]} {namespace}/{key[3]} exists and makes its own"
                )
            seen = self._stored.get((key[0], key[1], obj.namespace, key[3]))
        return None


def _adopts(owner: Mapping[str, Any], obj: StoredObject) -> bool:
    """A StatefulSet takes the pod of any ordinal that it wants and does not have."""
    if owner.get("kind") != "StatefulSet" or obj.resource != "pods":
        return False
    spec = owner.get("spec") or {}
    ordinal = obj.name.rpartition("-")[2]
    start = int((spec.get("ordinals") or {}).get("start") or 0)
    wanted = range(start, start + int(spec.get("replicas", 1)))
    return ordinal.isdigit() and int(ordinal) in wanted


def _group(owner: Mapping[str, Any]) -> str:
    return str(owner.get("apiVersion") or "").rpartition("/")[0]
