"""Changing a repository's key, cut off at every single step."""

from __future__ import annotations

import itertools

import pytest

from ararat import keys
from ararat.blob.errors import StoreUnreachable
from ararat.blob.store import BlobStore
from ararat.errors import AraratError
from ararat.restic import keyfile
from ararat.restic.errors import WrongPassword
from ararat.restic.models import Access, BackupRequest
from ararat.restic.rekey import Rekey, add_key, remove_key, repository_directories

from . import trees
from .conftest import HOST, LOCATION_ID, OWNER, Repository
from .stores import FaultyStore

NEW = bytes(range(32))


def rekey(repository: Repository, store: BlobStore, *, new: bytes = NEW) -> Rekey:
    return Rekey(
        store=store,
        location_id=LOCATION_ID,
        old=repository.master,
        new=new,
        owner=OWNER,
        scratch_dir=repository.directory("scratch"),
        settings=repository.settings,
    )


async def opening(repository: Repository, *masters: bytes) -> list[bytes]:
    """Which of the master keys open the repository by its key files as they are."""
    files = [
        await repository.store.get(f"{repository.current.directory}/{name}")
        for name in await repository.files("keys/")
    ]
    found = []
    for master in masters:
        name = repository.current.repository_name
        password = keys.repository_password(master, LOCATION_ID, name)
        for data in files:
            try:
                keyfile.unwrap(data, password=password)
            except WrongPassword:
                continue
            found.append(master)
            break
    return found


class Cut(FaultyStore):
    """Everything fails from the call on that has this number; also after it took effect."""

    def __init__(self, inner: BlobStore, number: int, *, late: bool) -> None:
        self.left = number
        self.done = False

        def fault(_operation: str, _name: str) -> AraratError | None:
            self.left -= 1
            self.done = self.done or self.left < 0
            return StoreUnreachable("killed here") if self.done else None

        super().__init__(inner)
        if late:
            self.after = fault
        else:
            self.before = fault


@pytest.mark.timeout(180)
async def test_it_can_be_cut_off_anywhere_and_repeated(repository: Repository) -> None:
    trees.fill(repository.volume)
    async with repository.open() as restic:
        made = await restic.backup(BackupRequest(source=repository.volume, host=HOST))
    directory, old = repository.current.directory, repository.master
    assert await repository_directories(repository.store) == [directory]
    before = await repository.files()

    async def cut_off(step: object, *, late: bool, opens: list[bytes]) -> None:
        for number in itertools.count():
            cut = Cut(repository.store, number, late=late)
            impatient = repository.with_store(cut, start_patience=0.1, outage_patience=0.1)
            try:
                await step(rekey(impatient, cut), directory)  # type: ignore[operator]
            except AraratError:
                assert set(await opening(repository, old, NEW)) >= set(opens)
            if not cut.done:
                return

    await cut_off(add_key, late=False, opens=[old])
    assert await opening(repository, old, NEW) == [old, NEW]
    added = await add_key(rekey(repository, repository.store), directory)
    assert added is not None
    assert len(await repository.files("keys/")) == 2, "once, however often it was begun"
    for password in (repository.password, _password(repository, NEW)):
        async with repository.open(password=password) as restic:
            assert [s.id for s in await restic.snapshots()] == [made.snapshot_id]

    await cut_off(remove_key, late=True, opens=[NEW])
    assert await opening(repository, old, NEW) == [NEW]
    assert await remove_key(rekey(repository, repository.store), directory) == 0
    async with repository.open() as restic:
        with pytest.raises(WrongPassword, match=keys.fingerprint(NEW)):
            await restic.cat_config()
    async with repository.open(Access.MAINTENANCE, password=_password(repository, NEW)) as restic:
        assert [key.id for key in await restic.key_list()] == [added]
        assert (await restic.check(read_data_subset="100%")).ok
    after = await repository.files()
    assert [n for n in after if "keys/" not in n] == [n for n in before if "keys/" not in n]


async def test_a_key_that_opens_nothing_is_not_added(repository: Repository) -> None:
    other = Repository(repository.store, repository.work, keys.new_master_key(), repository.current)
    directory = repository.current.directory
    with pytest.raises(WrongPassword, match="neither"):
        await add_key(rekey(other, repository.store), directory)
    assert await opening(repository, repository.master, NEW) == [repository.master]
    # Half-made by a creator that died: nothing to open.
    half = f"{directory.rpartition('/')[0]}/{'1' * 16}"
    await repository.store.put(f"{half}/keys/{'a' * 64}", b"{}")
    assert await add_key(rekey(repository, repository.store), half) is None
    assert await remove_key(rekey(repository, repository.store), half) == 0


def _password(repository: Repository, master: bytes) -> str:
    return keys.repository_password(master, LOCATION_ID, repository.current.repository_name)
