"""The body of a PodVolumeRestore with role Fill: a snapshot becomes a volume's content.

Order: the volume is found and proven, and must be empty; ``wrote`` goes into the status *before*
the first byte goes into the volume, so that a later attempt knows whose data it finds and replaces
it; restic writes through the open descriptor; the root directory gets its own metadata; everything
is flushed to the disk; the mount must still be what it was. Only then does the status say
Completed, and only a status that says so opens the gate (agent/gatekeeper.py).
A volume that is not empty, and was not filled by this very job, is never touched.
Limits: what restic counts is compared with what it meant to do; content is not read back here.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import JobPhase, RestoreSummary
from ararat.errors import AraratError, InvalidSpec, OutOfSpace
from ararat.human import plural, size
from ararat.restic.models import Access, RestoreProgress, RestoreRequest, RestoreResult

from .backup_job import short_paths
from .context import AgentContext, Run, find_volume
from .directory import is_empty
from .mounted import OpenVolume, confirmed, limited, volume_opened
from .rootmeta import apply, capture, differences

_log = structlog.get_logger(__name__)

#: What a new file system, or a filer, puts into an empty volume by itself.
DROPPINGS = frozenset(("lost+found", ".snapshot", ".snapshots"))


class VolumeNotEmpty(InvalidSpec):
    """There is data in the volume that this job did not put there."""

    default_reason = "VolumeNotEmpty"


class FilesNotRestored(AraratError):
    """restic could not write some files; ``status`` says which."""

    default_reason = "FilesNotRestored"

    def __init__(self, message: str, *, status: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status


async def fill(
    context: AgentContext,
    job: PodVolumeRestore,
    pod: Mapping[str, Any],
    run: Run,
    *,
    mark_written: Callable[[], Awaitable[None]],
) -> dict[str, Any]:
    """The status of the finished job. Raises AraratError.

    ``mark_written`` records, before anything is written, that the volume's content is this job's.
    """
    spec = job.spec
    source = await find_volume(
        context.api, pod, reference=spec.pod, volume=spec.volume, claim=spec.claim
    )
    async with volume_opened(
        context.config.kubelet_dir,
        spec.pod.uid,
        source,
        wait_seconds=context.config.mount_wait_seconds,
        waiting=run.say,
    ) as volume:
        own_data = job.status.wrote
        if not own_data:
            await limited(_refuse_content, volume)
        result = RestoreResult()
        if spec.snapshot_id is not None:
            result = await _restore(
                context, job, volume, run, replace=own_data, mark_written=mark_written
            )
        elif spec.root is not None:
            await mark_written()
        refused: list[str] = []
        if spec.root is not None:
            refused = await limited(apply, volume.fd, spec.root)
            found = await limited(capture, volume.fd)
            refused = refused or differences(spec.root, found)
        run.meter.touch()
        await limited(_flush, volume.fd)
        await confirmed(volume)
    run.bytes_read = result.bytes_restored
    return finished_status(result, refused)


async def _restore(
    context: AgentContext,
    job: PodVolumeRestore,
    volume: OpenVolume,
    run: Run,
    *,
    replace: bool,
    mark_written: Callable[[], Awaitable[None]],
) -> RestoreResult:
    reference = job.spec.repository
    assert job.spec.snapshot_id is not None

    def report(progress: RestoreProgress) -> None:
        run.meter.update(
            bytes_done=progress.bytes_done,
            total_bytes=progress.total_bytes or job.spec.expected_bytes,
            files_done=progress.files_done,
            total_files=progress.total_files or job.spec.expected_files,
        )

    password = await context.locations.password(reference)
    async with (
        context.locations.opened(reference) as location,
        context.open_repository(
            store=location.store,
            directory=reference.directory,
            password=password,
            key_id=reference.key_id,
            access=Access.READ_ONLY if reference.read_only else Access.APPEND_ONLY,
            owner=context.lock_owner(location.file, job.uid),
            cache_dir=context.config.cache_dir,
            scratch_dir=context.config.scratch_dir,
            settings=context.restic_settings(),
        ) as restic,
    ):
        _log.info("restore.restic", path=str(volume.path), mount=str(volume.mount))
        await mark_written()
        request = RestoreRequest(
            snapshot_id=job.spec.snapshot_id, target=volume.fd, replace=replace
        )
        result = await restic.restore(request, on_progress=report)
    check(result, free=await limited(_free_bytes, volume.fd), needed=job.spec.expected_bytes)
    return result


def check(result: RestoreResult, *, free: int, needed: int) -> None:
    """Raises unless restic wrote all that it meant to write. Pure."""
    status = {
        "failedCount": result.failed_count,
        "failedPaths": short_paths(result.failed),
        "summary": _summary(result).to_dict(),
    }
    if result.failed_count:
        first = result.failed[0] if result.failed else None
        cause = f", the first: {first.path}: {first.message}" if first else ""
        message = f"{plural(result.failed_count, 'file')} could not be restored{cause}."
        if any("no space left" in error.message.lower() for error in result.failed):
            raise OutOfSpace(
                f"The volume is full: {size(needed)} are needed in all and {size(free)} are free."
            )
        raise FilesNotRestored(message, status=status)
    done = result.files_restored + result.files_skipped
    if done != result.files_total:
        raise FilesNotRestored(
            f"restic restored {done:,} of {result.files_total:,} files and named no cause.",
            status=status,
        )


def finished_status(result: RestoreResult, refused: list[str]) -> dict[str, Any]:
    """Pure: what the job's status says about a finished restore."""
    message = None
    if refused:
        message = f"The volume's root directory could not be set in full: {', '.join(refused)}."
    return {
        "phase": JobPhase.COMPLETED.value,
        "reason": None,
        "message": message,
        "summary": _summary(result).to_dict(),
        "failedCount": 0,
        "failedPaths": [],
    }


def _summary(result: RestoreResult) -> RestoreSummary:
    return RestoreSummary(
        files_restored=result.files_restored,
        bytes_restored=result.bytes_restored,
        files_total=result.files_total,
        bytes_total=result.bytes_total,
        seconds=round(result.seconds, 3),
    )


def _refuse_content(volume: OpenVolume) -> None:
    empty, name = is_empty(volume.fd, ignore=DROPPINGS)
    if not empty:
        raise VolumeNotEmpty(
            f"The volume is not empty (it holds {name!r}) and was not filled by this restore; "
            "nothing was touched."
        )


def _free_bytes(fd: int) -> int:
    info = os.fstatvfs(fd)
    return info.f_bavail * info.f_frsize


def _flush(fd: int) -> None:
    """The volume's file system to its disk: Completed must survive the node's power."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise AraratError(
            f"The volume could not be flushed to its disk: {os.strerror(code)}.",
            reason="FlushFailed",
        )
