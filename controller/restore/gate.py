"""Puts the gate into a pod: the init container that holds it until its volumes are filled. Pure.

Decision: the gate stands first among the init containers, so that the pod's own see restored data.
It must be admitted wherever the pod is: resources are those of the first app container (quota,
LimitRange and QoS class stay as they were), the security context passes the ``restricted`` profile,
the user is the pod's own where that is a number other than root. It mounts one small emptyDir of
ours, read-only, and nothing of the user's, nor a token.
Limits: extended resources (GPUs) are not copied, the gate would only hold them; a memory limit too
small for a Python interpreter is raised to one that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ararat import gate
from ararat.api import names
from ararat.api.hooks import RestoreHooks
from ararat.naming import label_value
from ararat.quantity import parse_bytes

from .pods import TOKEN_PATH
from .stored import Object

_UNPRIVILEGED = 65532
_COPIED = ("cpu", "memory", "ephemeral-storage")
_LEAST_MEMORY = 32 * 1024 * 1024
_LEAST_MEMORY_TEXT = "32Mi"


@dataclass(frozen=True)
class GateSettings:
    """How gates of one restore look."""

    image: str
    restore: str
    restore_uid: str
    pull_policy: str = ""
    no_progress_seconds: int = 900
    #: Init containers that pods get together with the gate.
    hooks: RestoreHooks = field(default_factory=RestoreHooks)
    images: Mapping[str, str] = field(default_factory=dict)


def add_gate(
    pod: Object, volumes: Sequence[str], settings: GateSettings, *, after: str | None = None
) -> None:
    """Gate a pod (in place) for these of its volumes. Doing it twice changes nothing more.

    ``after``: the pod that must be ready before it.
    """
    if after is not None:
        volumes = [*volumes, gate.TURN]
    spec, metadata = pod["spec"], pod["metadata"]
    others = [c for c in spec.get("initContainers") or [] if c["name"] != gate.CONTAINER]
    spec["initContainers"] = [container(spec, volumes, settings), *others]
    kept = [v for v in spec.get("volumes") or [] if v["name"] != gate.VOLUME]
    spec["volumes"] = [*kept, {"name": gate.VOLUME, "emptyDir": {}}]
    metadata.setdefault("labels", {}).update(
        {
            names.RESTORE: label_value(settings.restore),
            names.RESTORE_UID: settings.restore_uid,
        }
    )
    metadata.setdefault("annotations", {}).update(
        {
            names.GATE_RESTORE: settings.restore,
            names.GATE_VOLUMES: ",".join(volumes),
            **({names.GATE_AFTER: after} if after is not None else {}),
        }
    )


def container(
    spec: Mapping[str, Any], volumes: Sequence[str], settings: GateSettings
) -> dict[str, Any]:
    """The init container for a pod of this spec."""
    made: dict[str, Any] = {
        "name": gate.CONTAINER,
        "image": settings.image,
        "command": list(gate.COMMAND),
        "args": gate.arguments(
            restore=settings.restore,
            restore_uid=settings.restore_uid,
            volumes=volumes,
            no_progress_seconds=settings.no_progress_seconds,
        ),
        "resources": _resources(spec),
        "securityContext": _security(spec),
        "volumeMounts": [
            {"name": gate.VOLUME, "mountPath": path, "readOnly": True}
            # The gate asks no API server. Where something is mounted already, the API server mounts
            # no token of the pod's service account.
            for path in (gate.MOUNT_PATH, TOKEN_PATH)
        ],
        # What it says when it ends is what kubectl describe shows.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if settings.pull_policy:
        made["imagePullPolicy"] = settings.pull_policy
    return made


def gated_volumes(pod: Mapping[str, Any]) -> list[str]:
    """The volumes that a pod's gate waits for, as its annotation says."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    return [name for name in annotations.get(names.GATE_VOLUMES, "").split(",") if name]


def _resources(spec: Mapping[str, Any]) -> dict[str, Any]:
    first = (spec.get("containers") or [{}])[0].get("resources") or {}
    made: dict[str, Any] = {}
    for kind in ("requests", "limits"):
        amounts = {key: value for key, value in (first.get(kind) or {}).items() if key in _COPIED}
        if amounts:
            made[kind] = amounts
    memory = parse_bytes(made.get("limits", {}).get("memory"))
    if memory is not None and memory < _LEAST_MEMORY:
        made["limits"]["memory"] = _LEAST_MEMORY_TEXT
        if "memory" in made.get("requests", {}):
            # Request and limit stay equal where they were: a Guaranteed pod stays one.
            request = parse_bytes(made["requests"]["memory"])
            if request == memory:
                made["requests"]["memory"] = _LEAST_MEMORY_TEXT
    return made


def _security(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": _user(spec),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _user(spec: Mapping[str, Any]) -> int:
    first = (spec.get("containers") or [{}])[0].get("securityContext") or {}
    for context in (first, spec.get("securityContext") or {}):
        user = context.get("runAsUser")
        if isinstance(user, int) and not isinstance(user, bool):
            return user if user != 0 else _UNPRIVILEGED
    return _UNPRIVILEGED
