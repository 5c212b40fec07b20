"""What becomes of PersistentVolumes and storage classes. Pure.

Problem: a copy of a live volume handle in another cluster could attach, and on deletion destroy,
production's disk. A volume that really belongs to this cluster and was kept (policy Retain) should
come back as it was.
Decision: a volume is brought back only in its own cluster, with policy Retain, when its claim is
not filled from files and no existing volume is a door to the same disk. Otherwise the claim is
provisioned anew, and the plan says that it comes back empty. With ``--reuse-volumes`` the user says
that the disks are there and nobody else's; such a volume comes back with policy Retain, so that no
deleted claim of ours takes the disk with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .claims import handle
from .classes import StorageClasses, default_class, is_default, provisioner_served
from .existing import Existing
from .metadata import made_by
from .skips import Skip
from .stored import StoredObject


@dataclass(frozen=True)
class VolumeFates:
    """What happens to stored volumes."""

    #: Volumes that stay out, by name.
    skipped: Mapping[str, Skip]
    #: Claims (old namespace, name) that get their very own volume back.
    kept: frozenset[tuple[str, str]]


def decide_volumes(
    volumes: Iterable[StoredObject],
    existing: Existing,
    *,
    same_cluster: bool,
    restored_claims: frozenset[tuple[str, str]],
    filled_claims: frozenset[tuple[str, str]],
    restore_uid: str,
    reuse: bool = False,
) -> VolumeFates:
    """``restored_claims`` are created by this restore; ``filled_claims`` get data from files.

    ``reuse``: the user vouches for disks that are another cluster's, or might be gone.
    """
    doors = {
        handle(volume): name
        for name, volume in existing.volumes.items()
        if not made_by(volume, restore_uid)
    }
    names = {name for name, body in existing.volumes.items() if not made_by(body, restore_uid)}
    skipped: dict[str, Skip] = {}
    kept: set[tuple[str, str]] = set()
    for volume in volumes:
        reference = volume.spec.get("claimRef") or {}
        claim = (reference.get("namespace", ""), reference.get("name", ""))
        skip = _why_not(
            volume,
            claim=claim if reference else None,
            same_cluster=same_cluster,
            restored=claim in restored_claims,
            filled=claim in filled_claims,
            reuse=reuse,
            door=doors.get(handle(volume.body)),
            taken=volume.name in names,
        )
        if skip is not None:
            skipped[volume.name] = skip
        elif reference:
            kept.add(claim)
    return VolumeFates(skipped, frozenset(kept))


def _why_not(
    volume: StoredObject,
    *,
    claim: tuple[str, str] | None,
    same_cluster: bool,
    restored: bool,
    filled: bool,
    reuse: bool,
    door: str | None,
    taken: bool,
) -> Skip | None:
    if filled:
        return Skip("FilledFromFiles", "its claim gets a new volume, filled from the backup")
    if claim is not None and not restored:
        return Skip("ClaimNotRestored", f"its claim {'/'.join(claim)} is not restored")
    if not same_cluster and not reuse:
        return Skip(
            "OtherCluster", "a disk of another cluster is attached here only with --reuse-volumes"
        )
    if not reuse and volume.spec.get("persistentVolumeReclaimPolicy") != "Retain":
        return Skip(
            "NotRetained",
            "its reclaim policy is not Retain: the disk may be gone; --reuse-volumes tries it",
        )
    if handle(volume.body) is None:
        return Skip("UnknownSource", "its kind of disk is not one that can be told from others")
    if door is not None:
        return Skip("InUse", f"volume {door} is a door to the same disk")
    if taken:
        return Skip("NameTaken", "another volume of that name exists, and is another disk")
    return None


def decide_classes(
    classes: Iterable[StoredObject],
    existing: Existing,
    *,
    mapping: Mapping[str, str],
) -> tuple[StorageClasses, dict[str, Skip]]:
    """The classes that claims can count on, and the stored classes that stay out."""
    skipped: dict[str, Skip] = {}
    coming: dict[str, StoredObject] = {}
    for stored in classes:
        if stored.name in existing.storage_classes:
            continue
        if provisioner_served(
            stored.body, existing=existing.storage_classes, csi_drivers=existing.csi_drivers
        ):
            coming[stored.name] = stored
        else:
            skipped[stored.name] = Skip(
                "NoDriver", f"no driver {stored.body.get('provisioner')!r} in this cluster"
            )
    default = default_class(existing.storage_classes) or next(
        (name for name, stored in sorted(coming.items()) if is_default(stored.body)), None
    )
    static = {
        str(volume["spec"].get("storageClassName") or "")
        for volume in existing.volumes.values()
        if (volume.get("status") or {}).get("phase") == "Available"
    }
    found = StorageClasses(
        existing=frozenset({*existing.storage_classes, *coming}),
        default=default,
        static=frozenset(static - {""}),
        mapping=dict(mapping),
    )
    return found, skipped


def described(volume: Mapping[str, Any]) -> str:
    """``pv-1 (Released)``."""
    phase = (volume.get("status") or {}).get("phase") or "of unknown phase"
    return f"{volume['metadata']['name']} ({phase})"
