"""What became of a backup: coverage, failures, phase, manifest. Pure.

Decision: the phase follows from what was read, never from what was started. A volume that was
asked for and not read makes the backup PartiallyFailed; the others stay restorable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ararat.api import PodVolumeBackup
from ararat.api.backup import BackupPhase, CoverageCounts, Failure
from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.nodejob import JobPhase
from ararat.human import unreadable

from .volumes import PlannedVolume

#: What status holds at most; results.json.gz has all of them.
STATUS_LIMIT = 50


@dataclass(frozen=True)
class Outcome:
    phase: BackupPhase
    volumes: tuple[ManifestVolume, ...]
    coverage: CoverageCounts
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    bytes_processed: int
    bytes_stored: int


def volume_result(
    volume: PlannedVolume, job: PodVolumeBackup | None, *, cluster_uid: str
) -> ManifestVolume:
    """One volume's line in the manifest."""
    coverage, reason, message = volume.coverage, volume.reason, volume.message
    status = job.status if job is not None else None
    if coverage is Coverage.BACKED_UP:
        coverage, reason, message = _judge(job)
    good = coverage in (Coverage.BACKED_UP, Coverage.INCOMPLETE)
    return ManifestVolume(
        namespace=volume.pod.namespace,
        pod=volume.pod.name,
        pod_uid=volume.pod.uid,
        volume=volume.volume,
        volume_type=volume.volume_type,
        claim=volume.claim,
        storage_class=volume.storage_class,
        access_modes=list(volume.access_modes),
        capacity=volume.capacity,
        node=job.spec.node if job is not None and job.spec.replaces else volume.node,
        owner_kind=volume.owner_kind,
        owner_name=volume.owner_name,
        coverage=coverage,
        reason=reason,
        message=message,
        directory=job.spec.repository.directory if job is not None and good else "",
        host=volume.host(cluster_uid),
        snapshot_id=status.snapshot_id if status and good else None,
        root=status.root if status and good else None,
        empty=bool(status and good and status.empty),
        unreadable_count=status.unreadable_count if status and good else 0,
        unreadable_paths=status.unreadable_paths if status and good else [],
        socket_count=status.socket_count if status and good else 0,
        socket_paths=status.socket_paths if status and good else [],
        excludes=status.excludes if status and good else [],
        summary=status.summary if status and good else None,
    )


def _judge(job: PodVolumeBackup | None) -> tuple[Coverage, str, str]:
    if job is None:
        return Coverage.FAILED, "JobMissing", "its node job was deleted before it ended"
    status = job.status
    if status.phase is JobPhase.COMPLETED and (status.snapshot_id or status.empty):
        if status.incomplete:
            return (
                Coverage.INCOMPLETE,
                "FilesUnreadable",
                unreadable(status.unreadable_count, status.unreadable_paths),
            )
        return Coverage.BACKED_UP, "", ""
    if status.phase is JobPhase.COMPLETED:
        return Coverage.FAILED, "NoSnapshot", "its node job ended without a snapshot"
    if status.phase is JobPhase.CANCELLED:
        return Coverage.FAILED, "Cancelled", status.message or "cancelled"
    return Coverage.FAILED, status.reason or "Failed", status.message or "the node job failed"


def count_coverage(volumes: Iterable[ManifestVolume | PlannedVolume]) -> CoverageCounts:
    counts = Counter(volume.coverage for volume in volumes)
    words = [
        (counts[Coverage.BACKED_UP], "backed up"),
        (counts[Coverage.INCOMPLETE], "incomplete"),
        (counts[Coverage.FAILED], "failed"),
        (counts[Coverage.SKIPPED], "skipped"),
        (counts[Coverage.UNPROTECTED], "unprotected"),
    ]
    return CoverageCounts(
        backed_up=counts[Coverage.BACKED_UP],
        incomplete=counts[Coverage.INCOMPLETE],
        failed=counts[Coverage.FAILED],
        skipped=counts[Coverage.SKIPPED],
        unprotected=counts[Coverage.UNPROTECTED],
        text=", ".join(f"{n} {word}" for n, word in words if n) or "none",
    )


def missing_snapshots(
    volumes: Sequence[ManifestVolume], listed: Mapping[str, frozenset[str]]
) -> list[ManifestVolume]:
    """Volumes whose snapshot the repository does not list (directory → full snapshot IDs)."""
    return [
        volume
        for volume in volumes
        if volume.snapshot_id and volume.snapshot_id not in listed.get(volume.directory, ())
    ]


def without_snapshot(volume: ManifestVolume) -> ManifestVolume:
    """The volume as failed, because its snapshot could not be found again."""
    return volume.model_copy(
        update={
            "coverage": Coverage.FAILED,
            "reason": "SnapshotMissing",
            "message": f"snapshot {volume.snapshot_id} is not in its repository",
            "snapshot_id": None,
            "summary": None,
            "root": None,
        }
    )


def conclude(
    volumes: Sequence[ManifestVolume],
    *,
    objects_failures: Sequence[Failure] = (),
    warnings: Sequence[str] = (),
) -> Outcome:
    """Phase and sums from what every volume and object came to."""
    failures = [
        *(
            Failure(object=v.id, reason=v.reason or "Failed", message=v.message)
            for v in volumes
            if v.coverage is Coverage.FAILED
        ),
        *objects_failures,
    ]
    noted = [
        *warnings,
        *(
            f"{v.id}: {unreadable(v.unreadable_count, v.unreadable_paths)}: not in the snapshot"
            for v in volumes
            if v.coverage is Coverage.INCOMPLETE
        ),
    ]
    unprotected = [v for v in volumes if v.coverage is Coverage.UNPROTECTED]
    if unprotected:
        names = ", ".join(v.id for v in unprotected[:5])
        more = f" and {len(unprotected) - 5} more" if len(unprotected) > 5 else ""
        noted.append(f"not in this backup, and nobody asked for it: the data of {names}{more}")
    return Outcome(
        phase=BackupPhase.PARTIALLY_FAILED if failures else BackupPhase.COMPLETED,
        volumes=tuple(volumes),
        coverage=count_coverage(volumes),
        failures=tuple(failures),
        warnings=tuple(noted),
        bytes_processed=sum(v.summary.bytes_processed for v in volumes if v.summary),
        bytes_stored=sum(v.summary.bytes_stored for v in volumes if v.summary),
    )
