"""Backup: what to keep, and what came of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field, model_validator

from ararat import duration, excludes

from .base import Model, Resource, Status
from .hooks import HookAction, PodSelection
from .nodejob import Progress
from .selector import LabelSelector
from .volumepolicy import UnmountedClaims, VolumePolicyRule


class Selection(Model):
    """Which objects: the part that Backup and Restore share."""

    included_namespaces: list[str] = Field(
        default=[], description="Namespaces, globs allowed; empty means all."
    )
    excluded_namespaces: list[str] = Field(default=[], description="Namespaces to leave out.")
    included_resources: list[str] = Field(
        default=[], description="Kinds as kubectl takes them (`deploy`, `jobs.batch`); empty: all."
    )
    excluded_resources: list[str] = Field(default=[], description="Kinds to leave out.")
    label_selector: LabelSelector | None = Field(
        default=None, description="Only objects with these labels."
    )
    or_label_selectors: list[LabelSelector] = Field(
        default=[], description="Only objects that one of these selects."
    )
    include_cluster_resources: bool | None = Field(
        default=None,
        description="Objects outside namespaces: true all, false none, unset those that the "
        "chosen ones need.",
    )

    @model_validator(mode="after")
    def _one_selector(self) -> Self:
        if self.label_selector is not None and self.or_label_selectors:
            raise ValueError("labelSelector and orLabelSelectors exclude each other")
        return self


class VolumePolicy(StrEnum):
    OPT_IN = "OptIn"
    OPT_OUT = "OptOut"


class BackupVolumes(Model):
    default_policy: VolumePolicy = Field(
        default=VolumePolicy.OPT_IN,
        description="OptIn: volumes that pods name in the annotation ararat.dev/backup-volumes. "
        "OptOut: all but those in ararat.dev/backup-volumes-excludes.",
    )
    policies: list[VolumePolicyRule] = Field(
        default=[],
        max_length=100,
        description="Rules for volumes that no annotation names; the first that fits decides, and "
        "where none does, defaultPolicy.",
    )
    unmounted: UnmountedClaims = Field(
        default=UnmountedClaims.SKIP,
        description="Claims that no running pod mounts. Backup: each is read through a short-lived "
        "pod that mounts it, unless a policy says Skip.",
    )
    excludes: list[str] = Field(
        default=[],
        max_length=excludes.MOST,
        description="Files to leave out of every volume, as restic patterns; one that begins with "
        "/ is meant from the volume's root.",
    )
    exclude_caches: bool = Field(
        default=True,
        description="Leave out what is in directories that hold a file CACHEDIR.TAG.",
    )

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        if wrong := excludes.mistakes(self.excludes):
            raise ValueError("; ".join(wrong))
        return self


class Deadlines(Model):
    no_progress_seconds: int = Field(
        default=900, ge=10, description="Seconds without progress after which a volume fails."
    )


class HookResource(PodSelection):
    """Hooks for the pods that it selects. Hooks named in a pod's annotations replace them."""

    pre: list[HookAction] = Field(
        default=[], description="Run one after the other before the pod's volumes are read."
    )
    post: list[HookAction] = Field(
        default=[], description="Run after its volumes were read, whatever became of that."
    )


class BackupHooks(Model):
    max_freeze_seconds: int = Field(
        default=600,
        ge=1,
        description="Post hooks run at the latest this long after the first pre hook of the pod "
        "began; volumes that are not read by then have failed.",
    )
    resources: list[HookResource] = Field(
        default=[], description="Hooks for pods that do not name their own in annotations."
    )


class BackupSpec(Selection):
    ordered_resources: list[str] = Field(
        default=[],
        description="Kinds whose objects are read first, in this order. Pods, which say what else "
        "is needed, come before them, and objects outside namespaces after all others.",
    )
    volumes: BackupVolumes = Field(default=BackupVolumes(), description="Which volumes.")
    location: str | None = Field(
        default=None, description="BackupLocation; the default one where unset."
    )
    deadlines: Deadlines = Field(default=Deadlines(), description="When to give up.")
    hooks: BackupHooks = Field(
        default=BackupHooks(),
        description="Commands run in pods before and after their volumes are read.",
    )
    schedule: str | None = Field(
        default=None,
        description="Schedule that made it and whose retention says how long it is kept.",
    )
    ttl: str | None = Field(
        default=None,
        pattern=duration.PATTERN,
        description="For a backup without schedule: it is deleted when it is older than this, as "
        "in 90d; 30 days where unset.",
    )
    pinned: bool = Field(default=False, description="Never deleted because of its age.")
    cancel: bool = Field(default=False, description="Ends the backup.")


