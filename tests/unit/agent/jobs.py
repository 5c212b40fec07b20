"""Node jobs and pods, as the API server would return them."""

from __future__ import annotations

from typing import Any

from ararat.api import PodVolumeBackup, PodVolumeRestore

REPOSITORY = {
    "location": "default",
    "locationID": "loc-1",
    "directory": "repositories/volumes/web/abc",
    "passwordSecret": "password-1",
}
POD = {"namespace": "web", "name": "db-0", "uid": "pod-1"}


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "ararat",
        "uid": f"uid-{name}",
        "resourceVersion": "5",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def backup_raw(
    name: str = "b1", *, status: dict[str, Any] | None = None, spec: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "apiVersion": "ararat.dev/v1alpha1",
        "kind": "PodVolumeBackup",
        "metadata": meta(name),
        "spec": {
            "backup": "nightly",
            "backupUID": "backup-1",
            "node": "n1",
            "pod": POD,
            "volume": "data",
            "repository": REPOSITORY,
            "host": "c1/web/pvc/data",
            **(spec or {}),
        },
        "status": status or {},
    }


def restore_raw(
    name: str = "r1", *, status: dict[str, Any] | None = None, spec: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "apiVersion": "ararat.dev/v1alpha1",
        "kind": "PodVolumeRestore",
        "metadata": meta(name),
        "spec": {
            "restore": "back",
            "restoreUID": "restore-1",
            "node": "n1",
            "pod": POD,
            "volume": "data",
            "repository": REPOSITORY,
            "snapshotID": "f" * 64,
            **(spec or {}),
        },
        "status": status or {},
    }


def backup(**parts: Any) -> PodVolumeBackup:
    return PodVolumeBackup.parse(backup_raw(**parts))


def restore(**parts: Any) -> PodVolumeRestore:
    return PodVolumeRestore.parse(restore_raw(**parts))


def pod(
    *,
    phase: str = "Running",
    uid: str = "pod-1",
    deleting: bool = False,
    gate: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """``gate``: state of the gate's container; None: the pod has no gate."""
    raw: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "web", "name": "db-0", "uid": uid, "resourceVersion": "1"},
        "spec": {
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{"name": "db", "volumeMounts": [{"name": "data"}]}],
            "initContainers": [],
        },
        "status": {"phase": phase, "conditions": conditions or []},
    }
    if deleting:
        raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if gate is not None:
        raw["spec"]["initContainers"] = [{"name": "restore-wait"}]
        raw["status"]["initContainerStatuses"] = [{"name": "restore-wait", "state": gate}]
    return raw


GATE_RUNS = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
