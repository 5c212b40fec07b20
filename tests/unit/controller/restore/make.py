"""Objects to test with: short to write, complete enough to be real."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from ararat.api import PodVolumeRestore, Restore
from ararat.api.backup import BackupPhase, BackupSpec, ObjectsResult
from ararat.api.base import Meta
from ararat.api.manifest import Coverage, Manifest, ManifestRepository, ManifestVolume
from ararat.api.nodejob import (
    Answer,
    BackupSummary,
    ClaimReference,
    JobPhase,
    PodReference,
    PodVolumeRestoreSpec,
    PodVolumeRestoreStatus,
    Progress,
    RepositoryReference,
    Role,
)
from ararat.api.restore import RestoreSpec, RestoreStatus
from controller.restore.existing import Existing
from controller.restore.gate import GateSettings, add_gate
from controller.restore.plan import Item, Plan
from controller.restore.planner import make_plan
from controller.restore.stored import StoredObject

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
UID = "restore-uid"
DIRECTORY = "repositories/volumes/wp/0123456789abcdef"
GATE = GateSettings(image="ararat-agent:1", restore="r1", restore_uid=UID)
OWN = frozenset({"ararat", "ararat-keys"})


def stored(
    kind: str,
    name: str,
    *,
    plural: str = "",
    namespace: str | None = "wp",
    api_version: str = "v1",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    owner: tuple[str, str] | None = None,
    **body: Any,
) -> StoredObject:
    """As a backup holds it, with what the old server had put into it."""
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"old-{name}",
        "resourceVersion": "17",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    if namespace is not None:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    if owner:
        owner_version = "v1" if owner[0] in ("Pod", "Node") else "apps/v1"
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner_version,
                "kind": owner[0],
                "name": owner[1],
                "uid": f"old-{owner[1]}",
                "controller": True,
            }
        ]
    return StoredObject(
        plural=plural or f"{kind.lower()}s",
        group=api_version.rpartition("/")[0],
        body={"apiVersion": api_version, "kind": kind, "metadata": metadata, **body},
    )


def pod_spec(
    *, claims: dict[str, str] | None = None, empty: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A pod with one container that mounts everything."""
    volumes: list[dict[str, Any]] = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
        for volume, claim in (claims or {}).items()
    ]
    volumes += [{"name": volume, "emptyDir": {}} for volume in empty]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    return {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": mounts}],
        "volumes": volumes,
    }


