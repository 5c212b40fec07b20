"""What is taken off every object before it is created again. Pure.

Decision: everything that the API server or a controller of the *old* cluster owned goes: identity,
times, managed fields, status, and owner references (an owner's UID is another one now, and the
garbage collector deletes objects whose owner it cannot find; controllers adopt by selector).
Finalizers go as well: a controller adds its own when it next sees the object, while a finalizer
whose controller is not there (another cluster, an uninstalled operator) would make the object and
its namespace undeletable. What Ararat wrote during an earlier restore goes; what *users* write with
our prefix (``backup-volumes``, ``exclude-from-backup``) stays.
``kubectl``'s last-applied annotation stays, so that the next ``kubectl apply`` sees what it knew.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ararat.api import names
from ararat.naming import label_value

from .stored import Object

_SERVER_OWNED = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "generateName",
)
#: Keys that only Ararat writes on users' objects.
OURS = frozenset(
    {
        names.RESTORE,
        names.RESTORE_UID,
        names.RESTORE_PENDING,
        names.RESTORING,
        names.GATE_RESTORE,
        names.GATE_VOLUMES,
        names.GATE_AFTER,
        names.RELEASED,
        names.SCALED_DOWN,
    }
)


def strip(body: Mapping[str, Any]) -> Object:
    """A deep copy without what the old cluster owned, and without anything of ours."""
    copied: Object = copy.deepcopy(dict(body))
    copied.pop("status", None)
    metadata = copied["metadata"]
    for field in _SERVER_OWNED:
        metadata.pop(field, None)
    drop(metadata, "labels", OURS)
    drop(metadata, "annotations", OURS)
    return copied


def drop(holder: Object, field: str, keys: frozenset[str]) -> None:
    """Take keys out of ``holder[field]``, and the field itself when nothing is left in it."""
    values = holder.get(field)
    if values is None:
        return
    kept = {key: value for key, value in values.items() if key not in keys}
    if kept:
        holder[field] = kept
    else:
        holder.pop(field)


def mark(body: Object, *, restore: str, restore_uid: str) -> None:
    """Label an object as made by this restore (in place).

    That is how a controller that was killed knows its own objects again, and how a person finds
    them: ``kubectl get all -l ararat.dev/restore=<name>``.
    """
    labels = body["metadata"].setdefault("labels", {})
    labels.update(marks(restore=restore, restore_uid=restore_uid))


def marks(*, restore: str, restore_uid: str) -> dict[str, str]:
    return {names.RESTORE: label_value(restore), names.RESTORE_UID: restore_uid}


def made_by(body: Mapping[str, Any], restore_uid: str) -> bool:
    """Whether this restore made the object."""
    labels = body.get("metadata", {}).get("labels") or {}
    return bool(labels.get(names.RESTORE_UID) == restore_uid)
