"""The API objects of one backup, collected and stored as a restic snapshot.

A controller that was killed before the result reached the Backup's status collects again: what
was stored is not stored twice (restic deduplicates), and what failed to be listed is not lost,
which a snapshot found again by its tags could not tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ararat.api import Backup
from ararat.api.backup import Failure, ObjectsResult
from ararat.restic.models import Access, BackupRequest
from ararat.restic.session import open_repository
from controller.context import Context
from controller.location.open import OpenLocation
from controller.repository.ensure import password_of
from controller.runlog import RunLog

from .collect import TREE, Collector, clear, ordered_for_needs
from .plan import BackupPlan
from .selection import match_resources


@dataclass(frozen=True)
class ObjectsOutcome:
    result: ObjectsResult
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


async def store_objects(
    context: Context, location: OpenLocation, backup: Backup, plan: BackupPlan, log: RunLog
) -> ObjectsOutcome:
    """List, lay out, store. Raises the errors of API, store and restic."""
    current = await context.repositories.objects(location)
    tags = ("ararat", f"backup={backup.uid}", "objects")
    async with open_repository(
        store=location.store,
        directory=current.directory,
        password=password_of(location, current.repository_name),
        key_id=current.key_id,
        access=Access.APPEND_ONLY,
        owner=context.lock_owner(f"objects-{backup.uid}"),
        cache_dir=context.cache_dir,
        scratch_dir=context.scratch_dir,
    ) as restic:
        host = f"{context.cluster_uid}/objects"
        spool = context.spool_dir / backup.uid
        clear(spool)
        spool.mkdir(parents=True, mode=0o700)
        (spool / TREE).mkdir()  # of no objects, too, there is a snapshot
        try:
            discovery = await context.api.discover()
            resources = match_resources(discovery.resources, backup.spec)
            collector = Collector(
                context.api,
                spool=spool,
                selection=backup.spec,
                namespaces=plan.namespaces,
                everything=plan.everything,
            )
            collected = await collector.run(ordered_for_needs(resources))
            log.info("objects collected", count=collected.count, kinds=len(resources))
            snapshot = await restic.backup(BackupRequest(source=spool, host=host, tags=tags))
        finally:
            clear(spool)
        log.info(
            "objects stored",
            snapshot=snapshot.snapshot_id,
            count=collected.count,
            bytes_added=snapshot.bytes_added,
        )
    return ObjectsOutcome(
        result=ObjectsResult(
            directory=current.directory,
            snapshot_id=snapshot.snapshot_id or "",
            count=collected.count,
        ),
        failures=collected.failures,
        warnings=collected.warnings,
    )
