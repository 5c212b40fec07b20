"""What restic says stands in a repository: tags tell who made a snapshot, names do not."""

from __future__ import annotations

from collections.abc import Iterable

from ararat import layout
from ararat.restic.models import Access, Snapshot
from ararat.restic.session import open_repository
from controller.context import Context
from controller.location.open import OpenLocation
from controller.repository.ensure import password_of

_TAG = "ararat"


async def snapshots_of(context: Context, location: OpenLocation, directory: str) -> list[Snapshot]:
    async with open_repository(
        store=location.store,
        directory=directory,
        password=password_of(location, layout.repository_name(directory)),
        access=Access.READ_ONLY,
        owner=context.lock_owner("listing"),
        cache_dir=context.cache_dir,
        scratch_dir=context.scratch_dir,
    ) as restic:
        return await restic.snapshots()


def made_by_hand(snapshots: Iterable[Snapshot]) -> set[str]:
    """IDs of those that Ararat has not made."""
    return {one.id for one in snapshots if _TAG not in one.tags}
