"""The body of a PodVolumeRestore in place: a snapshot goes over what is in a volume in use.

Problem: the pod runs. It sees files change under it, which its user asked for; but it may also swap
directories for links while restic writes as root.
Decision: restic is confined to the volume by Landlock, and where the kernel cannot do that nothing
is written at all (docs/security.md says what Landlock does not cover). Files are compared and only
what differs is written; what the snapshot does not have stays, unless its removal was asked for.
With paths, nothing outside them is touched, the root directory's metadata included.
Afterwards, verify Full has restic read everything back; Sample has nothing to count here, where
more may be in the volume and the application writes.
Limits: an application that has files open goes on with what it had read. No locks of its are kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import Verify
from ararat.errors import InvalidSpec, NotFound
from ararat.restic.models import Access, Confinement, LastRun, RestoreRequest, RestoreResult

from .context import AgentContext, Run
from .flush import flushed
from .include import pattern
from .job_volume import job_volume_opened
from .mounted import confirmed, limited_on
from .repository import repository_opened
from .restore_job import free_bytes, reporter
from .restore_result import check, check_root, finished_status
from .rootmeta import apply, capture, differences

_log = structlog.get_logger(__name__)


async def restore_in_place(
    context: AgentContext,
    job: PodVolumeRestore,
    pod: Mapping[str, Any],
    run: Run,
    *,
    mark_written: Callable[[], Awaitable[None]],
) -> dict[str, Any]:
    """The status of the finished job. Raises AraratError, NotConfinable among them."""
    spec = job.spec
    if spec.snapshot_id is None:
        return _nothing_stored(job)
    async with job_volume_opened(context, job, pod, run) as volume:
        access = Access.READ_ONLY if spec.repository.read_only else Access.APPEND_ONLY
        async with repository_opened(context, job, access=access) as restic:
            _log.info("restore.in_place", path=str(volume.path), paths=spec.paths)
            await mark_written()
            request = RestoreRequest(
                snapshot_id=spec.snapshot_id,
                target=volume.fd,
                sparse=False,
                replace=spec.delete_extra,
                include=tuple(pattern(path) for path in spec.paths),
                verify=spec.verify is Verify.FULL,
                confinement=Confinement.REQUIRED,
                expected=LastRun(files=spec.expected_files, bytes=spec.expected_bytes),
            )
            result = await restic.restore(request, on_progress=reporter(job, run))
        seen = result.files_total + result.files_restored
        if spec.paths and not seen:
            raise NotFound(
                f"the backup of the volume has no {', '.join(spec.paths)}: nothing was changed",
                reason="PathNotInBackup",
            )
        remark = check(
            result,
            fstype=volume.mount.fstype,
            free=await limited_on(volume.fd, free_bytes),
            needed=spec.expected_bytes,
            in_place=True,
        )
        remarks = [remark] if remark else []
        if spec.root is not None and not spec.paths:
            refused = await limited_on(volume.fd, apply, spec.root)
            found = await limited_on(volume.fd, capture)
            unlike = refused or differences(spec.root, found)
            remark = check_root(unlike, fstype=volume.mount.fstype)
            remarks += [remark] if remark else []
        await flushed(volume, run, written=result.bytes_total)
        await confirmed(volume)
    run.bytes_read = result.bytes_restored
    return finished_status(result, remarks)


def _nothing_stored(job: PodVolumeRestore) -> dict[str, Any]:
    """The volume was empty when it was backed up."""
    if job.spec.delete_extra or job.spec.paths:
        raise InvalidSpec(
            "the volume was empty when it was backed up: there is nothing to restore, and nothing "
            "is removed",
            reason="EmptyInBackup",
        )
    return finished_status(RestoreResult(), ["the volume was empty when it was backed up"])
