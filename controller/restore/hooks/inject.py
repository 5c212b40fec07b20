"""Puts the init containers of a restore's hooks into a pod. Pure.

Decision: they stand behind the gate, so that they see restored data, and before the pod's own, so
that the application sees what they did. Their names are kept in an annotation: a backup of the
restored pod holds them, and the next restore takes them out before it puts its own in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ararat import gate
from ararat.api.names import HOOK_CONTAINERS
from ararat.errors import InvalidSpec
from ararat.hooks import pod_id
from controller.restore.stored import Object


def inject(pod: Object, containers: Sequence[dict[str, Any]]) -> None:
    """Add them (in place). Doing it twice changes nothing more. Raises InvalidSpec."""
    if not containers:
        return
    remove(pod)
    spec = pod["spec"]
    own = spec.get("initContainers") or []
    taken = {c["name"] for field in ("initContainers", "containers") for c in spec.get(field) or []}
    names = [container["name"] for container in containers]
    doubled = next((n for n in names if n in taken or names.count(n) > 1), None)
    if doubled is not None:
        raise InvalidSpec(
            f"pod {pod_id(pod)}: its init hook cannot be called {doubled}: the pod has a container "
            "of that name",
            reason="InvalidHook",
        )
    first = 1 if own and own[0]["name"] == gate.CONTAINER else 0
    spec["initContainers"] = [*own[:first], *containers, *own[first:]]
    pod["metadata"].setdefault("annotations", {})[HOOK_CONTAINERS] = ",".join(names)


def injected(pod: Object) -> list[str]:
    """Names of the init containers that a restore's hooks put into the pod."""
    text = (pod["metadata"].get("annotations") or {}).get(HOOK_CONTAINERS, "")
    return [name for name in text.split(",") if name]


def remove(pod: Object) -> None:
    """Take them out again (in place)."""
    names = injected(pod)
    if not names:
        return
    spec, annotations = pod["spec"], pod["metadata"]["annotations"]
    kept = [c for c in spec.get("initContainers") or [] if c["name"] not in names]
    spec.pop("initContainers", None)
    if kept:
        spec["initContainers"] = kept
    del annotations[HOOK_CONTAINERS]
    if not annotations:
        del pod["metadata"]["annotations"]
