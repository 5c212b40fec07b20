"""Copies snapshots into the repository that takes the place of theirs, under other inner keys.

Decision: restic's own ``copy``, of the snapshots that the task names, in portions so that a command
line has room for them. What is there already is not copied again, so a job that was ended goes on
where it was, but for what the last index did not hold yet (restic writes one every ten minutes).
The former repository is only read, and takes no lock: nothing is removed from it meanwhile, because
one repository has one maintenance job at a time.
"""

from __future__ import annotations

import structlog

from ararat.blob.store import BlobStore
from ararat.errors import InvalidSpec
from ararat.human import plural
from ararat.maintenance import (
    PROMISED,
    TARGET_PASSWORD,
    MaintenanceResult,
    MaintenanceTask,
    unpack_ids,
)
from ararat.restic.models import Access, LockOwner
from ararat.restic.session import open_repository

from .config import AgentConfig
from .locations import Locations

#: Their ids are 33 KiB of a command line, of which Linux allows 128 KiB for one argument and more
#: in all.
_AT_ONCE = 500
log = structlog.get_logger("maintain")


async def reencrypt(
    config: AgentConfig,
    locations: Locations,
    task: MaintenanceTask,
    *,
    store: BlobStore,
    owner: LockOwner,
) -> MaintenanceResult:
    """Raises AraratError."""
    source, target = task.repository, task.target
    if target is None:
        raise InvalidSpec("the task does not say which repository to copy into")
    secret = await locations.secret(source.password_secret)
    wanted = sorted(await promised_of(locations, task))
    copied = 0
    async with (
        open_repository(
            store=store,
            directory=source.directory,
            password=await locations.password(source),
            key_id=source.key_id,
            access=Access.READ_ONLY,
            owner=owner,
            cache_dir=config.cache_dir,
            scratch_dir=config.scratch_dir,
        ) as former,
        open_repository(
            store=store,
            directory=target.directory,
            password=secret.get(TARGET_PASSWORD, b"").decode("ascii", errors="replace"),
            key_id=target.key_id,
            access=Access.APPEND_ONLY,
            owner=owner,
            cache_dir=config.cache_dir,
            scratch_dir=config.scratch_dir,
        ) as successor,
    ):
        for start in range(0, len(wanted), _AT_ONCE):
            portion = wanted[start : start + _AT_ONCE]
            copied += len(await successor.copy_from(former, portion))
            log.info("snapshots copied", directory=target.directory, count=copied)
    return MaintenanceResult(good=True, message=f"{plural(copied, 'snapshot')} copied")


async def promised_of(locations: Locations, task: MaintenanceTask) -> frozenset[str]:
    """Ids of the snapshots that the controller wrote beside the password."""
    data = await locations.secret(task.repository.password_secret)
    return unpack_ids(data.get(PROMISED, b""))
