"""BackupVerification: whether a backup holds what it promises, by reading all of it.

With ``run`` its pods are started as well, in namespaces of Ararat's own, and asked.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from ararat import duration

from .backup import Failure
from .base import Model, Resource, Status
from .nodejob import Progress
from .selector import LabelSelector


class VerificationCause(StrEnum):
    REQUESTED = "Requested"
    SCHEDULED = "Scheduled"


class VerificationProbe(Model):
    """A command that must succeed in pods that run again."""

    namespace: str = Field(
        default="", description="Only pods that were in this namespace. Empty: in any."
    )
    label_selector: LabelSelector | None = Field(
        default=None, description="Only pods with these labels. Unset: all."
    )
    container: str = Field(default="", description="Where it runs. Empty: the pod's first one.")
    command: list[str] = Field(
        min_length=1,
        description="Program and arguments; no shell. It has 30 s, and is tried again.",
    )


class VerificationRun(Model):
    """The backup's pods are started in namespaces of Ararat's own, cut off from all others."""

    included_namespaces: list[str] = Field(
        default=[], description="Namespaces of the backup to start, may be globs. Empty: all."
    )
    probes: list[VerificationProbe] = Field(
        default=[], max_length=20, description="Commands that must succeed once pods are ready."
    )
    timeout: str = Field(
        default="1h",
        pattern=duration.PATTERN,
        description="For all of it, from the first volume to the last answer, as in 30m or 4h.",
    )
    storage_class_mapping: dict[str, str] = Field(
        default={}, description="Old storage class to the one that its copies get."
    )


class BackupVerificationSpec(Model):
    backup: str = Field(min_length=1, description="Backup to verify.")
    cause: VerificationCause = Field(
        default=VerificationCause.REQUESTED, description="Requested by a person, or Scheduled."
    )
    run: VerificationRun | None = Field(
        default=None, description="Start its pods as well; unset: the data is read only."
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


class RunOutcome(StrEnum):
    NONE = ""
    PASSED = "Passed"
    FAILED = "Failed"
    UNTRIED = "Untried"


class RunStatus(Model):
    """How the backup's pods fared."""

    outcome: RunOutcome = Field(
        default=RunOutcome.NONE,
        description="Passed: they are ready and every probe succeeded. Failed: they started and "
        "did not get there. Untried: they could not be started. Empty: not known yet.",
    )
    reason: str = Field(default="", description="Why, in one CamelCase word.")
    message: str = Field(default="", description="The same for people.")
    start_time: datetime | None = Field(default=None, description="When it began.")
    namespaces: dict[str, str] = Field(
        default={}, description="Namespace in the backup to the one that was made for it."
    )
    restore: str = Field(default="", description="Restore that filled them.")
    removed: bool = Field(default=False, description="Nothing of it is left.")


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
    run: RunStatus | None = Field(default=None, description="How its pods fared.")
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
