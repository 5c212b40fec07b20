"""Snapshots against what backups name: what is missing, and what nobody names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ararat.api import Backup
from ararat.api.repository import Orphan
from ararat.kube.resources import of as resource_of
from ararat.restic.create import following_repository
from ararat.restic.models import Access, Snapshot
from ararat.restic.session import open_repository
from controller.context import Context
from controller.deletion.manifests import Promises
from controller.deletion.snapshots import forget, listed
from controller.location.open import OpenLocation
from controller.repository.ensure import password_of

#: Between finding an orphan and forgetting it.
GRACE = timedelta(hours=24)
_SHOWN = 100
_TAG = "ararat"
_BACKUP_TAG = "backup="


@dataclass(frozen=True)
class Survey:
    snapshots: int
    #: Missing snapshot → who names it.
    missing: dict[str, list[str]]
    orphans: list[Orphan]
    foreign: int
    forgotten: int


def split(
    unnamed: list[Snapshot], *, live: frozenset[str], known: list[Orphan], now: datetime
) -> tuple[list[Orphan], int]:
    """Orphans, and how many were made by hand. Pure.

    ``live``: UIDs of backups that have not ended, and may name theirs yet.
    """
    since = {orphan.snapshot: orphan.since for orphan in known}
    orphans, foreign = [], 0
    for snapshot in unnamed:
        uid = next(
            (t.removeprefix(_BACKUP_TAG) for t in snapshot.tags if t.startswith(_BACKUP_TAG)), ""
        )
        if _TAG not in snapshot.tags or not uid:
            foreign += 1
        elif uid not in live:
            found = since.get(snapshot.id, now)
            orphans.append(Orphan(snapshot=snapshot.id, backup_uid=uid, since=found))
    return orphans, foreign


async def survey(
    context: Context,
    location: OpenLocation,
    *,
    directory: str,
    repository_name: str,
    key_id: str,
    promises: Promises,
    known: list[Orphan],
) -> Survey:
    """Look, and forget orphans whose grace is over. Raises Damaged, Retryable."""
    # Backups are asked for before snapshots are listed: one that ends between the two is live.
    live = frozenset(
        [
            str(raw["metadata"]["uid"])
            async for raw in context.api.list(resource_of(Backup), namespace=context.namespace)
            if (raw.get("status") or {}).get("phase", "New")
            in ("New", "Queued", "InProgress", "Finalizing")
        ]
    )
    found = await listed(location, directory)
    named = promises.snapshots(directory)
    missing = {snapshot: who for snapshot, who in named.items() if snapshot not in found}
    unnamed = found - named.keys()
    orphans: list[Orphan] = []
    foreign = forgotten = 0
    if unnamed:
        async with open_repository(
            store=location.store,
            directory=directory,
            password=password_of(location, repository_name),
            key_id=key_id,
            access=Access.READ_ONLY,
            owner=context.lock_owner("survey"),
            cache_dir=context.cache_dir,
            scratch_dir=context.scratch_dir,
        ) as restic:
            details = [s for s in await restic.snapshots() if s.id in unnamed]
        orphans, foreign = split(details, live=live, known=known, now=context.now())
    folder = directory.rpartition("/")[0]
    if not missing and await following_repository(location.store, folder) is None:
        # While a repository is stored anew, what nobody names yet is what a manifest will name.
        over = [o.snapshot for o in orphans if context.now() - o.since >= GRACE]
        forgotten = await forget(location, directory, over)
        orphans = [orphan for orphan in orphans if orphan.snapshot not in over]
    return Survey(len(found) - forgotten, missing, orphans[:_SHOWN], foreign, forgotten)
