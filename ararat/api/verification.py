"""BackupVerification: whether a backup holds what it promises, by reading all of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from .backup import Failure
from .base import Model, Resource, Status
from .nodejob import Progress


class VerificationCause(StrEnum):
    REQUESTED = "Requested"
    SCHEDULED = "Scheduled"


class BackupVerificationSpec(Model):
    backup: str = Field(min_length=1, description="Backup to verify.")
    cause: VerificationCause = Field(
        default=VerificationCause.REQUESTED, description="Requested by a person, or Scheduled."
    )
    cancel: bool = Field(default=False, description="Ends the verification.")


class VerificationPhase(StrEnum):
    """Where a verification stands."""

    NEW = "New"
    IN_PROGRESS = "InProgress"
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        return self not in (VerificationPhase.NEW, VerificationPhase.IN_PROGRESS)


class VerifiedCounts(Model):
    """How the volumes of a backup fared."""

    total: int = Field(default=0, description="Volumes that the backup promises.")
    passed: int = Field(default=0, description="Restored, read, and as promised.")
    failed: int = Field(default=0, description="Not as promised.")
    untried: int = Field(default=0, description="Could not be tried.")
    text: str = Field(default="", description="The same for people.")


class BackupVerificationStatus(Status):
    phase: VerificationPhase = Field(
        default=VerificationPhase.NEW,
        description="Passed: everything is as promised. Failed: something is not. Inconclusive: "
        "something could not be tried, and nothing was found wrong.",
    )
    reason: str | None = Field(default=None, description="Why, in one CamelCase word.")
    start_time: datetime | None = Field(default=None, description="When work began.")
    completion_time: datetime | None = Field(default=None, description="When it ended.")
    location: str | None = Field(default=None, description="BackupLocation it reads.")
    objects: int | None = Field(default=None, description="API objects that were read.")
    volumes: VerifiedCounts = Field(default=VerifiedCounts(), description="How volumes fared.")
    progress: Progress = Field(default=Progress(), description="Sum over its volumes.")
    waiting: list[Failure] = Field(
        default=[], description="What it waits for right now and why, at most 20."
    )
    failures: list[Failure] = Field(
        default=[], description="What is not as promised or could not be tried, at most 50."
    )
    failure_count: int = Field(default=0, description="How many.")


class BackupVerification(Resource[BackupVerificationSpec, BackupVerificationStatus]):
    """Restores everything of a backup into scratch volumes, reads it, and removes it again."""

    KIND: ClassVar[str] = "BackupVerification"
    PLURAL: ClassVar[str] = "backupverifications"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("bv",)
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Backup", "string", ".spec.backup", 0),
        ("Volumes", "string", ".status.volumes.text", 0),
        ("Progress", "string", ".status.progress.text", 0),
        ("Completed", "date", ".status.completionTime", 0),
        ("Message", "string", ".status.message", 0),
    )
