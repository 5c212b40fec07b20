"""A repository is stored anew in another directory, under inner keys that nobody has seen.

Problem: restic encrypts with keys that are chosen when a repository is made. A new password wraps
the same ones; whoever may have them must be left behind with a repository that is no longer used,
while backups go on and readers elsewhere still read there.
Decision: the steps, each whole and repeatable, of which ``controller.repository.reencryption``
makes the order. The successor is chosen create-only (``next.json``), takes over by one write of
``current.json`` and is noted to have done so; ``next.json`` goes when the former directory has.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import structlog

from ararat import layout
from ararat.blob.store import BlobStore
from ararat.errors import Conflict
from ararat.keys import fingerprint, repository_password
from ararat.layout import CurrentFile, FollowingFile

from .commands import Restic
from .create import following_repository, initialise, remove_unnamed
from .models import Access, LockOwner
from .session import open_runner
from .settings import Settings

log = structlog.get_logger()


async def make_successor(
    store: BlobStore,
    *,
    folder: str,
    former: CurrentFile,
    master: bytes,
    location_id: str,
    owner: LockOwner,
    scratch_dir: Path,
    settings: Settings | None = None,
) -> FollowingFile:
    """An empty repository that cuts data as ``former`` does; the one there is, if there is one.

    ``master`` opens both. Raises Conflict: it was taken away again by somebody else.
    """
    async with open_runner(
        store=store,
        directory=former.directory,
        password=repository_password(master, location_id, former.repository_name),
        key_id=former.for_key(fingerprint(master)).key_id,
        access=Access.READ_ONLY,
        owner=owner,
        cache_dir=None,
        scratch_dir=scratch_dir,
        settings=settings,
    ) as runner:
        like = await Restic(runner).cat_config()
    made = await initialise(
        store,
        folder=folder,
        master=master,
        location_id=location_id,
        owner=owner,
        scratch_dir=scratch_dir,
        settings=settings,
        like=like,
    )
    chosen = FollowingFile(former=former.directory, successor=made)
    try:
        await store.put(layout.following(folder), chosen.encode(), create_only=True)
    except Conflict:
        winner = await following_repository(store, folder)
        if winner is None:
            raise
        if winner.successor.directory != made.directory:
            await remove_unnamed(store, made.directory)
        return winner
    log.info("repository-successor-made", former=former.directory, directory=made.directory)
    return chosen


async def switch(store: BlobStore, folder: str, following: FollowingFile) -> None:
    """From here on the successor is the repository. Raises Conflict, NotFound: another one is."""
    name = layout.current(folder)
    info = await store.head(name)
    found = CurrentFile.decode(await store.get(name))
    if found.directory == following.successor.directory:
        return
    if found.directory != following.former:
        raise Conflict(f"{found.directory} has become the repository meanwhile")
    await store.put(name, following.successor.encode(), if_match=info.etag)
    log.info(
        "repository-switched", former=following.former, directory=following.successor.directory
    )


async def mark(
    store: BlobStore,
    folder: str,
    following: FollowingFile,
    *,
    switched_at: datetime | None,
    released_at: datetime | None,
) -> FollowingFile:
    """Note how far it is. Raises Conflict: somebody else noted something else."""
    name = layout.following(folder)
    info = await store.head(name)
    if FollowingFile.decode(await store.get(name)) != following:
        raise Conflict(f"{name} is being changed by somebody else")
    changed = following.model_copy(update={"switched_at": switched_at, "released_at": released_at})
    await store.put(name, changed.encode(), if_match=info.etag)
    return changed


async def remove_directory(store: BlobStore, directory: str) -> None:
    """Everything of a repository that nothing names, and what maintenance noted about it."""
    for prefix in (f"{directory}/", f"{layout.maintenance(directory)}/"):
        async for blob in store.list(prefix):
            await store.delete(blob.name)
