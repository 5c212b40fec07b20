"""Repository: one restic repository in a location."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from .base import Model, Resource, Status


class RepositoryKind(StrEnum):
    VOLUMES = "Volumes"
    OBJECTS = "Objects"


class RepositorySpec(Model):
    location: str = Field(description="BackupLocation that holds it.")
    kind: RepositoryKind = Field(description="Files of volumes, or API objects.")
    namespace: str | None = Field(
        default=None, description="Workload namespace; unset for API objects."
    )


class RepositoryPhase(StrEnum):
    READY = "Ready"
    NOT_READY = "NotReady"
    DAMAGED = "Damaged"


class MaintenanceAction(StrEnum):
    PRUNE = "Prune"
    CHECK = "Check"
    REENCRYPT = "Reencrypt"


class MaintenanceRun(Model):
    action: MaintenanceAction = Field(description="What is done, or was.")
    job: str = Field(default="", description="Kubernetes Job that does it.")
    start_time: datetime | None = Field(default=None, description="When it was begun.")
    completion_time: datetime | None = Field(default=None, description="When it ended.")
    good: bool = Field(default=False, description="It did what it was made for.")
    reason: str = Field(default="", description="Why it failed, in one CamelCase word.")
    message: str = Field(default="", description="What came of it, in one sentence.")


class Orphan(Model):
    snapshot: str = Field(description="Full ID of the snapshot.")
    backup_uid: str = Field(default="", description="UID of the backup that made it.")
    since: datetime = Field(description="When it was found; it is forgotten a day later.")


class Maintenance(Model):
    """What is done for a repository, besides backups and restores."""

    running: MaintenanceRun | None = Field(default=None, description="What runs now.")
    waits_for: str | None = Field(
        default=None, description="What keeps it from beginning what is due."
    )
    last: MaintenanceRun | None = Field(default=None, description="What ran last.")
    last_prune_time: datetime | None = Field(default=None, description="Last good prune.")
    last_check_time: datetime | None = Field(default=None, description="Last good check.")
    data_subset: int = Field(
        default=0, description="Part of the data that the last check read, of 30."
    )
    failures: int = Field(default=0, description="Runs that failed since one was good.")
    size_bytes: int = Field(default=0, description="Data that is stored.")
    used_bytes: int = Field(default=0, description="Data that a snapshot needs.")
    dropped_bytes: int = Field(
        default=0, description="Data that was pruned and is kept for a day, for readers elsewhere."
    )
    dropped_since: datetime | None = Field(
        default=None, description="Since when the oldest of it is kept."
    )
    reclaimed_bytes: int = Field(default=0, description="Data that was removed so far.")
    snapshots: int = Field(default=0, description="Snapshots that it holds.")
    foreign_snapshots: int = Field(
        default=0, description="Snapshots that Ararat did not make; they are left alone."
    )
    orphans: list[Orphan] = Field(
        default=[], description="Snapshots that no backup names, at most 100."
    )
    survey_time: datetime | None = Field(
        default=None, description="When snapshots were last compared with what backups name."
    )


class RepositoryStatus(Status):
    phase: RepositoryPhase | None = Field(default=None, description="Whether it can be used.")
    directory: str | None = Field(
        default=None, description="Where it stands, below the location's prefix."
    )
    repository_id: str | None = Field(default=None, description="restic's repository ID.")
    key_id: str | None = Field(default=None, description="restic key that opens it.")
    holders: list[str] = Field(default=[], description="Node jobs that work on it now, at most 20.")
    maintenance: Maintenance | None = Field(
        default=None, description="Pruning, checks, and what they found."
    )


class Repository(Resource[RepositorySpec, RepositoryStatus]):
    """One restic repository in a location; made and kept by the controller."""

    KIND: ClassVar[str] = "Repository"
    PLURAL: ClassVar[str] = "repositories"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("repo",)
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Kind", "string", ".spec.kind", 0),
        ("Namespace", "string", ".spec.namespace", 0),
        ("Location", "string", ".spec.location", 0),
        ("Snapshots", "integer", ".status.maintenance.snapshots", 0),
        ("Pruned", "date", ".status.maintenance.lastPruneTime", 0),
        ("Checked", "date", ".status.maintenance.lastCheckTime", 0),
        ("Message", "string", ".status.message", 1),
    )
