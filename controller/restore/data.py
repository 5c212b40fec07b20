"""Which data a backup has for a claim, or for a volume that lives with its pod. Pure.

Decision: data belongs to the *claim* where there is one, whichever pod it was read through, and to
the pod's slot (its name and the volume's) otherwise. A volume that somebody asked to back up and
that could not be read is *missing*: its claim comes back, but nothing may start on it unless the
user says so. Volumes that nobody asked for come back empty, as the backup's coverage said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ararat.api.manifest import Coverage, Manifest, ManifestVolume

from .pods import claims_of, mounted_volumes, pod_lifetime_volumes

_POD_LIFETIME = frozenset({"emptyDir", "ephemeral"})


class Want(StrEnum):
    FILL = "Fill"
    MISSING = "Missing"


@dataclass(frozen=True)
class VolumeData:
    """What the backup says about one claim or slot that data is wanted for."""

    want: Want
    volume: ManifestVolume

    @property
    def size(self) -> int:
        return self.volume.summary.bytes_processed if self.volume.summary else 0

    @property
    def files(self) -> int:
        return self.volume.summary.files_total if self.volume.summary else 0

    @property
    def why_missing(self) -> str:
        cause = self.volume.message or self.volume.reason or "it could not be read"
        return f"the backup has no data for it ({cause})"


@dataclass(frozen=True)
class BackupData:
    """Lookups by the names that things had when they were backed up."""

    claims: Mapping[tuple[str, str], VolumeData] = field(default_factory=dict)
    slots: Mapping[tuple[str, str, str], VolumeData] = field(default_factory=dict)

    def claim(self, namespace: str, name: str) -> VolumeData | None:
        return self.claims.get((namespace, name))

    def slot(self, namespace: str, pod: str, volume: str) -> VolumeData | None:
        return self.slots.get((namespace, pod, volume))

    def slots_of(self, namespace: str, pod: str, spec: Mapping[str, Any]) -> dict[str, VolumeData]:
        """Volumes of a pod that live with it and that data is wanted for."""
        found = {}
        mounted = mounted_volumes(spec)
        for volume in pod_lifetime_volumes(spec):
            data = self.slot(namespace, pod, volume)
            if data is not None and volume in mounted:
                found[volume] = data
        return found

    def claims_of(self, namespace: str, spec: Mapping[str, Any]) -> dict[str, VolumeData]:
        """Volumes of a pod that are claims which data is wanted for."""
        found = {}
        mounted = mounted_volumes(spec)
        for volume, claim in claims_of(spec).items():
            data = self.claim(namespace, claim)
            if data is not None and volume in mounted:
                found[volume] = data
        return found


def index(manifest: Manifest, *, allow_missing: bool = False) -> BackupData:
    """``allow_missing``: what the backup failed to read is treated as never asked for."""
    claims: dict[tuple[str, str], VolumeData] = {}
    slots: dict[tuple[str, str, str], VolumeData] = {}
    for data in _wanted(manifest.volumes):
        if data.want is Want.MISSING and allow_missing:
            continue
        volume = data.volume
        if volume.volume_type in _POD_LIFETIME:
            slots[(volume.namespace, volume.pod, volume.volume)] = data
        elif volume.claim is not None:
            key = (volume.namespace, volume.claim.name)
            if key not in claims or _better(data, claims[key]):
                claims[key] = data
    return BackupData(claims, slots)


def _wanted(volumes: Iterable[ManifestVolume]) -> Iterable[VolumeData]:
    for volume in volumes:
        if volume.restorable and (volume.snapshot_id or volume.empty):
            yield VolumeData(Want.FILL, volume)
        elif volume.restorable or volume.coverage is Coverage.FAILED:
            yield VolumeData(Want.MISSING, volume)


def _better(new: VolumeData, old: VolumeData) -> bool:
    """A claim may be listed once for each pod: data before none, complete before incomplete."""
    return _rank(new) > _rank(old)


def _rank(data: VolumeData) -> int:
    if data.want is Want.MISSING:
        return 0
    return 1 if data.volume.coverage is Coverage.INCOMPLETE else 2
