"""Pods, claims and backups, as the API server would return them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ararat.api import Backup, PodVolumeBackup
from ararat.api.manifest import Coverage
from ararat.api.nodejob import PodReference
from controller.backup.volumes import ClusterView, PlannedVolume

NODE = "n1"


def pod(
    name: str = "web-0",
    *,
    namespace: str = "wp",
    volumes: Mapping[str, Mapping[str, Any]] | None = None,
    asked: str = "",
    excluded: str = "",
    phase: str = "Running",
    node: str = NODE,
    ready: bool = True,
    terminating: bool = False,
    owner: tuple[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    unused: Sequence[str] = (),
    spec: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    annotations = {}
    if asked:
        annotations["ararat.dev/backup-volumes"] = asked
    if excluded:
        annotations["ararat.dev/backup-volumes-excludes"] = excluded
    metadata: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "uid": f"uid-{namespace}-{name}",
        "annotations": annotations,
        "labels": dict(labels or {}),
    }
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    mounts = [{"name": v, "mountPath": f"/{v}"} for v in volumes or {} if v not in unused]
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "volumes": [{"name": key, **source} for key, source in (volumes or {}).items()],
            "containers": [{"name": "main", "volumeMounts": mounts}],
            **(spec or {}),
        },
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def of_claim(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


EMPTY_DIR: dict[str, Any] = {"emptyDir": {}}


def claim(
    name: str,
    *,
    namespace: str = "wp",
    phase: str = "Bound",
    mode: str = "Filesystem",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"claim-{name}",
            "labels": dict(labels or {}),
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "volumeMode": mode,
            "volumeName": f"pv-{name}",
            "resources": {"requests": {"storage": "1Gi"}},
        },
        "status": {"phase": phase, "capacity": {"storage": "2Gi"}},
    }


def view(
    *pods: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]] = (),
    volumes: Mapping[str, Mapping[str, Any]] | None = None,
    agents: Sequence[str] = (NODE,),
) -> ClusterView:
    return ClusterView(
        pods=pods,
        claims={(c["metadata"]["namespace"], c["metadata"]["name"]): c for c in claims},
        volumes=volumes or {},
        agent_nodes=frozenset(agents),
    )


def planned(name: str = "data", **more: Any) -> PlannedVolume:
    values: dict[str, Any] = {
        "pod": PodReference(namespace="wp", name="web-0", uid="uid-1"),
        "node": NODE,
        "volume": name,
        "volume_type": "persistentVolumeClaim",
        "coverage": Coverage.BACKED_UP,
        **more,
    }
    return PlannedVolume(**values)


def backup(
    name: str = "nightly",
    *,
    uid: str = "",
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> Backup:
    return Backup.parse(
        {
            "metadata": {
                "name": name,
                "namespace": "ararat",
                "uid": uid or f"uid-{name}",
                **metadata,
            },
            "spec": dict(spec or {}),
            "status": dict(status or {}),
        }
    )


def job(
    volume: str = "data",
    *,
    node: str = NODE,
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
) -> PodVolumeBackup:
    return PodVolumeBackup.parse(
        {
            "metadata": {"name": f"job-{volume}", "namespace": "ararat", "uid": f"job-{volume}"},
            "spec": {
                "backup": "nightly",
                "backupUID": "uid-nightly",
                "node": node,
                "pod": {"namespace": "wp", "name": "web-0", "uid": "uid-1"},
                "volume": volume,
                "repository": {
                    "location": "default",
                    "locationID": "loc-1",
                    "directory": "repositories/volumes/wp/r1",
                    "passwordSecret": "s",
                },
                "host": "h",
                **(spec or {}),
            },
            "status": dict(status or {}),
        }
    )
