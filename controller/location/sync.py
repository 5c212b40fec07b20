"""Sync: Backup objects follow what a location holds. The decision is pure.

A backup whose manifest is there is offered; one whose manifest is gone, or whose deletion began,
is not. Objects of backups that have not ended are none of sync's business, except those that sync
made and could not give their status.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ararat.api import Backup
from ararat.api.backup import BackupPhase, BackupStatus
from ararat.api.base import Meta
from ararat.api.manifest import Manifest
from ararat.api.names import LOCATION, SCHEDULE, SYNCED
from ararat.naming import label_value


@dataclass(frozen=True)
class SyncPlan:
    #: Names of backups to read and to make an object for.
    add: tuple[str, ...]
    #: Objects whose backup is no longer there.
    remove: tuple[Backup, ...]
    #: Names that another location's backup has taken.
    shadowed: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """What the names of all blobs below ``backups/`` say."""

    #: Backups that exist.
    backups: frozenset[str]
    #: Those of them that are kept whatever their age.
    pinned: frozenset[str]
    #: Backups whose deletion has begun and not ended.
    deleting: frozenset[str]
    #: Those beside which the result of a verification stands.
    verified: frozenset[str] = frozenset()


def read_names(names: Iterable[str]) -> Stored:
    files: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == "backups":
            files.setdefault(parts[1], set()).add(parts[2])
    deleting = {backup for backup, held in files.items() if "deleting.json" in held}
    backups = {b for b, held in files.items() if "manifest.json" in held} - deleting
    return Stored(
        backups=frozenset(backups),
        pinned=frozenset(b for b in backups if "pinned.json" in files[b]),
        deleting=frozenset(deleting),
        verified=frozenset(b for b in backups if "verification.json" in files[b]),
    )


def stored_backups(names: Iterable[str]) -> set[str]:
    """Backups that exist, from the names of all blobs below ``backups/``."""
    return set(read_names(names).backups)


def plan_sync(location: str, stored: set[str], objects: Iterable[Backup]) -> SyncPlan:
    """What to add and what to remove so that objects follow the location.

    ``objects`` were looked at before ``stored`` was listed: a backup that ends between the two is
    then one that has not ended, and never one whose manifest is gone.
    """
    by_name = {backup.name: backup for backup in objects}
    add, shadowed = [], []
    for name in sorted(stored):
        existing = by_name.get(name)
        if existing is None or _half_made(existing, location):
            add.append(name)
        elif existing.status.location not in (None, location):
            shadowed.append(name)
    remove = tuple(
        backup
        for backup in by_name.values()
        if (
            (backup.status.location == location and backup.status.phase.restorable)
            or _half_made(backup, location)
        )
        and backup.name not in stored
        and backup.metadata.deletion_timestamp is None
    )
    return SyncPlan(add=tuple(add), remove=remove, shadowed=tuple(shadowed))


def awaits_status(backup: Backup) -> bool:
    """Whether sync made the object and has not said in its status yet what it is.

    An object is created without status, so for a moment, and for longer where the controller was
    killed just then, it looks like a backup that somebody asks for.
    """
    return backup.metadata.labels.get(SYNCED) == "true" and backup.status.phase is BackupPhase.NEW


def _half_made(backup: Backup, location: str) -> bool:
    return awaits_status(backup) and backup.metadata.labels.get(LOCATION) == label_value(location)


def backup_from_manifest(
    manifest: Manifest, *, location: str, namespace: str, pinned: bool = False
) -> tuple[dict[str, object], BackupStatus]:
    """The object to create for a backup found in a location, and the status to give it."""
    labels = {LOCATION: label_value(location), SYNCED: "true"}
    if manifest.spec.schedule:
        labels[SCHEDULE] = label_value(manifest.spec.schedule)
    backup = Backup(
        metadata=Meta(name=manifest.backup, namespace=namespace, labels=labels),
        spec=manifest.spec.model_copy(
            update={"location": location, "cancel": False, "pinned": pinned}
        ),
        status=BackupStatus(),
    )
    status = BackupStatus(
        phase=manifest.phase,
        start_time=manifest.start_time,
        completion_time=manifest.completion_time,
        location=location,
        namespaces=manifest.namespaces[:100],
        namespace_count=len(manifest.namespaces),
        coverage=manifest.coverage,
        objects=manifest.objects,
        bytes_processed=sum(v.summary.bytes_processed for v in manifest.volumes if v.summary),
        bytes_stored=sum(v.summary.bytes_stored for v in manifest.volumes if v.summary),
        failures=manifest.failures[:50],
        failure_count=len(manifest.failures),
        warnings=manifest.warnings[:50],
        pinned=pinned,
    )
    return backup.manifest(), status
