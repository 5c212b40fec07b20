"""DeleteBackupRequest: the only thing that deletes what is stored."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from .base import Model, Resource, Status


class DeletionCause(StrEnum):
    REQUESTED = "Requested"
    EXPIRED = "Expired"
    RESUMED = "Resumed"


class DeleteBackupRequestSpec(Model):
    backup: str = Field(min_length=1, description="Backup to delete, with everything it holds.")
    backup_uid: str | None = Field(
        default=None, description="Only if the Backup object has this UID still."
    )
    location: str | None = Field(
        default=None,
        description="BackupLocation, for a backup without an object; else the object says it.",
    )
    cause: DeletionCause = Field(
        default=DeletionCause.REQUESTED,
        description="Requested by a person, Expired, or Resumed after it was interrupted.",
    )


class DeletionPhase(StrEnum):
    NEW = "New"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    REFUSED = "Refused"

    @property
    def terminal(self) -> bool:
        return self in (DeletionPhase.COMPLETED, DeletionPhase.REFUSED)


class DeleteBackupRequestStatus(Status):
    phase: DeletionPhase = Field(default=DeletionPhase.NEW, description="How far it is.")
    reason: str | None = Field(
        default=None, description="Why it was refused or waits, in one CamelCase word."
    )
    start_time: datetime | None = Field(default=None, description="When it began.")
    completion_time: datetime | None = Field(default=None, description="When it ended.")
    location: str | None = Field(default=None, description="BackupLocation it deletes from.")
    directories: list[str] = Field(
        default=[], description="Repositories that the backup's snapshots stood in."
    )
    removing: list[str] = Field(
        default=[], description="Repositories that go with it, being the last backup in them."
    )
    snapshots: int = Field(default=0, description="Snapshots that were removed.")
    kept_snapshots: int = Field(
        default=0, description="Snapshots that stay because another backup names them."
    )


class DeleteBackupRequest(Resource[DeleteBackupRequestSpec, DeleteBackupRequestStatus]):
    """Asks for a backup to be deleted, from the cluster and from its location."""

    KIND: ClassVar[str] = "DeleteBackupRequest"
    PLURAL: ClassVar[str] = "deletebackuprequests"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("dbr",)
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Backup", "string", ".spec.backup", 0),
        ("Cause", "string", ".spec.cause", 0),
        ("Message", "string", ".status.message", 0),
    )