def pod(
    name: str = "db-0",
    *,
    claims: dict[str, str] | None = None,
    empty: tuple[str, ...] = (),
    owner: tuple[str, str] | None = ("StatefulSet", "db"),
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> StoredObject:
    return stored(
        "Pod",
        name,
        owner=owner,
        labels=labels,
        annotations=annotations,
        spec={**pod_spec(claims=claims, empty=empty), "nodeName": "old-node", **spec},
        status={"phase": phase},
    )


def claim(
    name: str = "data-db-0",
    *,
    storage_class: str | None = "standard",
    size: str = "1Gi",
    volume: str | None = "pv-old",
    owner: tuple[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> StoredObject:
    body: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        **spec,
    }
    if storage_class is not None:
        body["storageClassName"] = storage_class
    if volume is not None:
        body["volumeName"] = volume
    return stored(
        "PersistentVolumeClaim",
        name,
        owner=owner,
        annotations=annotations,
        spec=body,
        status={"phase": "Bound"},
    )


def volume(
    pod_name: str = "db-0",
    name: str = "data",
    *,
    claim_name: str | None = "data-db-0",
    namespace: str = "wp",
    coverage: Coverage = Coverage.BACKED_UP,
    size: int = 1000,
    capacity: str | None = "1Gi",
    volume_type: str | None = None,
    snapshot: str | None = "5" * 64,
    **fields: Any,
) -> ManifestVolume:
    good = coverage in (Coverage.BACKED_UP, Coverage.INCOMPLETE)
    return ManifestVolume(
        namespace=namespace,
        pod=pod_name,
        volume=name,
        volume_type=volume_type or ("persistentVolumeClaim" if claim_name else "emptyDir"),
        claim=ClaimReference(name=claim_name, uid="old") if claim_name else None,
        capacity=capacity,
        coverage=coverage,
        directory=DIRECTORY if good else "",
        snapshot_id=snapshot if good else None,
        summary=BackupSummary(bytes_processed=size, files_total=10) if good else None,
        **fields,
    )


def manifest(*volumes: ManifestVolume, namespaces: tuple[str, ...] = ("wp",)) -> Manifest:
    return Manifest(
        backup="b1",
        backup_uid="backup-uid",
        cluster_uid="cluster-a",
        location_id="loc",
        spec=BackupSpec(),
        phase=BackupPhase.COMPLETED,
        start_time=NOW,
        completion_time=NOW,
        namespaces=list(namespaces),
        objects=ObjectsResult(directory="repositories/objects/1", snapshot_id="6" * 64, count=1),
        repositories=[ManifestRepository(directory=DIRECTORY, key_id="k", repository_name="n")],
        volumes=list(volumes),
    )


def restore(**spec: Any) -> Restore:
    return Restore(
        metadata=Meta(name="r1", namespace="ararat", uid=UID, creation_timestamp=NOW),
        spec=RestoreSpec.model_validate({"backup": "b1", **spec}),
        status=RestoreStatus(),
    )


def existing(**fields: Any) -> Existing:
    """A cluster of its own, with one default storage class ``standard``."""
    return Existing(
        **{"cluster_uid": "cluster-b", "storage_classes": classes("standard"), **fields}
    )


def classes(default: str | None, *others: str) -> dict[str, dict[str, Any]]:
    found = {
        name: {"metadata": {"name": name}, "provisioner": "csi.example.org"} for name in others
    }
    if default is not None:
        found[default] = {
            "metadata": {
                "name": default,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "csi.example.org",
        }
    return found


def plan(
    *objects: StoredObject,
    volumes: tuple[ManifestVolume, ...] = (),
    here: Existing | None = None,
    namespaces: tuple[str, ...] = ("wp",),
    policy: dict[str, Any] | None = None,
    **spec: Any,
) -> Plan:
    """``policy`` is the restore's ``spec.volumes``."""
    return make_plan(
        restore(volumes=policy or {}, **spec),
        manifest(*volumes, namespaces=namespaces),
        objects,
        here or existing(),
        gate=GATE,
        own_namespaces=OWN,
    )


def live(obj: StoredObject, *, uid: str = "new", **metadata: Any) -> dict[str, Any]:
    """An object as the target cluster has it."""
    body = copy.deepcopy(dict(obj.body))
    body["metadata"].update({"uid": uid, **metadata})
    return body


def live_claim(
    name: str = "data-db-0",
    *,
    uid: str = "claim-uid",
    pending: str | None = UID,
    bound: bool = True,
    namespace: str = "wp",
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "labels": {"ararat.dev/restore-uid": UID},
    }
    if pending:
        metadata["annotations"] = {"ararat.dev/restore-pending": pending}
    spec = {"storageClassName": "standard"} | ({"volumeName": "pv-new"} if bound else {})
    return {
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Bound" if bound else "Pending"},
    }


def held_pod(
    name: str = "db-0",
    *,
    uid: str | None = None,
    claims: dict[str, str] | None = None,
    empty: tuple[str, ...] = (),
    node: str = "node-1",
    created: str = "2026-11-22T11:59:00Z",
    gate_state: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    deleted: bool = False,
    phase: str = "Pending",
) -> dict[str, Any]:
    """A live pod with our gate; by default scheduled, its gate running."""
    claims = {"data": "data-db-0"} if claims is None and not empty else claims
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "wp",
            "uid": uid or f"uid-{name}",
            "creationTimestamp": created,
        },
        "spec": pod_spec(claims=claims, empty=empty),
    }
    add_gate(body, [v["name"] for v in body["spec"]["volumes"]], GATE)
    if node:
        body["spec"]["nodeName"] = node
    if deleted:
        body["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    state = {"running": {}} if gate_state is None and node else gate_state
    body["status"] = {"phase": phase, "conditions": conditions or []}
    if state:
        body["status"]["initContainerStatuses"] = [{"name": "restore-wait", "state": state}]
    return body


def job(
    name: str,
    *,
    pod_name: str = "db-0",
    pod_uid: str | None = None,
    volume_name: str = "data",
    claim_name: str | None = "data-db-0",
    claim_uid: str = "claim-uid",
    phase: JobPhase = JobPhase.NEW,
    role: Role = Role.FILL,
    follows: str | None = None,
    answer: Answer | None = None,
    node: str = "node-1",
    created: datetime = NOW,
    progress: Progress | None = None,
    **status: Any,
) -> PodVolumeRestore:
    return PodVolumeRestore(
        metadata=Meta(name=name, namespace="ararat", uid=f"uid-{name}", creation_timestamp=created),
        spec=PodVolumeRestoreSpec(
            restore="r1",
            restore_uid=UID,
            node=node,
            pod=PodReference(namespace="wp", name=pod_name, uid=pod_uid or f"uid-{pod_name}"),
            volume=volume_name,
            claim=ClaimReference(name=claim_name, uid=claim_uid) if claim_name else None,
            repository=RepositoryReference(
                location="default", location_id="loc", directory=DIRECTORY, password_secret="s"
            ),
            snapshot_id="5" * 64,
            role=role,
            follows=follows,
            answer=answer,
        ),
        status=PodVolumeRestoreStatus(phase=phase, progress=progress or Progress(), **status),
    )


def only(made: Plan, resource: str) -> Item:
    found = [item for item in made.items if item.resource == resource]
    assert len(found) == 1, [item.id for item in made.items]
    return found[0]


def body(made: Plan, resource: str) -> dict[str, Any]:
    found = only(made, resource).body
    assert found is not None
    return found


def gated(made: Plan) -> tuple[str, ...]:
    return only(made, "pods").gated
