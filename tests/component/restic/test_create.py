"""Repositories are made once, whoever asks, and opened by stock restic."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.blob.filesystem import FilesystemStore
from ararat.blob.store import BlobStore
from ararat.errors import Damaged, WrongKey
from ararat.layout import CurrentFile
from ararat.restic import keyfile
from ararat.restic.create import create_repository, current_repository, remove_abandoned
from ararat.restic.errors import NoRepository, WrongPassword
from ararat.restic.models import Access, BackupRequest

from . import trees
from .conftest import LOCATION_ID, OWNER, SETTINGS, Repository, directory_store


async def create(store: BlobStore, work: Path, master: bytes, folder: str) -> CurrentFile:
    (work / "scratch").mkdir(exist_ok=True)
    return await create_repository(
        store,
        folder=folder,
        master=master,
        location_id=LOCATION_ID,
        owner=OWNER,
        scratch_dir=work / "scratch",
        settings=SETTINGS,
    )


@pytest.mark.timeout(200)
async def test_many_at_once_make_one_repository(work: Path) -> None:
    master = keys.new_master_key()
    folder = layout.objects_repository()
    async with directory_store(work) as store:
        assert await current_repository(store, folder) is None
        made = await asyncio.gather(*(create(store, work, master, folder) for _ in range(4)))
        assert len({current.directory for current in made}) == 1
        found = await current_repository(store, folder)
        assert found is not None
        assert found == made[0]
        assert found.key_fingerprint == keys.fingerprint(master)
        # The losers took their directories away.
        assert await store.list_directories(folder) == [found.directory.rpartition("/")[2]]
        again = await create(store, work, master, folder)
        assert again == found
        repository = Repository(store, work, master, found)
        async with repository.open() as restic:
            assert (await restic.cat_config()).id == found.repository_id


#: Forks creators, so that each is a process of its own and starts at once.
_CREATORS = """
import asyncio, os, sys
from pathlib import Path
from ararat.blob.filesystem import FilesystemStore
from ararat.restic.create import create_repository
from ararat.restic.models import LockOwner
work = Path(sys.argv[1])
for _ in range(int(sys.argv[5])):
    pid = os.fork()
    if not pid:
        os.setsid()
        asyncio.run(create_repository(FilesystemStore(work / 'location'), folder=sys.argv[2],
            master=bytes.fromhex(sys.argv[3]), location_id=sys.argv[4],
            owner=LockOwner('c', 'p', '1', 'j'), scratch_dir=work / 'scratch'))
        os._exit(0)
    print(pid, flush=True)
for line in sys.stdin:
    os.kill(int(line), 9)
    os.waitpid(int(line), 0)
