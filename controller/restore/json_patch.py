"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386) on plain data. Pure.

Decision: errors name the operation and the path, because a person wrote them; a failed ``test`` is
an error of its own, because what it means is the caller's to say.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ararat.errors import InvalidSpec

OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")


class CannotPatch(InvalidSpec):
    """The patch does not fit what it is applied to."""

    default_reason = "CannotPatch"


class DoesNotHold(CannotPatch):
    """A ``test`` of the patch does not hold."""


def apply(document: Any, patch: Sequence[Mapping[str, Any]]) -> Any:
    """The patched copy. Raises CannotPatch, DoesNotHold."""
    # One holder above the document, so that its root is like any other place.
    holder: dict[str, Any] = {"": copy.deepcopy(document)}
    for operation in patch:
        _one(holder, operation)
    return holder[""]


def find(document: Any, pointer: str) -> Any:
    """The value a JSON pointer means. Raises CannotPatch where there is none."""
    value = document
    for part in parts(pointer):
        value = _get(value, part, pointer)
    return value


def parts(pointer: str) -> list[str]:
    """``/a~1b/0`` → ``["a/b", "0"]``. Raises CannotPatch."""
    if pointer and not pointer.startswith("/"):
        raise CannotPatch(f"path {pointer!r} must begin with '/'")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, all else replaces."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _one(holder: dict[str, Any], operation: Mapping[str, Any]) -> None:
    kind, path = operation["op"], str(operation.get("path", ""))
    match kind:
        case "add":
            _add(holder, path, copy.deepcopy(operation.get("value")))
        case "remove":
            _remove(holder, path)
        case "replace":
            _remove(holder, path, replaced=True)
            _add(holder, path, copy.deepcopy(operation.get("value")))
        case "move":
            source = str(operation.get("from", ""))
            if path.startswith(f"{source}/"):
                raise CannotPatch(f"move {source} to {path}: a value cannot go into itself")
            _add(holder, path, _remove(holder, source))
        case "copy":
            _add(holder, path, copy.deepcopy(find(holder[""], str(operation.get("from", "")))))
        case "test":
            if not _same(find(holder[""], path), operation.get("value")):
                raise DoesNotHold(f"test {path}: it has another value")
        case _:
            raise CannotPatch(f"operation {kind!r} is none of {', '.join(OPERATIONS)}")


def _place(holder: dict[str, Any], pointer: str) -> tuple[Any, str]:
    """What holds the value, and its key there."""
    keys = ["", *parts(pointer)]
    parent: Any = holder
    for part in keys[:-1]:
        parent = _get(parent, part, pointer)
    return parent, keys[-1]


def _get(value: Any, part: str, pointer: str) -> Any:
    if isinstance(value, dict) and part in value:
        return value[part]
    if isinstance(value, list):
        return value[_index(part, len(value) - 1, pointer)]
    raise CannotPatch(f"path {pointer} does not exist")


def _index(part: str, last: int, pointer: str) -> int:
    if not part.isdigit() or (len(part) > 1 and part[0] == "0") or int(part) > last:
        raise CannotPatch(f"path {pointer}: a list of {last + 1} has no item {part}")
    return int(part)


def _add(holder: dict[str, Any], pointer: str, value: Any) -> None:
    parent, key = _place(holder, pointer)
    if isinstance(parent, dict):
        parent[key] = value
    elif isinstance(parent, list):
        at = len(parent) if key == "-" else _place_in(parent, key, pointer)
        parent.insert(at, value)
    else:
        raise CannotPatch(f"path {pointer} does not exist")


def _place_in(items: list[Any], key: str, pointer: str) -> int:
    """Where an item may be put: also behind the last one."""
    if key.isdigit() and int(key) == len(items):
        return len(items)
    return _index(key, len(items) - 1, pointer)


def _remove(holder: dict[str, Any], pointer: str, *, replaced: bool = False) -> Any:
    parent, key = _place(holder, pointer)
    if isinstance(parent, dict) and key in parent:
        # What is replaced keeps its place among the others.
        return parent[key] if replaced else parent.pop(key)
    if isinstance(parent, list):
        return parent.pop(_index(key, len(parent) - 1, pointer))
    raise CannotPatch(f"path {pointer} does not exist")


def _same(one: Any, other: Any) -> bool:
    """As JSON compares: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
