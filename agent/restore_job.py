"""The body of a PodVolumeRestore with role Fill: a snapshot becomes a volume's content.

Order: the volume is found and proven, and must be empty; ``wrote`` goes into the status *before*
the first byte goes into the volume, so that a later attempt (or a later job of the same restore,
whose ``takesOver`` names this one) knows whose data it finds and replaces it; restic writes through
the open descriptor; everything goes to the disk and is looked at again (agent/verify.py); the
root directory gets its own metadata; the mount must still be what it was. Only then does the status
say Completed, and only a status that says so opens the gate (agent/gatekeeper.py).
A volume that is not empty, and was not filled by this very job, is not touched unless the job says
that its data may be merged with or replaced. What file systems and filers put into an empty volume
by themselves (``DROPPINGS``) is no data, and stays.
Limits: what restic's result means is decided in agent/restore_result.py.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import ExistingData, RestoreMode
from ararat.errors import InvalidSpec, OutOfSpace
from ararat.human import size
from ararat.restic.models import Access, LastRun, RestoreProgress, RestoreRequest, RestoreResult

from .config import AgentConfig
from .context import AgentContext, Engine, Run
from .directory import is_empty
from .droppings import DROPPINGS
from .flush import flushed, flushing, written_out
from .job_volume import job_volume_opened
from .mounted import OpenVolume, confirmed, limited, limited_on
from .repository import repository_opened
from .restore_result import check, check_root, finished_status
from .rootmeta import apply, capture, differences
from .verify import verify

_log = structlog.get_logger(__name__)


class VolumeNotEmpty(InvalidSpec):
    """There is data in the volume that this job did not put there."""

    default_reason = "VolumeNotEmpty"


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
    async with job_volume_opened(context, job, pod, run) as volume:
        own_data = job.status.wrote or spec.takes_over is not None
        if not own_data and spec.existing_data is ExistingData.REFUSE:
            await limited(_refuse_content, volume)
        # After a merge nobody knows any more whose a file is: nothing is removed.
        replace = spec.existing_data is ExistingData.REPLACE or (
            own_data and spec.existing_data is not ExistingData.MERGE
        )
        result, remarks, verified = RestoreResult(), [], None
        if spec.snapshot_id is not None:
            if spec.mode is RestoreMode.SCRATCH and not own_data:
                await limited(_refuse_too_small, volume, spec.expected_bytes, context.config)
            access = Access.READ_ONLY if spec.repository.read_only else Access.APPEND_ONLY
            async with (
                repository_opened(context, job, access=access) as restic,
                written_out(volume),
            ):
                result = await _restore(
                    restic, job, volume, run, replace=replace, mark_written=mark_written
                )
                remark = check(
                    result,
                    fstype=volume.mount.fstype,
                    free=await limited_on(volume.fd, free_bytes),
                    needed=spec.expected_bytes,
                )
                remarks += [remark] if remark else []
                async with flushing(volume, run, written=result.bytes_total) as flush:
                    verified = await verify(
                        restic,
                        volume.fd,
                        run,
                        snapshot_id=spec.snapshot_id,
                        result=result,
                        level=spec.verify,
                        flushing=flush,
                        merged=spec.existing_data is ExistingData.MERGE,
                    )
        elif spec.root is not None:
            await mark_written()
        if spec.root is not None:
            refused = await limited_on(volume.fd, apply, spec.root)
            found = await limited_on(volume.fd, capture)
            unlike = refused or differences(spec.root, found)
            remark = check_root(unlike, fstype=volume.mount.fstype)
            remarks += [remark] if remark else []
        await flushed(volume, run, written=0)
        await confirmed(volume)
    run.bytes_read = result.bytes_restored
    return finished_status(result, remarks, verified)


async def _restore(
    restic: Engine,
    job: PodVolumeRestore,
    volume: OpenVolume,
    run: Run,
    *,
    replace: bool,
    mark_written: Callable[[], Awaitable[None]],
) -> RestoreResult:
    assert job.spec.snapshot_id is not None
    _log.info("restore.restic", path=str(volume.path), mount=str(volume.mount))
    await mark_written()
    request = RestoreRequest(
        snapshot_id=job.spec.snapshot_id,
        target=volume.fd,
        replace=replace,
        exclude=(await _droppings(restic, job.spec.snapshot_id, volume)) if replace else (),
        expected=LastRun(files=job.spec.expected_files, bytes=job.spec.expected_bytes),
    )
    return await restic.restore(request, on_progress=reporter(job, run))


def reporter(job: PodVolumeRestore, run: Run) -> Callable[[RestoreProgress], None]:
    """restic's progress to the job's meter."""

    def report(progress: RestoreProgress) -> None:
        run.meter.update(
            bytes_done=progress.bytes_done,
            total_bytes=progress.total_bytes or job.spec.expected_bytes,
            files_done=progress.files_done,
            total_files=progress.total_files or job.spec.expected_files,
        )

    return report


async def _droppings(restic: Engine, snapshot: str, volume: OpenVolume) -> tuple[str, ...]:
    """Patterns for what the provider put there and the snapshot does not have.

    restic would try to remove it with everything else, which a filer refuses.
    """
    found = DROPPINGS & set(await limited_on(volume.fd, os.listdir))
    if not found:
        return ()
    kept = {node.path async for node in restic.ls(snapshot, path="/", recursive=False)}
    return tuple(_pattern(name) for name in sorted(found) if f"/{name}" not in kept)


def _pattern(name: str) -> str:
    return "/" + name.replace("$", "[$]")


def _refuse_content(volume: OpenVolume) -> None:
    empty, name = is_empty(volume.fd, ignore=DROPPINGS)
    if not empty:
        raise VolumeNotEmpty(
            f"The volume is not empty (it holds {name!r}) and was not filled by this restore; "
            "nothing was touched. To merge with or replace what it holds: --existing-data."
        )


def _refuse_too_small(volume: OpenVolume, needed: int, config: AgentConfig) -> None:
    """Before a byte is written: a scratch volume may be a directory of the node's own disk."""
    reserve = 0 if volume.source.mounted else config.minimum_free_bytes
    free = free_bytes(volume.fd)
    if free < needed + reserve:
        raise OutOfSpace(
            f"The scratch volume is too small: {size(needed)} are needed and {size(free)} are free"
            + (f", of which {size(reserve)} stay free on the node." if reserve else "."),
            reason="ScratchTooSmall",
        )


def free_bytes(fd: int) -> int:
    info = os.fstatvfs(fd)
    return info.f_bavail * info.f_frsize