class BackupPhase(StrEnum):
    NEW = "New"
    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    FINALIZING = "Finalizing"
    COMPLETED = "Completed"
    PARTIALLY_FAILED = "PartiallyFailed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    DELETING = "Deleting"

    @property
    def terminal(self) -> bool:
        return self in (
            BackupPhase.COMPLETED,
            BackupPhase.PARTIALLY_FAILED,
            BackupPhase.FAILED,
            BackupPhase.CANCELLED,
            BackupPhase.DELETING,
        )

    @property
    def restorable(self) -> bool:
        return self in (BackupPhase.COMPLETED, BackupPhase.PARTIALLY_FAILED)


class CoverageCounts(Model):
    """How every volume that was met fared."""

    backed_up: int = Field(default=0, description="Read in full.")
    incomplete: int = Field(default=0, description="Read, but for some files.")
    failed: int = Field(default=0, description="Asked for, and not read.")
    skipped: int = Field(default=0, description="Left out for a reason.")
    unprotected: int = Field(default=0, description="Nobody asked for it.")
    text: str = Field(default="", description="The same for people.")


class ObjectsResult(Model):
    """The API objects of a backup."""

    directory: str = Field(default="", description="Repository directory in the location.")
    snapshot_id: str = Field(default="", description="Full ID of the snapshot.")
    further_snapshots: list[str] = Field(
        default=[],
        description="Full IDs of the snapshots with the rest, where there are too many objects "
        "for one.",
    )
    count: int = Field(default=0, description="Objects stored.")

    @property
    def snapshots(self) -> tuple[str, ...]:
        """Full IDs of all snapshots, in the order in which they are to be restored."""
        return tuple(part for part in (self.snapshot_id, *self.further_snapshots) if part)


class HookCounts(Model):
    """How the commands before and after fared."""

    pods: int = Field(default=0, description="Pods that have hooks.")
    attempted: int = Field(default=0, description="Commands run, or tried to.")
    failed: int = Field(default=0, description="Commands that failed.")
    owed: int = Field(default=0, description="Pods whose post hooks are still to run.")
    longest_freeze_seconds: float = Field(
        default=0.0, description="Longest time from a pod's first pre hook to its last post hook."
    )
    text: str = Field(default="", description="The same for people.")


class Failure(Model):
    """One thing that went wrong."""

    object: str = Field(description="What it happened to, such as wp/mariadb-0/data.")
    reason: str = Field(description="Why, in one CamelCase word.")
    message: str = Field(default="", description="Why, in one sentence.")


class LastVerification(Model):
    """What became of reading all of a backup."""

    name: str = Field(default="", description="BackupVerification that did it.")
    phase: str = Field(default="", description="Passed, Failed or Inconclusive.")
    time: datetime | None = Field(default=None, description="When it ended.")
    last_passed_time: datetime | None = Field(
        default=None, description="When everything was last as promised."
    )
    last_run_time: datetime | None = Field(
        default=None, description="When its pods were last started from it, and answered."
    )
    message: str = Field(default="", description="What it found, in one sentence.")


class BackupStatus(Status):
    phase: BackupPhase = Field(default=BackupPhase.NEW, description="Where the backup stands.")
    queue_position: int | None = Field(
        default=None,
        description="Which one it is of those that wait for the same namespaces; 1 is next.",
    )
    start_time: datetime | None = Field(default=None, description="When work began.")
    completion_time: datetime | None = Field(default=None, description="When it ended.")
    location: str | None = Field(default=None, description="BackupLocation it went to.")
    namespaces: list[str] = Field(default=[], description="Namespaces it holds, at most 100.")
    namespace_count: int = Field(default=0, description="How many they are.")
    coverage: CoverageCounts | None = Field(default=None, description="How volumes fared.")
    progress: Progress = Field(default=Progress(), description="Sum over its volumes.")
    objects: ObjectsResult | None = Field(default=None, description="Its API objects.")
    hooks: HookCounts | None = Field(default=None, description="Its hooks, where it has any.")
    bytes_processed: int = Field(default=0, description="Size of the files backed up.")
    bytes_stored: int = Field(default=0, description="New data stored for it.")
    failures: list[Failure] = Field(default=[], description="What went wrong, at most 50.")
    failure_count: int = Field(default=0, description="How many went wrong.")
    warnings: list[str] = Field(default=[], description="What to look at, at most 50.")
    verification: LastVerification | None = Field(
        default=None, description="What the last verification of it found."
    )
    pinned: bool = Field(
        default=False, description="The pin is kept in the location, beside the backup."
    )


class Backup(Resource[BackupSpec, BackupStatus]):
    """The files in volumes, and the API objects around them, as of one moment."""

    KIND: ClassVar[str] = "Backup"
    PLURAL: ClassVar[str] = "backups"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Location", "string", ".status.location", 0),
        ("Volumes", "string", ".status.coverage.text", 0),
        ("Progress", "string", ".status.progress.text", 0),
        ("Completed", "date", ".status.completionTime", 0),
        ("Verification", "string", ".status.verification.phase", 0),
        ("Verified", "date", ".status.verification.lastPassedTime", 0),
        ("Message", "string", ".status.message", 0),
        ("Queue", "integer", ".status.queuePosition", 1),
    )
