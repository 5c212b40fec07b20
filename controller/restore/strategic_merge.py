"""Strategic merge patch, as kubectl means it, on the built-in kinds. Pure.

Problem: a merge patch replaces lists; to change one container of a pod, all of them must be
written. A strategic one merges lists of the built-in kinds by a key of their items, which only
Kubernetes' own types know.
Decision: the keys are a small table by the name of the field, with the two fields whose key depends
on where they stand. Directives: ``$patch`` (replace, delete, merge), ``$retainKeys``,
``$deleteFromPrimitiveList``; ``$setElementOrder`` changes no content and is left out.
Limits: custom kinds have no such keys: their lists are replaced, and a rule that patches them in
this way is refused by the caller.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .json_patch import CannotPatch

_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "secrets": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
    "webhooks": "name",
}
#: Lists of plain values that are merged instead of replaced.
_SETS = frozenset({"finalizers"})
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_merge(resource: str, target: Any, patch: Mapping[str, Any]) -> Any:
    """The patched copy. Raises CannotPatch."""
    return _merge(resource, copy.deepcopy(target), patch, ())


def _merge(resource: str, target: Any, patch: Mapping[str, Any], at: tuple[str, ...]) -> Any:
    directive = patch.get("$patch")
    content = {key: value for key, value in patch.items() if not key.startswith("$")}
    if directive == "replace":
        return copy.deepcopy(content)
    if directive == "delete":
        return None
    if directive not in (None, "merge"):
        raise CannotPatch(f"$patch: {directive} is none of replace, delete, merge")
    result: dict[str, Any] = target if isinstance(target, dict) else {}
    retained = patch.get("$retainKeys")
    if retained is not None:
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE_FROM):
            field = key.removeprefix(_DELETE_FROM)
            result[field] = [item for item in result.get(field) or [] if item not in value]
        elif key.startswith("$") and not key.startswith(_ORDER) and key[1:] not in _DIRECTIVES:
            raise CannotPatch(f"{key} is no directive of a strategic merge patch")
    for key, value in content.items():
        merged = _field(resource, result.get(key), value, (*at, key))
        if merged is None:
            result.pop(key, None)
        else:
            result[key] = merged
    return result


_DIRECTIVES = frozenset({"patch", "retainKeys"})


def _field(resource: str, old: Any, new: Any, at: tuple[str, ...]) -> Any:
    if isinstance(new, Mapping):
        return _merge(resource, old, new, at)
    if isinstance(new, list):
        key = _key(resource, at)
        if key is not None:
            return _items(resource, old or [], new, at, key=key)
        if at[-1] in _SETS:
            return [*(old or []), *(item for item in new if item not in (old or []))]
    return copy.deepcopy(new)


def _key(resource: str, at: tuple[str, ...]) -> str | None:
    """What tells the items of a list apart; None: the list is one value."""
    if at[-1] == "ports":
        if len(at) > 1 and at[-2] in ("containers", "initContainers", "ephemeralContainers"):
            return "containerPort"
        return "port" if resource == "services" else None
    return _KEYS.get(at[-1])


def _items(
    resource: str, old: list[Any], new: list[Any], at: tuple[str, ...], *, key: str
) -> list[Any]:
    if any(isinstance(item, dict) and item.keys() == {"$patch"} for item in new):
        kept = [item for item in new if item.keys() != {"$patch"}]
        return copy.deepcopy(kept)
    result = list(old)
    for item in new:
        if not isinstance(item, dict) or key not in item:
            raise CannotPatch(f"{'.'.join(at)}: an item of the patch has no {key}")
        place = next((i for i, have in enumerate(result) if have.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if place is not None:
                result.pop(place)
        elif place is None:
            result.append(_merge(resource, {}, item, at))
        else:
            result[place] = _merge(resource, result[place], item, at)
    return result
