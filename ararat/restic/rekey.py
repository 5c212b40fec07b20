"""A repository's keys, when the master key changes.

Problem: a new master key means a new password for every repository, while jobs run that were given
the old one; and a step that is cut off must leave a repository that opens.
Decision: two steps that can be repeated and interrupted anywhere. ``add_key`` wraps the
repository's own keys for the new master key in a second key file, and proves by restic that it
opens; from then on both passwords work. ``remove_key`` takes the old key file away, after looking
once more that the new one opens the same keys. A key file is one small blob, written create-only.
Limits: this is a re-wrap. Whoever had the old password and a copy of its key file keeps the
repository's inner keys: after a leak data must be stored anew. Keys that people added by hand stay.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from ararat import layout
from ararat.blob.store import BlobStore
from ararat.errors import Damaged, NotFound
from ararat.keys import fingerprint, repository_password
from ararat.layout import CurrentFile

from . import keyfile
from .commands import Restic
from .errors import WrongPassword
from .keyfile import KeyFile, KeyIdentity
from .models import Access, LockOwner
from .rest_paths import Kind
from .session import open_runner
from .settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Rekey:
    """From which master key to which, in one location."""

    store: BlobStore
    location_id: str
    old: bytes
    new: bytes
    owner: LockOwner
    scratch_dir: Path
    settings: Settings | None = None


async def repository_directories(store: BlobStore) -> list[str]:
    """Every directory of a repository in a location, named by its folder or not."""
    found: list[str] = []
    for folder in await repository_folders(store):
        found += [f"{folder}/{name}" for name in await store.list_directories(folder)]
    return found


async def repository_folders(store: BlobStore) -> list[str]:
    """The folders of all repositories: that of API objects first, then one a namespace."""
    kinds = await store.list_directories(layout.REPOSITORIES)
    folders = [layout.objects_repository()] if "objects" in kinds else []
    if "volumes" in kinds:
        namespaces = await store.list_directories(f"{layout.REPOSITORIES}/volumes")
        folders += [layout.volumes_repository(name) for name in namespaces]
    return folders


async def add_key(rekey: Rekey, directory: str) -> str | None:
    """The id of the key that opens ``directory`` with the new master key, made if need be.

    None where the directory holds no repository: a creator died in it. Raises WrongPassword: the
    old master key does not open it either.
    """
    name = layout.repository_name(directory)
    files = await _key_files(rekey.store, directory)
    if not files or not await _exists(rekey.store, f"{directory}/{Kind.CONFIG}"):
        return None
    new_password = repository_password(rekey.new, rekey.location_id, name)
    made = await _opened_by(files, new_password)
    if made is not None:
        return made.id
    old_password = repository_password(rekey.old, rekey.location_id, name)
    old = await _opened_by(files, old_password)
    if old is None:
        raise WrongPassword(
            f"neither master key {fingerprint(rekey.old)} nor {fingerprint(rekey.new)} opens "
            f"the repository {directory}"
        )
    who = KeyIdentity(rekey.location_id, name, fingerprint(rekey.new))
    made = await asyncio.to_thread(
        keyfile.rewrap, old.data, password=old_password, new_password=new_password, who=who
    )
    await rekey.store.put(f"{directory}/{Kind.KEY}/{made.id}", made.data, create_only=True)
    await _prove(rekey, directory, new_password, made.id)
    log.info("repository-key-added", directory=directory, key=made.id, master=who.fingerprint)
    return made.id


async def remove_key(rekey: Rekey, directory: str) -> int:
    """Take the old master key's access away; how many key files that were."""
    name = layout.repository_name(directory)
    files = await _key_files(rekey.store, directory)
    new = await _opened_by(files, repository_password(rekey.new, rekey.location_id, name))
    old_password = repository_password(rekey.old, rekey.location_id, name)
    removed = 0
    while (old := await _opened_by(files, old_password)) is not None:
        if new is None:
            raise Damaged(f"the new master key does not open {directory}: its old key stays")
        await rekey.store.delete(f"{directory}/{Kind.KEY}/{old.id}")
        log.info("repository-key-removed", directory=directory, key=old.id)
        files = [file for file in files if file.id != old.id]
        removed += 1
    return removed


async def name_keys(store: BlobStore, folder: str, key_ids: dict[str, str]) -> None:
    """Write into ``current.json`` which keys open the repository: key id by fingerprint.

    The first one is what it is opened with from now on. Raises Conflict: somebody else changed it.
    """
    name = layout.current(folder)
    try:
        info = await store.head(name)
        found = CurrentFile.decode(await store.get(name))
    except NotFound:
        return
    first = next(iter(key_ids))
    changed = found.model_copy(
        update={
            "key_fingerprint": first,
            "key_id": key_ids[first],
            "keys": key_ids if len(key_ids) > 1 else {},
        }
    )
    if changed != found:
        await store.put(name, changed.encode(), if_match=info.etag)


async def _key_files(store: BlobStore, directory: str) -> list[KeyFile]:
    folder = f"{directory}/{Kind.KEY}/"
    names = [blob.name async for blob in store.list(folder)]
    return [KeyFile(name.removeprefix(folder), await store.get(name)) for name in sorted(names)]


async def _opened_by(files: list[KeyFile], password: str) -> KeyFile | None:
    for file in files:
        if keyfile.identity(file.data) is None:
            continue  # a person's own, of full cost: not ours to try
        try:
            await asyncio.to_thread(keyfile.unwrap, file.data, password=password)
        except (WrongPassword, Damaged):
            continue
        return file
    return None


async def _exists(store: BlobStore, name: str) -> bool:
    try:
        await store.head(name)
    except NotFound:
        return False
    return True


async def _prove(rekey: Rekey, directory: str, password: str, key_id: str) -> None:
    """Open it with the new key alone. A key that does not open is taken away again."""
    try:
        async with open_runner(
            store=rekey.store,
            directory=directory,
            password=password,
            key_id=key_id,
            access=Access.READ_ONLY,
            owner=rekey.owner,
            cache_dir=None,
            scratch_dir=rekey.scratch_dir,
            settings=rekey.settings,
        ) as runner:
            await Restic(runner).cat_config()
    except WrongPassword:
        await rekey.store.delete(f"{directory}/{Kind.KEY}/{key_id}")
        raise
