"""Repositories are made once, whoever asks, and opened by stock restic."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.blob.filesystem import FilesystemStore
from ararat.blob.store import BlobStore
from ararat.errors import Damaged, WrongKey
from ararat.layout import CurrentFile
from ararat.restic import keyfile
from ararat.restic.create import create_repository, current_repository
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


@pytest.mark.timeout(200)
async def test_creators_that_are_killed_anywhere_leave_a_usable_folder(work: Path) -> None:
    """Each is a process of its own, killed a little later than the one before."""
    (work / "location").mkdir()
    (work / "scratch").mkdir()
    master = keys.new_master_key()
    folder = layout.objects_repository()
    program = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from ararat.blob.filesystem import FilesystemStore\n"
        "from ararat.restic.create import create_repository\n"
        "from ararat.restic.models import LockOwner\n"
        "work = Path(sys.argv[1])\n"
        "print('go', flush=True)\n"
        "asyncio.run(create_repository(FilesystemStore(work / 'location'), folder=sys.argv[2],"
        " master=bytes.fromhex(sys.argv[3]), location_id=sys.argv[4],"
        " owner=LockOwner('c', 'p', '1', 'j'), scratch_dir=work / 'scratch'))\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(work), folder, master.hex(), LOCATION_ID],
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for number, child in enumerate(children):
        assert child.stdout is not None
        await asyncio.to_thread(child.stdout.readline)
        await asyncio.sleep(0.2 + 0.5 * number)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    store = FilesystemStore(work / "location")
    found = await create(store, work, master, folder)
    async with Repository(store, work, master, found).open() as restic:
        assert (await restic.cat_config()).id == found.repository_id


async def test_another_master_key_is_called_that(repository: Repository) -> None:
    folder = layout.volumes_repository("shop")
    with pytest.raises(WrongKey, match="ararat key import"):
        await create(repository.store, repository.work, keys.new_master_key(), folder)


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
    """0.35 to 0.5 s of CPU and 66 MiB with restic's own key (facts/restic.md §7)."""
    trees.fill(repository.volume, files=2)
    async with repository.open(Access.READ_ONLY) as session:
        await session.cat_config()
    async with repository.open() as session:
        made = await session.backup(BackupRequest(source=repository.volume, host="h"))
    assert made.cpu_seconds < 0.3
