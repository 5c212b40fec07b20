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
from controller.spool import room

from .collect import Collector, empty, in_order
from .plan import BackupPlan
from .selection import match_resources

#: Memory that the objects of one part may take. Restic is needed once a part, about a second each.
PART_BYTES = 48 << 20


@dataclass(frozen=True)
class ObjectsOutcome:
    result: ObjectsResult
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


async def store_objects(
    context: Context, location: OpenLocation, backup: Backup, plan: BackupPlan, log: RunLog
) -> ObjectsOutcome:
    """List, lay out, store, part by part. Raises the errors of API, store and restic."""
    async with context.spooling:
        return await _store_objects(context, location, backup, plan, log)


async def _store_objects(
    context: Context, location: OpenLocation, backup: Backup, plan: BackupPlan, log: RunLog
) -> ObjectsOutcome:
    current = await context.repositories.objects(location)
    parts: list[str] = []
    added = 0
    async with (
        room(context.spool_dir, "objects") as spool,
        open_repository(
            store=location.store,
            directory=current.directory,
            password=password_of(location, current.repository_name),
            key_id=current.key_id,
            access=Access.APPEND_ONLY,
            owner=context.lock_owner(f"objects-{backup.uid}"),
            cache_dir=context.cache_dir,
            scratch_dir=context.scratch_dir,
        ) as restic,
    ):

        async def store_part() -> None:
            nonlocal added
            tags = ("ararat", f"backup={backup.uid}", "objects", f"part={len(parts) + 1}")
            host = f"{context.cluster_uid}/objects"
            made = await restic.backup(BackupRequest(source=spool, host=host, tags=tags))
            parts.append(made.snapshot_id or "")
            added += made.bytes_added

        empty(spool)
        discovery = await context.api.discover()
        resources = match_resources(discovery.resources, backup.spec)
        collector = Collector(
            context.api,
            spool=spool,
            selection=backup.spec,
            namespaces=plan.namespaces,
            across=plan.across,
            store=store_part,
            part_bytes=PART_BYTES,
        )
        collected = await collector.run(in_order(resources, backup.spec.ordered_resources))
        log.info("objects collected", count=collected.count, kinds=len(resources))
        if collector.spooled or not parts:
            await store_part()
        log.info(
            "objects stored",
            snapshots=parts,
            count=collected.count,
            bytes_added=added,
        )
    return ObjectsOutcome(
        result=ObjectsResult(
            directory=current.directory,
            snapshot_id=parts[0],
            further_snapshots=parts[1:],
            count=collected.count,
        ),
        failures=collected.failures,
        warnings=collected.warnings,
    )
