"""What became of each volume of a backup, as rows of a table. Pure.

While a backup runs the rows come from its node jobs; when it has ended, from its manifest, which
also knows the volumes that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ararat import human
from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.api.manifest import Coverage, Manifest, ManifestVolume
from ararat.api.nodejob import BackupSummary, JobPhase
from ararat.cli import progress, render
from ararat.gate import TURN

HEADERS = ("NAMESPACE/POD/VOLUME", "CLAIM", "RESULT", "SIZE", "NEW", "FILES", "TIME", "NOTE")
RESTORE_HEADERS = ("NAMESPACE/POD/VOLUME", "CLAIM", "RESULT", "SIZE", "FILES", "TIME", "NOTE")
PLAN_HEADERS = ("NAMESPACE/POD/VOLUME", "CLAIM", "CLASS", "SIZE", "WOULD BE", "WHY")
_PLANNED = {
    Coverage.BACKED_UP: "Read",
    Coverage.FAILED: "Failed",
    Coverage.SKIPPED: "Skipped",
    Coverage.UNPROTECTED: "Unprotected",
}
#: The order in which a person wants to read them.
_ORDER = (
    Coverage.FAILED,
    Coverage.INCOMPLETE,
    Coverage.BACKED_UP,
    Coverage.UNPROTECTED,
    Coverage.SKIPPED,
)


@dataclass(frozen=True)
class Row:
    id: str
    claim: str
    result: str
    size: str = ""
    stored: str = ""
    files: str = ""
    time: str = ""
    note: str = ""


def of_manifest(manifest: Manifest) -> list[Row]:
    """Every volume the backup met, the worrying ones first."""
    ordered = sorted(manifest.volumes, key=lambda v: (_ORDER.index(v.coverage), v.id))
    return [_of_volume(volume) for volume in ordered]


def of_plan(volumes: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Volumes of the cluster as it is now, the worrying ones first."""
    found = [ManifestVolume.model_validate(volume) for volume in volumes]
    worry = (Coverage.FAILED, Coverage.UNPROTECTED, Coverage.SKIPPED, Coverage.BACKED_UP)
    return [
        (
            v.id,
            v.claim.name if v.claim else "",
            v.storage_class or "",
            v.capacity or "",
            _PLANNED.get(v.coverage, str(v.coverage)),
            v.message or v.reason,
        )
        for v in sorted(found, key=lambda v: (worry.index(v.coverage), v.id))
    ]


def plan_table(rows: Iterable[tuple[str, ...]]) -> str:
    return render.table(PLAN_HEADERS, rows)


def of_backup_jobs(jobs: Iterable[PodVolumeBackup]) -> list[Row]:
    """The volumes that were asked for, as far as they are; each once."""
    found = list(jobs)
    replaced = {job.spec.replaces for job in found}
    shown = (_of_backup_job(job) for job in found if job.name not in replaced)
    return sorted(shown, key=lambda row: row.id)


def of_restore_jobs(jobs: Iterable[PodVolumeRestore]) -> list[Row]:
    shown = (job for job in jobs if job.spec.volume != TURN)
    return sorted((_of_restore_job(job) for job in shown), key=lambda row: row.id)


def backup_table(rows: Iterable[Row]) -> str:
    cells = [(r.id, r.claim, r.result, r.size, r.stored, r.files, r.time, r.note) for r in rows]
    return render.table(HEADERS, cells, indent="  ") if cells else ""


def restore_table(rows: Iterable[Row]) -> str:
    cells = [(r.id, r.claim, r.result, r.size, r.files, r.time, r.note) for r in rows]
    return render.table(RESTORE_HEADERS, cells, indent="  ") if cells else ""


def _of_volume(volume: ManifestVolume) -> Row:
    note = volume.message or volume.reason
    if volume.coverage is Coverage.INCOMPLETE and volume.unreadable_count:
        note = human.unreadable(volume.unreadable_count, volume.unreadable_paths)
    elif volume.empty:
        note = note or progress.EMPTY
    sockets = human.sockets_left_out(volume.socket_count, volume.socket_paths)
    note = "; ".join(part for part in (note, sockets) if part)
    claim = volume.claim.name if volume.claim else ""
    row = Row(id=volume.id, claim=claim, result=str(volume.coverage), note=note)
    return _with_summary(row, volume.summary)


def _of_backup_job(job: PodVolumeBackup) -> Row:
    status = job.status
    row = _of_state(job, progress.volume_of_backup(job), incomplete=status.incomplete)
    return _with_summary(row, status.summary)


def _of_restore_job(job: PodVolumeRestore) -> Row:
    status = job.status
    row = _of_state(job, progress.volume_of_restore(job), incomplete=status.failed_count > 0)
    if job.spec.answer is not None:
        return replace(row, result=str(job.spec.answer), note=job.spec.cause)
    if job.spec.follows and not row.note:
        row = replace(row, note=f"as {job.spec.follows}")
    if status.summary is None:
        return row
    return replace(
        row,
        size=render.size(status.summary.bytes_total),
        files=f"{status.summary.files_total:,}",
        time=human.duration(status.summary.seconds),
    )


def _of_state(
    job: PodVolumeBackup | PodVolumeRestore, state: progress.Volume, *, incomplete: bool
) -> Row:
    """What a job's progress says, while there is no summary."""
    complete = state.phase is JobPhase.COMPLETED
    result = "Waiting" if state.phase in (JobPhase.NEW, JobPhase.HELD) else str(state.phase)
    return Row(
        id=state.id,
        claim=job.spec.claim.name if job.spec.claim else "",
        result="Incomplete" if complete and incomplete else result,
        size=human.progress_text(state.done, state.total),
        files=f"{state.files_done:,}" if state.files_done else "",
        time=render.took(job.status.start_time, job.status.completion_time),
        note=state.note,
    )


def _with_summary(row: Row, summary: BackupSummary | None) -> Row:
    if summary is None:
        return row
    return replace(
        row,
        size=render.size(summary.bytes_processed),
        stored=render.size(summary.bytes_stored),
        files=f"{summary.files_total:,}",
        time=human.duration(summary.seconds),
    )
