"""Claims and volumes, as they can be created again. Pure.

Problem: a claim that still names its old volume never binds in another cluster, and a copy of a
live volume handle could attach, and delete, production's disk.
Decision: a claim is created unbound, so that any class, zone, region or cloud can provision it.
Where its data comes from files it carries ``ararat.dev/restore-pending`` until that data is
verified. It keeps its volume only where the plan brings that very volume back.
A claim that asks for less than its files need (many provisioners round up) asks for the capacity
it really had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ararat.api import names
from ararat.quantity import parse_bytes

from .classes import StorageClasses
from .metadata import drop
from .stored import Object

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_BINDING = frozenset(
    {
        "pv.kubernetes.io/bind-completed",
        "pv.kubernetes.io/bound-by-controller",
        "volume.beta.kubernetes.io/storage-provisioner",
        "volume.kubernetes.io/storage-provisioner",
        "volume.kubernetes.io/storage-resizer",
        "volume.kubernetes.io/selected-node",
    }
)
_VOLUME_ANSWERS = frozenset(
    {
        "pv.kubernetes.io/bound-by-controller",
        "volume.kubernetes.io/provisioner-deletion-secret-name",
    }
)


def class_of(claim: Mapping[str, Any]) -> str | None:
    """The claim's storage class; the old annotation goes before the field, as in Kubernetes."""
    annotations = claim["metadata"].get("annotations") or {}
    name = annotations.get(_CLASS_ANNOTATION, claim["spec"].get("storageClassName"))
    return None if name is None else str(name)


def prepare_claim(claim: Object, *, classes: StorageClasses, keep_volume: bool) -> list[str]:
    """Make a stripped claim creatable (in place). Returns warnings."""
    warnings = []
    spec = claim["spec"]
    old = class_of(claim)
    resolution = classes.resolve(old)
    drop(claim["metadata"], "annotations", _BINDING | {_CLASS_ANNOTATION})
    if resolution.warning and not keep_volume:
        warnings.append(resolution.warning)
    name = old if keep_volume else resolution.name
    if name is None:
        spec.pop("storageClassName", None)
    else:
        spec["storageClassName"] = name
    if not keep_volume:
        spec.pop("volumeName", None)
        source = spec.pop("dataSourceRef", None) or spec.get("dataSource")
        spec.pop("dataSource", None)
        if source:
            warnings.append(
                f"was made from {source.get('kind')} {source.get('name')!r}, which is not brought "
                "back with it"
            )
        if resolution.changed(old) and spec.pop("volumeAttributesClassName", None):
            warnings.append("loses its volume attributes class with its storage class")
    return warnings


def ask_for_enough(claim: Object, *, data_bytes: int, capacity: str | None) -> list[str]:
    """Raise the request where the files would not fit into it (in place). Returns warnings."""
    requests = claim["spec"].setdefault("resources", {}).setdefault("requests", {})
    asked, had = parse_bytes(requests.get("storage")), parse_bytes(capacity)
    if asked is None or had is None or had <= asked or data_bytes < asked * 0.9:
        return []
    old, requests["storage"] = requests["storage"], capacity
    limits = claim["spec"]["resources"].get("limits") or {}
    if "storage" in limits and (parse_bytes(limits["storage"]) or 0) < had:
        limits["storage"] = capacity
    return [f"asks for {capacity}, what it had, instead of {old}: its files need more than that"]


def mark_pending(claim: Object, restore_uid: str) -> None:
    """The restore owes this claim its data (in place)."""
    annotations = claim["metadata"].setdefault("annotations", {})
    annotations[names.RESTORE_PENDING] = restore_uid


def pending_for(claim: Mapping[str, Any]) -> str | None:
    """UID of the restore that owes the claim its data."""
    annotations = claim.get("metadata", {}).get("annotations") or {}
    value = annotations.get(names.RESTORE_PENDING)
    return None if value is None else str(value)


def released_for(claim: Mapping[str, Any]) -> str | None:
    """UID of the restore whose data for the claim was given up."""
    annotations = claim.get("metadata", {}).get("annotations") or {}
    value = annotations.get(names.RELEASED)
    return None if value is None else str(value)


def prepare_volume(volume: Object, *, namespaces: Mapping[str, str]) -> None:
    """Make a stripped PersistentVolume creatable (in place): its claim is known by name only."""
    drop(volume["metadata"], "annotations", _VOLUME_ANSWERS)
    reference = volume["spec"].get("claimRef")
    if reference:
        namespace = reference.get("namespace", "")
        volume["spec"]["claimRef"] = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": namespaces.get(namespace, namespace),
            "name": reference.get("name", ""),
        }


def handle(volume: Mapping[str, Any]) -> tuple[str, str] | None:
    """What tells one disk from another: the volume's kind of source and its address.

    Two PersistentVolumes with the same handle are two doors to one disk.
    """
    spec = volume.get("spec") or {}
    csi = spec.get("csi")
    if csi:
        return f"csi {csi.get('driver', '')}", str(csi.get("volumeHandle", ""))
    for kind, key in (
        ("nfs", ("server", "path")),
        ("local", ("path",)),
        ("hostPath", ("path",)),
        ("iscsi", ("targetPortal", "iqn", "lun")),
        ("azureDisk", ("diskURI",)),
        ("azureFile", ("secretNamespace", "shareName")),
        ("awsElasticBlockStore", ("volumeID",)),
        ("gcePersistentDisk", ("pdName",)),
        ("cephfs", ("monitors", "path")),
        ("rbd", ("monitors", "pool", "image")),
        ("fc", ("targetWWNs", "lun", "wwids")),
    ):
        source = spec.get(kind)
        if source:
            node = str(spec.get("nodeAffinity", "")) if kind in ("local", "hostPath") else ""
            return kind, "|".join(str(source.get(part, "")) for part in key) + node
    return None
