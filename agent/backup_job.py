"""The body of a PodVolumeBackup: a volume on this node becomes a snapshot.

Order: the volume is found and proven, its root directory's metadata taken, the location proven,
the repository opened, the parent chosen, restic run inside the open descriptor; then the mount must
still be what it was. Only after that is a status made that says Completed.
A run after the first looks for the snapshot that an earlier one finished before its agent died. It
is taken as it is: a hook may have let the application go since, and nothing is read twice. What
that run could not read was written down before the snapshot was stored (agent/announced.py); what
vanished is only looked for afterwards (agent/vanished.py), and not told of an adopted snapshot.
Limits: files that change while they are read are stored as they were met; hooks are for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from ararat import excludes
from ararat.api import PodVolumeBackup
from ararat.api.nodejob import BackupSummary, JobPhase, PodVolumeBackupStatus, RootMetadata
from ararat.errors import AraratError
from ararat.human import plural, sockets_left_out
from ararat.restic.models import (
    Access,
    BackupProgress,
    BackupRequest,
    BackupResult,
    PathError,
    Snapshot,
    SnapshotSummary,
)
from ararat.restic.parent import choose_parent, find_finished, job_tag
from ararat.restic.tuning import last_run

from . import ignorefile, sockets, vanished
from .context import AgentContext, Engine, Run
from .job_volume import job_volume_opened
from .mounted import OpenVolume, confirmed, limited_on
from .progress import finished
from .repository import repository_opened
from .rootmeta import capture
from .sockets import Sockets

_log = structlog.get_logger(__name__)

#: A status holds so many paths, each of so many bytes; results.json.gz holds all.
PATHS_IN_STATUS = 20
PATH_BYTES = 256
#: The pod runs, so its volumes are mounted; this is for the mount to reach our namespace.
_MOUNT_WAIT_SECONDS = 15.0


async def back_up(
    context: AgentContext, job: PodVolumeBackup, pod: Mapping[str, Any], run: Run
) -> dict[str, Any]:
    """The status of the finished job. Raises AraratError."""
    wait = min(_MOUNT_WAIT_SECONDS, context.config.mount_wait_seconds)
    async with job_volume_opened(context, job, pod, run, wait_seconds=wait) as volume:
        root = await limited_on(volume.fd, capture)
        left_out = LeftOut(*await limited_on(volume.fd, ignorefile.read))
        async with repository_opened(
            context, job, access=Access.APPEND_ONLY, before_snapshot=_notes(job, run)
        ) as restic:
            run.stored = lambda: _has_stored(restic)
            inventory = vanished.Inventory(
                context.config.session_dir, exclude_caches=job.spec.exclude_caches
            )
            looking = asyncio.create_task(sockets.find(volume.fd, on_directory=inventory.add))
            try:
                result = await _run_restic(restic, job, volume, run, left_out)
                found = await looking
                if result.snapshot_id is not None and not run.adopted:
                    gone = await vanished.find(
                        inventory,
                        restic,
                        volume=volume.fd,
                        snapshot_id=result.snapshot_id,
                        excluded=(*job.spec.excludes, *left_out.patterns),
                        known=result.unreadable,
                    )
                    result = with_vanished(result, gone)
            finally:
                looking.cancel()
                await asyncio.wait([looking])
                inventory.close()
        await confirmed(volume)
    run.bytes_read = result.bytes_processed
    return {
        **finished_status(result, root, sockets=found, wrong=left_out.wrong),
        "excludes": patterns_in_force(job, left_out),
    }


@dataclass(frozen=True)
class LeftOut:
    """What a backup leaves out besides what the job says, by the volume's own file."""

    patterns: tuple[str, ...] = ()
    wrong: str = ""


def patterns_in_force(job: PodVolumeBackup, left_out: LeftOut) -> list[str]:
    """Pure."""
    patterns = [*job.spec.excludes, *left_out.patterns]
    if job.spec.exclude_caches:
        patterns.append(excludes.CACHES)
    return list(dict.fromkeys(patterns))


def _has_stored(restic: Engine) -> bool:
    """Packs count once an index names them: only then does another run find them."""
    index = restic.stats.operations.get("post index")
    return index is not None and index.requests > index.errors


def _notes(job: PodVolumeBackup, run: Run) -> Callable[[], Awaitable[None]]:
    """Writes into the job what the snapshot will not hold."""

    async def note() -> None:
        if not run.unreadable and not job.status.incomplete:
            return
        found = {"incomplete": run.unreadable > 0, "unreadableCount": run.unreadable}
        try:
            await run.record(found)
        except AraratError as error:
            # Whoever took the job ends this run; until then restic goes on.
            _log.warning("backup.note_not_written", cause=error.message)

    return note


