"""Removing a repository with the last backup in it.

Decision: ``current.json`` goes first, so that from then on nobody finds it; the rest can be
finished at any time. A repository stays while a backup names it, while any snapshot stands in it
(also one made by hand) or is still to be copied into it by a re-encryption, and while a backup runs
that may be writing to it: a running one says so in its phase before it asks for its repository, and
asking waits for us.
"""

from __future__ import annotations

import structlog

from ararat import layout, naming
from ararat.api import Backup, PodVolumeBackup, Repository
from ararat.api.repository import RepositoryKind
from ararat.errors import InvalidSpec
from ararat.kube.resources import of as resource_of
from ararat.restic.create import current_repository, following_repository
from ararat.restic.successor import remove_directory
from controller.context import Context
from controller.deletion.manifests import Promises
from controller.deletion.snapshots import listed
from controller.location.open import OpenLocation
from controller.repository.listing import made_by_hand, snapshots_of

_VOLUMES = f"{layout.REPOSITORIES}/volumes/"
log = structlog.get_logger("controller.deletion")


def namespace_of(directory: str) -> str | None:
    """The workload namespace of a volumes' repository; None: not one."""
    parts = directory.split("/")
    return parts[2] if directory.startswith(_VOLUMES) and len(parts) == 4 else None


async def retire(
    context: Context, location: OpenLocation, directory: str, promises: Promises
) -> bool:
    """Take the name from a repository that nobody needs. False: it is needed, or may be."""
    namespace = namespace_of(directory)
    if namespace is None or promises.names(directory):
        return False
    folder = layout.volumes_repository(namespace)
    async with context.repositories.hold(location, folder):
        if await _may_be_written(context, location, namespace, directory):
            return False
        if await listed(location, directory):
            return False
        if await _is_copied_into(context, location, directory, promises):
            return False
        current = await current_repository(location.store, folder)
        if current is not None and current.directory == directory:
            await location.store.delete(layout.current(folder))
            log.info("repository retired", directory=directory)
        return True


async def remove(context: Context, location: OpenLocation, directory: str) -> None:
    """Everything of a retired repository. Raises InvalidSpec where it is in use after all."""
    namespace = namespace_of(directory)
    if namespace is None:
        raise InvalidSpec(f"{directory!r} is not the repository of a namespace")
    folder = layout.volumes_repository(namespace)
    current = await current_repository(location.store, folder)
    if current is not None and current.directory == directory:
        raise InvalidSpec(f"repository {directory} is in use", reason="RepositoryInUse")
    await remove_directory(location.store, directory)
    log.info("repository removed", directory=directory)
    if current is None:
        name = naming.object_name(location.name, namespace, RepositoryKind.VOLUMES.value)
        await context.api.delete(resource_of(Repository), name, namespace=context.namespace)


async def _is_copied_into(
    context: Context, location: OpenLocation, directory: str, promises: Promises
) -> bool:
    """Whether a re-encryption has something left for it in the directory that it follows."""
    following = await following_repository(location.store, directory.rpartition("/")[0])
    if following is None or following.successor.directory != directory:
        return False
    if following.released_at is not None:
        return False
    former = following.former
    if promises.names(former):
        return True
    return bool(made_by_hand(await snapshots_of(context, location, former)))


async def _may_be_written(
    context: Context, location: OpenLocation, namespace: str, directory: str
) -> bool:
    """Asked of the API server, not of a cache that may be a moment behind."""
    api, own = context.api, context.namespace
    async for raw in api.list(resource_of(Backup), namespace=own):
        status = raw.get("status") or {}
        phase = status.get("phase")
        if phase not in ("InProgress", "Finalizing") or status.get("location") != location.name:
            continue
        named = status.get("namespaces") or []
        if namespace in named or status.get("namespaceCount", 0) > len(named):
            return True
    async for raw in api.list(resource_of(PodVolumeBackup), namespace=own):
        phase = (raw.get("status") or {}).get("phase")
        if raw["spec"]["repository"]["directory"] == directory and phase not in (
            "Completed",
            "Failed",
            "Cancelled",
        ):
            return True
    return False
