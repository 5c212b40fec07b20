"""A repository that is stored anew: other inner keys, the same bytes, in stores of both kinds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ararat import keys, layout
from ararat.errors import Conflict
from ararat.layout import FollowingFile
from ararat.restic import keyfile
from ararat.restic.copies import copies
from ararat.restic.create import (
    create_repository,
    current_repository,
    following_repository,
    remove_abandoned,
)
from ararat.restic.crypt import Keys
from ararat.restic.models import Access, BackupRequest, RestoreRequest
from ararat.restic.successor import make_successor, mark, remove_directory, switch
from tests.component.inner_keys import opens

from . import trees
from .conftest import HOST, LOCATION_ID, OWNER, Repository

FOLDER = layout.volumes_repository("shop")
ABOUT = timedelta(days=1)


async def successor_of(repository: Repository) -> FollowingFile:
    return await make_successor(
        repository.store,
        folder=FOLDER,
        former=repository.current,
        master=repository.master,
        location_id=LOCATION_ID,
        owner=OWNER,
        scratch_dir=repository.directory("scratch"),
        settings=repository.settings,
    )


async def inner_keys(repository: Repository) -> Keys:
    """What restic encrypts with, unwrapped from the only key file."""
    (name,) = await repository.files("keys/")
    data = await repository.store.get(f"{repository.current.directory}/{name}")
    return keyfile.unwrap(data, password=repository.password)


def request(repository: Repository) -> BackupRequest:
    return BackupRequest(source=repository.volume, host=HOST, tags=("ararat", "job=1"))


async def test_moved_twice_under_other_inner_keys(any_repository: Repository) -> None:
    repository = any_repository
    assert repository.current.made_under == keys.fingerprint(repository.master)
    trees.fill(repository.volume)
    async with repository.open() as restic:
        first = (await restic.backup(request(repository))).snapshot_id or ""
        (repository.volume / "later").write_bytes(b"later")
        second = (await restic.backup(request(repository))).snapshot_id or ""
    ids = [first, second]
    for _ in range(2):  # a copy that is copied again still is the copy of what it came from
        chosen = await successor_of(repository)
        assert await successor_of(repository) == chosen, "the second one takes the first one's"
        assert chosen.former == repository.current.directory
        directories = await repository.store.list_directories(FOLDER)
        assert len(directories) == 2
        # What is empty and waits is not taken for a creator's leftover.
        await remove_abandoned(repository.store, FOLDER, older_than=-ABOUT)
        assert await repository.store.list_directories(FOLDER) == directories
        other = replace(repository, current=chosen.successor)
        async with repository.open(Access.READ_ONLY) as source, other.open() as target:
            assert len(await target.copy_from(source, ids[:1])) == 1
            moved = await target.copy_from(source, ids)  # goes on where it was
            assert {one.original for one in moved} == set(ids)
            found = copies(await source.snapshots(), await target.snapshots())
            assert found == {one.original: one.id for one in moved}
            back = repository.directory(f"back-{chosen.successor.repository_id[:8]}")
            await target.restore(RestoreRequest(snapshot_id=found[ids[1]], target=back))
            assert trees.describe(back) == trees.describe(repository.volume)
            assert (await target.check(read_data_subset="100%")).ok
            # Data is cut alike and deduplicated with what was copied.
            again = await target.backup(request(repository))
            assert again.bytes_added < 5_000, again
        config = await repository.store.get(f"{chosen.successor.directory}/config")
        before, after = await inner_keys(repository), await inner_keys(other)
        assert opens(config, after)
        assert not opens(config, before)
        assert opens(await repository.store.get(f"{chosen.former}/config"), before)

        await switch(repository.store, FOLDER, chosen)
        await switch(repository.store, FOLDER, chosen)
        assert await current_repository(repository.store, FOLDER) == chosen.successor
        moment = datetime(2026, 11, 23, 8, 30, 0, 123456, tzinfo=UTC)
        marked = await mark(repository.store, FOLDER, chosen, switched_at=moment, released_at=None)
        assert await following_repository(repository.store, FOLDER) == marked
        with pytest.raises(Conflict):
            await mark(repository.store, FOLDER, chosen, switched_at=moment, released_at=moment)
        await remove_directory(repository.store, chosen.former)
        await repository.store.delete(layout.following(FOLDER))
        assert await repository.store.list_directories(FOLDER) == [
            chosen.successor.directory.rpartition("/")[2]
        ]
        repository, ids = other, [found[one] for one in ids]


async def test_what_was_forgotten_meanwhile_is_not_missed(repository: Repository) -> None:
    (repository.volume / "file").write_bytes(b"content")
    async with repository.open() as restic:
        kept = (await restic.backup(request(repository))).snapshot_id or ""
        (repository.volume / "file").write_bytes(b"other")
        gone = (await restic.backup(request(repository))).snapshot_id or ""
    await repository.store.delete(f"{repository.current.directory}/snapshots/{gone}")
    other = replace(repository, current=(await successor_of(repository)).successor)
    async with repository.open(Access.READ_ONLY) as source, other.open() as target:
        assert [one.original for one in await target.copy_from(source, [kept, gone])] == [kept]


async def test_another_repository_is_not_switched_away(repository: Repository) -> None:
    chosen = await successor_of(repository)
    await repository.store.delete(layout.current(FOLDER))
    third = await create_repository(
        repository.store,
        folder=FOLDER,
        master=repository.master,
        location_id=LOCATION_ID,
        owner=OWNER,
        scratch_dir=repository.directory("scratch"),
    )
    with pytest.raises(Conflict, match="has become the repository"):
        await switch(repository.store, FOLDER, chosen)
    assert await current_repository(repository.store, FOLDER) == third
