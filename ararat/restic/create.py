"""Making a repository, and finding the one that is there.

Problem: a repository is a key and a config, which are two writes: parallel or interrupted inits in
one directory leave keys that open nothing, and every one of them says "initialized".
Decision: each attempt has a fresh directory of its own. Its key of low cost and its config are
written, restic opens it once to prove it, and only then it is named by ``current.json``, which is
create-only: the first one wins, the others take the winner's and remove their own directory.
An attempt that dies leaves a directory that nothing names, with a few small files;
``remove_abandoned`` takes it away later: only what never held a backup, and only where another
directory has been named, so that a creator that wakes up late cannot name a removed one.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import structlog

from ararat import layout
from ararat.blob.store import BlobStore
from ararat.errors import AraratError, Conflict, Damaged, NotFound
from ararat.keys import check_fingerprint, fingerprint, repository_password
from ararat.layout import CurrentFile, FollowingFile

from . import keyfile
from .commands import Restic
from .config import new_config, seal_config
from .crypt import random_keys
from .keyfile import KeyIdentity
from .models import Access, LockOwner, RepositoryConfig
from .rest_paths import Kind
from .session import open_runner
from .settings import Settings

log = structlog.get_logger()

#: Making one takes seconds; a day is far beyond every retry and every paused machine.
ABANDONED_AFTER = timedelta(days=1)
#: What a directory holds before the first backup.
_BEFORE_USE = {str(Kind.CONFIG), str(Kind.KEY), str(Kind.LOCK)}


async def current_repository(store: BlobStore, folder: str) -> CurrentFile | None:
    """What ``current.json`` in ``folder`` names; None where there is no repository yet."""
    try:
        data = await store.get(layout.current(folder))
    except NotFound:
        return None
    found = CurrentFile.decode(data)
    if layout.repository_name(found.directory) != found.repository_name:
        raise Damaged(f"{layout.current(folder)} names another repository's directory")
    return found


async def following_repository(store: BlobStore, folder: str) -> FollowingFile | None:
    """What ``next.json`` in ``folder`` says; None where nothing is stored anew."""
    try:
        data = await store.get(layout.following(folder))
    except NotFound:
        return None
    return FollowingFile.decode(data)


async def create_repository(
    store: BlobStore,
    *,
    folder: str,
    master: bytes,
    location_id: str,
    owner: LockOwner,
    scratch_dir: Path,
    settings: Settings | None = None,
) -> CurrentFile:
    """The repository of ``folder``, made if need be. Any number may call this at once.

    Raises WrongKey where it was made with another master key.
    """
    found = await current_repository(store, folder)
    if found is None:
        found = await _make(
            store,
            folder=folder,
            master=master,
            location_id=location_id,
            owner=owner,
            scratch_dir=scratch_dir,
            settings=settings,
        )
    found = found.for_key(fingerprint(master))
    check_fingerprint(master, found.key_fingerprint, what=f"the repository {found.directory}")
    return found


async def remove_abandoned(
    store: BlobStore, folder: str, *, older_than: timedelta = ABANDONED_AFTER
) -> list[str]:
    """Remove directories of ``folder`` that creators left half-made; which ones those were.

    Kept: those that ``current.json`` and ``next.json`` name, any that holds or held data, any that
    is young by the store's own clock, and everything while nothing is named yet.
    """
    named = await current_repository(store, folder)
    if named is None:
        return []
    following = await following_repository(store, folder)
    kept = {named.directory, *([following.successor.directory] if following else [])}
    now = await store.now()
    removed = []
    for name in await store.list_directories(folder):
        directory = f"{folder}/{name}"
        if directory in kept:
            continue
        blobs = [blob async for blob in store.list(f"{directory}/")]
        kinds = {blob.name.removeprefix(f"{directory}/").partition("/")[0] for blob in blobs}
        newest = max((blob.last_modified for blob in blobs), default=now)
        if kinds <= _BEFORE_USE and now - newest > older_than:
            log.info("repository-abandoned", directory=directory, files=len(blobs))
            await remove_unnamed(store, directory)
            removed.append(directory)
    return removed


async def _make(
    store: BlobStore,
    *,
    folder: str,
    master: bytes,
    location_id: str,
    owner: LockOwner,
    scratch_dir: Path,
    settings: Settings | None,
) -> CurrentFile:
    made = await initialise(
        store,
        folder=folder,
        master=master,
        location_id=location_id,
        owner=owner,
        scratch_dir=scratch_dir,
        settings=settings,
    )
    try:
        await store.put(layout.current(folder), made.encode(), create_only=True)
    except Conflict:
        winner = await current_repository(store, folder)
        if winner is None:
            raise
        if winner.directory != made.directory:  # else our own put, whose answer was lost
            log.info("repository-made-twice", ours=made.directory, winner=winner.directory)
            await remove_unnamed(store, made.directory)
        return winner
    log.info("repository-made", directory=made.directory, id=made.repository_id)
    return made


async def initialise(
    store: BlobStore,
    *,
    folder: str,
    master: bytes,
    location_id: str,
    owner: LockOwner,
    scratch_dir: Path,
    settings: Settings | None = None,
    like: RepositoryConfig | None = None,
) -> CurrentFile:
    """A repository in a fresh directory, proven to open, which nothing names yet.

    ``like``: data is cut into the same pieces as in that repository.
    """
    directory = layout.fresh_directory(folder)
    name = layout.repository_name(directory)
    password = repository_password(master, location_id, name)
    who = KeyIdentity(location_id, name, fingerprint(master))
    keys = random_keys()
    key = keyfile.wrap(keys, password=password, who=who)
    config = await asyncio.to_thread(new_config, like=like)
    await store.put(f"{directory}/{Kind.KEY}/{key.id}", key.data, create_only=True)
    await store.put(f"{directory}/{Kind.CONFIG}", seal_config(config, keys), create_only=True)
    async with open_runner(
        store=store,
        directory=directory,
        password=password,
        key_id=key.id,
        access=Access.READ_ONLY,
        owner=owner,
        cache_dir=None,
        scratch_dir=scratch_dir,
        settings=settings,
    ) as runner:
        read = await Restic(runner).cat_config()
    if read != config:
        raise Damaged(f"restic reads another config in {directory} than was written")
    return CurrentFile(
        directory=directory,
        repository_name=name,
        repository_id=config.id,
        key_id=key.id,
        key_fingerprint=who.fingerprint,
        made_under=who.fingerprint,
    )


async def remove_unnamed(store: BlobStore, directory: str) -> None:
    """Our own, never named directory. What cannot be removed stays, and is in nobody's way."""
    try:
        for name in [blob.name async for blob in store.list(f"{directory}/")]:
            await store.delete(name)
    except AraratError as exc:
        log.warning("repository-leftover", directory=directory, error=exc.message)
