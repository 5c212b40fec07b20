"""Volume policies: which volumes a backup reads where no annotation says so."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from ararat.quantity import parse_bytes

from .base import Model
from .selector import LabelSelector

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|[MGTPE]i?)?$"


class VolumeAction(StrEnum):
    SKIP = "Skip"
    BACKUP = "Backup"


class SizeRange(Model):
    min: str | None = Field(
        default=None, pattern=_QUANTITY, description="At least this size, such as 10Gi."
    )
    max: str | None = Field(default=None, pattern=_QUANTITY, description="At most this size.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = parse_bytes(self.min), parse_bytes(self.max)
        if low is not None and high is not None and low > high:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self

    def holds(self, size: int | None) -> bool:
        """Whether a volume of this size is within; one whose size is not known never is."""
        if size is None:
            return False
        low, high = parse_bytes(self.min), parse_bytes(self.max)
        return (low is None or size >= low) and (high is None or size <= high)


class VolumeConditions(Model):
    """All that are given must hold; of the values of one, any."""

    storage_classes: list[str] = Field(
        default=[], description="Storage class of the claim; globs allowed."
    )
    size: SizeRange | None = Field(
        default=None, description="Size of the claim: what it has, or else what it asks for."
    )
    volume_types: list[str] = Field(
        default=[],
        description="What the volume is in the pod or in its PersistentVolume: emptyDir, "
        "ephemeral, persistentVolumeClaim, csi, nfs, local, azureDisk and so on.",
    )
    csi_drivers: list[str] = Field(
        default=[], description="CSI driver of the PersistentVolume, or of a volume in the pod."
    )
    claim_labels: LabelSelector | None = Field(
        default=None, description="Labels of the claim; a volume without a claim never has them."
    )


class VolumePolicyRule(Model):
    conditions: VolumeConditions = Field(
        default=VolumeConditions(), description="Which volumes; none given: all."
    )
    action: VolumeAction = Field(description="Skip or Backup.")


class UnmountedClaims(StrEnum):
    SKIP = "Skip"
    BACKUP = "Backup"