async def _run_restic(
    restic: Engine, job: PodVolumeBackup, volume: OpenVolume, run: Run, left_out: LeftOut
) -> BackupResult:
    snapshots = await restic.snapshots(host=job.spec.host)
    finished_before = find_finished(snapshots, host=job.spec.host, job=job.uid)
    if run.again and finished_before is not None:
        run.adopted = True
        _log.info("backup.adopted", snapshot=finished_before.id)
        return adopted(finished_before, job.status)
    parent, why = choose_parent(snapshots, job.spec.host)
    _log.info("backup.restic", path=str(volume.path), mount=str(volume.mount), parent=why)
    run.meter.touch()

    def report(progress: BackupProgress) -> None:
        run.unreadable = progress.errors
        run.meter.update(
            bytes_done=progress.bytes_done,
            total_bytes=progress.total_bytes,
            files_done=progress.files_done,
            total_files=progress.total_files,
        )

    request = BackupRequest(
        source=volume.fd,
        host=job.spec.host,
        tags=("ararat", f"backup={job.spec.backup_uid}", job_tag(job.uid)),
        parent=parent,
        ignore_ctime=job.spec.ignore_ctime,
        excludes=(*job.spec.excludes, *left_out.patterns),
        exclude_caches=job.spec.exclude_caches,
        last=last_run(snapshots, host=job.spec.host),
    )
    return await restic.backup(request, on_progress=report)


def with_vanished(result: BackupResult, gone: tuple[PathError, ...]) -> BackupResult:
    """Pure: the result with what went away before restic came to it."""
    if not gone:
        return result
    return replace(
        result,
        incomplete=True,
        unreadable=(*result.unreadable, *gone),
        unreadable_count=result.unreadable_count + len(gone),
    )


def adopted(snapshot: Snapshot, status: PodVolumeBackupStatus) -> BackupResult:
    """Pure: the result of a run whose agent died after its snapshot."""
    summary = snapshot.summary or SnapshotSummary()
    seconds = 0.0
    if summary.backup_start is not None and summary.backup_end is not None:
        seconds = (summary.backup_end - summary.backup_start).total_seconds()
    return BackupResult(
        snapshot_id=snapshot.id,
        incomplete=status.incomplete,
        unreadable_count=status.unreadable_count,
        parent=snapshot.parent,
        files_new=summary.files_new,
        files_changed=summary.files_changed,
        files_unmodified=summary.files_unmodified,
        files_total=summary.files_processed,
        bytes_processed=summary.bytes_processed,
        bytes_added=summary.bytes_added,
        bytes_stored=summary.bytes_stored,
        seconds=seconds,
    )


def finished_status(
    result: BackupResult,
    root: RootMetadata,
    *,
    sockets: Sockets,
    wrong: str = "",
) -> dict[str, Any]:
    """Pure: what the job's status says about a finished backup. ``wrong``: in its ignore file."""
    names = [_cut(name) for name in sockets.names]
    notes = (_outcome(result, sockets), sockets_left_out(sockets.count, names), wrong)
    summary = BackupSummary(
        files_new=result.files_new,
        files_changed=result.files_changed,
        files_unmodified=result.files_unmodified,
        files_total=result.files_total,
        bytes_processed=result.bytes_processed,
        bytes_added=result.bytes_added,
        bytes_stored=result.bytes_stored,
        seconds=round(result.seconds, 3),
        parent=result.parent,
    )
    return {
        "phase": JobPhase.COMPLETED.value,
        "reason": None,
        "message": " ".join(f"{note}." for note in notes if note) or None,
        "snapshotID": result.snapshot_id,
        "summary": summary.to_dict(),
        "progress": finished(
            bytes_done=result.bytes_processed, files_done=result.files_total
        ).to_dict(),
        "root": root.to_dict(),
        "empty": result.empty,
        "incomplete": result.incomplete,
        "unreadableCount": result.unreadable_count,
        "unreadablePaths": short_paths(result.unreadable),
        "socketCount": sockets.count,
        "socketPaths": names,
    }


def _outcome(result: BackupResult, sockets: Sockets) -> str:
    if result.empty:
        return "The volume holds no file" if sockets.count else "The volume is empty"
    if not result.incomplete:
        return ""
    said = f"{plural(result.unreadable_count, 'file')} could not be read"
    if not result.unreadable:
        return said
    first = result.unreadable[0]
    return f"{said}, the first: {_cut(first.path)}: {_cut(first.message).rstrip('.')}"


def short_paths(errors: tuple[PathError, ...]) -> list[str]:
    """The first of them, as much as a status may hold."""
    return [_cut(error.path) for error in errors[:PATHS_IN_STATUS]]


def _cut(text: str) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= PATH_BYTES:
        return encoded.decode()
    return encoded[: PATH_BYTES - 3].decode(errors="ignore") + "…"
