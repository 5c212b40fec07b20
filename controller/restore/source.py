"""What a restore reads from the location: the manifest, and the API objects.

Decision: everything comes from the location and nothing from this cluster's memory of the backup,
so a restore works in a cluster that has never seen it. The manifest's HMAC is checked before a word
of it is believed. Objects are laid out in memory-backed spool space, read, and removed at once:
Secrets are among them.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Protocol

from ararat import layout
from ararat.api.manifest import Manifest, ManifestRepository, decode_manifest
from ararat.errors import Damaged, NotFound
from ararat.restic.models import Access, RestoreRequest
from ararat.restic.session import open_repository
from controller.context import Context
from controller.location.open import OpenLocation
from controller.repository.ensure import password_of
from controller.spool import room

from .stored import StoredObject, read_tree


class ObjectsReader(Protocol):
    """Where the API objects of a backup come from; ``read_objects`` is the one there is."""

    async def __call__(
        self, context: Context, location: OpenLocation, manifest: Manifest, *, job: str
    ) -> list[StoredObject]: ...


async def read_manifest(location: OpenLocation, backup: str) -> Manifest:
    """The manifest, believed. Raises NotFound, Damaged, Retryable."""
    try:
        data = await location.store.get(layout.backup_manifest(backup))
    except NotFound as exc:
        raise NotFound(
            f"location {location.name} has no finished backup {backup!r}",
            reason="BackupNotFound",
        ) from exc
    manifest = decode_manifest(data, *location.manifest_keys)
    if manifest.backup != backup or manifest.location_id != location.location_id:
        raise Damaged(
            f"the manifest stored for backup {backup!r} is that of backup {manifest.backup!r}",
            reason="ManifestForged",
        )
    if await _exists(location, layout.backup_deleting(backup)):
        raise NotFound(f"backup {backup!r} is being deleted", reason="BackupDeleting")
    return manifest


def repository_of(manifest: Manifest, directory: str) -> ManifestRepository:
    """The repository that stands in ``directory``."""
    for repository in manifest.repositories:
        if repository.directory == directory:
            name = repository.repository_name or layout.repository_name(directory)
            return repository.model_copy(update={"repository_name": name})
    return ManifestRepository(
        directory=directory, repository_name=layout.repository_name(directory)
    )


async def read_objects(
    context: Context, location: OpenLocation, manifest: Manifest, *, job: str
) -> list[StoredObject]:
    """All API objects of a backup. ``job``: UID of the restore. Raises AraratError."""
    if not manifest.objects.snapshot_id:
        return []
    repository = repository_of(manifest, manifest.objects.directory)
    objects: dict[tuple[str, str | None, str], StoredObject] = {}
    async with (
        room(context.spool_dir, "restore") as spool,
        open_repository(
            store=location.store,
            directory=repository.directory,
            password=password_of(location, repository.repository_name),
            key_id=repository.key_id,
            access=Access.APPEND_ONLY if location.writable else Access.READ_ONLY,
            owner=context.lock_owner(job),
            cache_dir=context.cache_dir,
            scratch_dir=context.scratch_dir,
        ) as restic,
    ):
        for snapshot in manifest.objects.snapshots:
            await asyncio.to_thread(_empty, spool)
            result = await restic.restore(
                RestoreRequest(snapshot_id=snapshot, target=spool, sparse=False)
            )
            if result.failed_count:
                first = result.failed[0].message if result.failed else "no cause given"
                raise Damaged(
                    f"{result.failed_count} API objects of backup {manifest.backup} could not "
                    f"be read: {first}",
                    reason="ObjectsUnreadable",
                )
            # Of an object that is in two parts, the later one is meant.
            for obj in await asyncio.to_thread(lambda: list(read_tree(spool))):
                objects[(obj.resource, obj.namespace, obj.name)] = obj
    return list(objects.values())


def _empty(spool: Path) -> None:
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir(mode=0o700)


async def _exists(location: OpenLocation, name: str) -> bool:
    try:
        await location.store.head(name)
    except NotFound:
        return False
    return True
