"""Where pods are described inside other objects. Pure.

Limits: templates inside custom resources are text to us.
"""

from __future__ import annotations

from typing import Any

from .stored import Object

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "pods": (),
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    # What a StatefulSet or DaemonSet compares its template with.
    "controllerrevisions.apps": ("data", "spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}


def pod_spec(resource: str, body: Object) -> Object | None:
    """The pod spec in an object, to be changed in place; None: it has none."""
    return _part(resource, body, "spec")


def pod_metadata(resource: str, body: Object) -> Object:
    """Metadata of the pods that an object describes, to be changed in place; {}: it has none."""
    return _part(resource, body, "metadata") or {}


def _part(resource: str, body: Object, name: str) -> Object | None:
    path = _TEMPLATES.get(resource)
    if path is None:
        return None
    found: Any = body
    for part in (*path, name):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
