"""The first volume policy that fits a volume. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ararat.api.backup import BackupVolumes, VolumePolicy
from ararat.api.volumepolicy import VolumeAction, VolumeConditions
from ararat.quantity import parse_bytes

Raw = Mapping[str, Any]
#: Keys of a PersistentVolume's spec that are no source.
_NO_SOURCE = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


@dataclass(frozen=True)
class Ruled:
    """What is to become of a volume that no annotation names."""

    action: VolumeAction
    #: Position of the policy that says so, from 1; None: the default policy does.
    policy: int | None = None

    @property
    def sentence(self) -> str:
        return f"policy {self.policy} of the backup ({self.action})"


def rule_for(asked_for: BackupVolumes, *, volume: Raw, claim: Raw | None, pv: Raw | None) -> Ruled:
    """``volume`` as the pod has it; ``pv`` is what the claim is bound to."""
    for number, rule in enumerate(asked_for.policies, 1):
        if _fits(rule.conditions, volume=volume, claim=claim, pv=pv):
            return Ruled(rule.action, number)
    every = asked_for.default_policy is VolumePolicy.OPT_OUT
    return Ruled(VolumeAction.BACKUP if every else VolumeAction.SKIP)


def _fits(conditions: VolumeConditions, *, volume: Raw, claim: Raw | None, pv: Raw | None) -> bool:
    spec: Raw = (claim or {}).get("spec") or {}
    source: Raw = (pv or {}).get("spec") or {}
    storage_class = spec.get("storageClassName") or source.get("storageClassName")
    types = (volume.keys() - {"name"}) | (source.keys() - _NO_SOURCE)
    drivers = [
        part["driver"]
        for part in (volume.get("csi"), source.get("csi"))
        if part and part.get("driver")
    ]
    labels = ((claim or {}).get("metadata") or {}).get("labels") or {}
    return all(
        (
            not conditions.storage_classes or _any(conditions.storage_classes, [storage_class]),
            conditions.size is None or conditions.size.holds(_size(claim)),
            not conditions.volume_types or not types.isdisjoint(conditions.volume_types),
            not conditions.csi_drivers or _any(conditions.csi_drivers, drivers),
            conditions.claim_labels is None
            or (claim is not None and conditions.claim_labels.matches(labels)),
        )
    )


def _any(patterns: Sequence[str], values: Sequence[str | None]) -> bool:
    return any(v is not None and fnmatchcase(v, p) for v in values for p in patterns)


def _size(claim: Raw | None) -> int | None:
    if claim is None:
        return None
    has = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    asked = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return parse_bytes(has or asked)