"""


@pytest.mark.timeout(200)
async def test_ten_creators_that_are_killed_anywhere_make_one_repository(work: Path) -> None:
    """All at once; each is killed at a point of its own, some after they were done."""
    (work / "location").mkdir()
    (work / "scratch").mkdir()
    master = keys.new_master_key()
    folder = layout.objects_repository()
    seed = random.randrange(1 << 32)
    print("seed", seed)
    moments = random.Random(seed)
    forks = subprocess.Popen(
        [sys.executable, "-c", _CREATORS, str(work), folder, master.hex(), LOCATION_ID, "10"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert forks.stdin is not None
    assert forks.stdout is not None
    pids = [await asyncio.to_thread(forks.stdout.readline) for _ in range(10)]
    for pid in pids:
        await asyncio.sleep(moments.uniform(0.05, 0.9))
        forks.stdin.write(pid)
        forks.stdin.flush()
    forks.stdin.close()
    assert await asyncio.to_thread(forks.wait) == 0
    forks.stdout.close()

    store = FilesystemStore(work / "location")
    later = await asyncio.gather(*(create(store, work, master, folder) for _ in range(2)))
    assert later[0] == later[1] == await current_repository(store, folder)
    async with Repository(store, work, master, later[0]).open() as restic:
        assert (await restic.cat_config()).id == later[0].repository_id

    # What the dead left is cleaned up, but only once it is old, and never the real one.
    kept = later[0].directory.rpartition("/")[2]
    left = set(await store.list_directories(folder)) - {kept}
    assert await remove_abandoned(store, folder) == []
    removed = await remove_abandoned(store, folder, older_than=timedelta(seconds=-1))
    assert {directory.rpartition("/")[2] for directory in removed} <= left
    for name in set(await store.list_directories(folder)) - {kept}:
        # Killed before it wrote anything: not a file is in it.
        assert [blob async for blob in store.list(f"{folder}/{name}/")] == []
    async with Repository(store, work, master, later[0]).open() as restic:
        assert (await restic.cat_config()).id == later[0].repository_id


async def test_only_what_nobody_can_need_is_cleaned_up(repository: Repository) -> None:
    """A half-made directory goes; one that ever held a backup stays, named or not."""
    store, folder = repository.store, layout.volumes_repository("shop")
    at_once = timedelta(seconds=-1)
    half = [f"{folder}/{'1' * 16}/config", f"{folder}/{'1' * 16}/keys/{'a' * 64}"]
    used = [f"{folder}/{'2' * 16}/config", f"{folder}/{'2' * 16}/snapshots/{'b' * 64}"]
    for name in (*half, *used):
        await store.put(name, b"x")
    before = await repository.files()

    assert await remove_abandoned(store, folder) == []
    assert await remove_abandoned(store, folder, older_than=at_once) == [f"{folder}/{'1' * 16}"]
    assert [b.name async for b in store.list(f"{folder}/{'1' * 16}/")] == []
    assert [b.name async for b in store.list(f"{folder}/{'2' * 16}/")] == used
    assert await repository.files() == before

    # While nothing is named, a creator may still be about to name it.
    await store.put(half[0], b"x")
    await store.delete(layout.current(folder))
    assert await remove_abandoned(store, folder, older_than=at_once) == []


async def test_a_repository_whose_config_is_lost_is_never_made_anew(
    repository: Repository,
) -> None:
    trees.fill(repository.volume, files=2)
    await repository.store.delete(f"{repository.current.directory}/config")
    before = [blob.name async for blob in repository.store.list("")]
    found = await create(
        repository.store, repository.work, repository.master, layout.volumes_repository("shop")
    )
    assert found == repository.current
    async with repository.open() as restic:
        with pytest.raises(NoRepository):
            await restic.backup(BackupRequest(source=repository.volume, host="h"))
    assert [blob.name async for blob in repository.store.list("")] == before


async def test_another_master_key_is_called_that(repository: Repository) -> None:
    folder = layout.volumes_repository("shop")
    with pytest.raises(WrongKey, match="ararat key import"):
        await create(repository.store, repository.work, keys.new_master_key(), folder)
    # Opened without asking current.json first, it is called that as well.
    async with repository.open(password="0" * 64) as restic:
        with pytest.raises(WrongPassword) as caught:
            await restic.cat_config()
    assert isinstance(caught.value, WrongKey)
    assert keys.fingerprint(repository.master) in caught.value.message
    assert repository.current.repository_name in caught.value.message


async def test_a_current_file_cannot_name_another_repository(repository: Repository) -> None:
    folder = layout.volumes_repository("shop")
    moved = repository.current.model_copy(
        update={"directory": "repositories/volumes/other/0123456789abcdef"}
    )
    await repository.store.put(layout.current(folder), moved.encode())
    with pytest.raises(Damaged):
        await current_repository(repository.store, folder)


def stock(restic: Path, repository: Repository, *arguments: str, password: str | None = None):
    """Plain restic on the plain directory: what a person with the escrowed key would type."""
    return subprocess.run(
        [str(restic), "--no-cache", "--json", *arguments],
        env={
            "RESTIC_REPOSITORY": str(repository.work / "location" / repository.current.directory),
            "RESTIC_PASSWORD": password or repository.password,
            **{k: v for k, v in os.environ.items() if k == "PATH"},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_stock_restic_opens_it_and_keeps_its_keys_as_usual(
    repository: Repository, restic: Path
) -> None:
    trees.fill(repository.volume)
    async with repository.open() as session:
        made = await session.backup(BackupRequest(source=repository.volume, host="h"))
        listed = await session.key_list()
    assert [key.id for key in listed] == [repository.current.key_id]
    assert listed[0].host == LOCATION_ID
    key = repository.work / "location" / repository.current.directory / "keys" / listed[0].id
    assert json.loads(key.read_text())["N"] == keyfile.LOW_N
    who = keyfile.identity(key.read_bytes())
    assert who is not None
    assert who.repository_name == repository.current.repository_name
    assert who.fingerprint == keys.fingerprint(repository.master)

    snapshots = json.loads(stock(restic, repository, "snapshots").stdout)
    assert [snapshot["id"] for snapshot in snapshots] == [made.snapshot_id]
    assert stock(restic, repository, "check", "--read-data").returncode == 0
    assert stock(restic, repository, "snapshots", password="wrong").returncode == 12
    target = repository.directory("target")
    assert stock(restic, repository, "restore", "latest", f"--target={target}").returncode == 0
    assert trees.describe(target) == trees.describe(repository.volume)

    new = repository.work / "new-password"
    new.write_text("a second password")
    added = stock(restic, repository, "key", "add", f"--new-password-file={new}")
    assert added.returncode == 0, added.stderr
    second = "a second password"
    assert stock(restic, repository, "cat", "config", password=second).returncode == 0
    removed = stock(restic, repository, "key", "remove", listed[0].id, password=second)
    assert removed.returncode == 0, removed.stderr
    assert stock(restic, repository, "cat", "config").returncode == 12


async def test_opening_costs_no_scrypt(repository: Repository) -> None:
    """0.35 to 0.5 s of CPU and 66 MiB with restic's own key."""
    trees.fill(repository.volume, files=2)
    async with repository.open(Access.READ_ONLY) as session:
        await session.cat_config()
    async with repository.open() as session:
        made = await session.backup(BackupRequest(source=repository.volume, host="h"))
    assert made.cpu_seconds < 0.3
