"""Making a repository, and finding the one that is there.

Problem: restic writes its key before its config, so parallel or interrupted inits in one directory
leave keys that open nothing, and every one of them says "initialized".
Decision: each attempt has a fresh directory of its own. It is initialised, given its key of low
cost, opened once to prove it, and only then named by ``current.json``, which is create-only: the
first one wins, the others take the winner's and remove their own directory.
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

from . import arguments, keyfile
from .commands import Restic
from .keyfile import KeyIdentity
from .models import Access, LockOwner
from .rest_paths import Kind
from .runner import Runner
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
    like: Runner | None = None,
) -> CurrentFile:
    """A repository in a fresh directory, proven to open, which nothing names yet.

    ``like``: an open session; data is cut into the same pieces as in its repository.
    """
    directory = layout.fresh_directory(folder)
    name = layout.repository_name(directory)
    password = repository_password(master, location_id, name)
    async with open_runner(
        store=store,
        directory=directory,
        password=password,
        key_id="",
        access=Access.APPEND_ONLY,
        owner=owner,
        cache_dir=None,
        scratch_dir=scratch_dir,
        settings=settings,
    ) as runner:
        if like is None:
            await runner.run(arguments.init(), what="making a repository")
        else:
            with runner.inheriting(like.session.password) as inherited:
                command = arguments.init(like=like.as_source, password_file=inherited.path)
                await runner.run(command, what="making a repository", inherited=inherited)
        who = KeyIdentity(location_id, name, fingerprint(master))
        key_id = await _lower_cost(store, directory, password, who)
        config = await Restic(runner).cat_config()  # there is no other key left to open it with
    return CurrentFile(
        directory=directory,
        repository_name=name,
        repository_id=config.id,
        key_id=key_id,
        key_fingerprint=who.fingerprint,
        made_under=who.fingerprint,
    )


async def _lower_cost(store: BlobStore, directory: str, password: str, who: KeyIdentity) -> str:
    """Replace the one key file that ``init`` wrote; the id of the new one."""
    folder = f"{directory}/{Kind.KEY}/"
    names = [blob.name async for blob in store.list(folder)]
    if len(names) != 1:
        raise Damaged(f"the fresh repository {directory} has {len(names)} keys")
    old = await store.get(names[0])
    new = await asyncio.to_thread(
        keyfile.rewrap, old, password=password, new_password=password, who=who
    )
    await store.put(f"{folder}{new.id}", new.data, create_only=True)
    await store.delete(names[0])
    return new.id


async def remove_unnamed(store: BlobStore, directory: str) -> None:
    """Our own, never named directory. What cannot be removed stays, and is in nobody's way."""
    try:
        for name in [blob.name async for blob in store.list(f"{directory}/")]:
            await store.delete(name)
    except AraratError as exc:
        log.warning("repository-leftover", directory=directory, error=exc.message)
