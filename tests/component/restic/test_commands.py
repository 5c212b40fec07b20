"""Every command besides backup and restore, with the real restic."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.errors import InvalidSpec
from ararat.restic import arguments
from ararat.restic.create import create_repository
from ararat.restic.errors import WrongPassword
from ararat.restic.models import (
    Access,
    BackupRequest,
    CopySource,
    FindRequest,
    PruneRequest,
    RestoreRequest,
    Tuning,
)
from ararat.restic.version import find_restic

from . import trees
from .conftest import HOST, LOCATION_ID, OWNER, SETTINGS, Repository

ID = "ab" * 32


def request(repository: Repository) -> BackupRequest:
    return BackupRequest(source=repository.volume, host=HOST)


async def test_find_and_diff(repository: Repository) -> None:
    names = [f"{number:04}-{'n' * 150}" for number in range(700)]
    for name in names:
        (repository.volume / name).touch()
    (repository.volume / "changed").write_text("before")
    async with repository.open() as restic:
        first = await restic.backup(request(repository))
        (repository.volume / "changed").write_text("after that")
        (repository.volume / names[0]).unlink()
        (repository.volume / "new one").write_bytes(b"x" * 1000)
        second = await restic.backup(request(repository))
        assert first.snapshot_id
        assert second.snapshot_id

        # One line of JSON of more than 200 kB.
        everywhere = await restic.find(FindRequest(patterns=("*-nnn*",), host=HOST))
        assert {one.snapshot_id: len(one.matches) for one in everywhere} == {
            first.snapshot_id: 700,
            second.snapshot_id: 699,
        }
        assert {node.path for node in everywhere[0].matches} <= {f"/{name}" for name in names}
        one = await restic.find(
            FindRequest(patterns=("NEW*",), snapshot_ids=(second.snapshot_id,), ignore_case=True)
        )
        assert [(node.path, node.size) for node in one[0].matches] == [("/new one", 1000)]
        assert await restic.find(FindRequest(patterns=("nowhere",))) == []
        with pytest.raises(InvalidSpec):
            await restic.find(FindRequest(patterns=()))

        between = await restic.diff(first.snapshot_id, second.snapshot_id)
        assert {(change.path, change.modifier) for change in between.changes} == {
            ("/changed", "M"),
            (f"/{names[0]}", "-"),
            ("/new one", "+"),
        }
        assert between.change_count == 3
        assert between.changed_files == 1
        assert (between.added.files, between.removed.files) == (1, 1)
        assert between.added.bytes >= 1000
        same = await restic.diff(first.snapshot_id, first.snapshot_id)
        assert same.change_count == 0


async def test_copy_to_another_repository(repository: Repository) -> None:
    trees.fill(repository.volume)
    master = keys.new_master_key()
    folder = layout.volumes_repository("elsewhere")
    made = await create_repository(
        repository.store,
        folder=folder,
        master=master,
        location_id=LOCATION_ID,
        owner=OWNER,
        scratch_dir=repository.directory("scratch"),
        settings=SETTINGS,
    )
    other = Repository(repository.store, repository.work, master, made)
    async with repository.open() as restic:
        original = (await restic.backup(request(repository))).snapshot_id
        assert original
    # The source is only read: no lock is stored in it.
    async with repository.open(Access.READ_ONLY) as source, other.open() as target:
        copied = await target.copy_from(source, [original])
        assert [one.original for one in copied] == [original]
        assert await target.copy_from(source, [original]) == copied
        back = repository.directory("back")
        await target.restore(RestoreRequest(snapshot_id=copied[0].id, target=back))
        assert trees.describe(back) == trees.describe(repository.volume)
        assert [s.original for s in await target.snapshots()] == [original]
        with pytest.raises(InvalidSpec):
            await target.copy_from(source, [])


async def test_repair_after_a_damaged_pack(repository: Repository) -> None:
    (repository.volume / "whole").write_bytes(b"a" * 5_000)
    async with repository.open() as restic:
        first = (await restic.backup(request(repository))).snapshot_id
    packs = set(await repository.files("data/"))
    trees.fill(repository.volume, files=4, size=30_000)
    async with repository.open(Access.MAINTENANCE) as restic:
        second = (await restic.backup(request(repository))).snapshot_id
        await restic.repair_index()
        await restic.repair_index(read_all_packs=True)
        assert (await restic.check()).ok

        # The pack that holds the contents of the new files, damaged in its middle.
        where = repository.work / "location" / repository.current.directory
        new = [where / name for name in await repository.files("data/") if name not in packs]
        pack = max(new, key=lambda path: path.stat().st_size)
        data = bytearray(pack.read_bytes())
        data[100:40_000] = bytes(39_900)
        pack.write_bytes(data)
        broken = await restic.check(read_data_subset="100%")
        assert broken.broken_packs == (pack.name,)

        await restic.repair_packs([pack.name])
        assert not pack.exists()
        assert await restic.repair_snapshots(dry_run=True) == []
        repaired = await restic.repair_snapshots(forget=True)
        assert [one.original for one in repaired] == [second]
        assert {s.id for s in await restic.snapshots()} == {first, repaired[0].id}
        assert (await restic.check(read_data_subset="100%")).ok
    async with repository.open() as restic:
        for call in (restic.repair_index(), restic.repair_packs([ID]), restic.repair_snapshots()):
            with pytest.raises(InvalidSpec, match="maintenance"):
                await call
    assert list(repository.directory("scratch").iterdir()) == []


async def test_a_further_password(repository: Repository) -> None:
    async with repository.open() as restic:
        added = await restic.key_add("a password that a person chose", host="h", user="u")
        listed = {key.id: key for key in await restic.key_list()}
        assert set(listed) == {added, repository.current.key_id}
        assert (listed[added].host, listed[added].user) == ("h", "u")
        created = listed[added].created
        assert created is not None
        assert created.tzinfo is not None
        with pytest.raises(InvalidSpec, match="maintenance"):
            await restic.key_remove(added)
    async with repository.open(password="a password that a person chose") as restic:
        await restic.cat_config()
    async with repository.open(Access.MAINTENANCE) as restic:
        await restic.key_remove(added)
        assert [key.id for key in await restic.key_list()] == [repository.current.key_id]
    async with repository.open(password="a password that a person chose") as restic:
        with pytest.raises(WrongPassword):
            await restic.cat_config()


async def test_what_a_lock_says(repository: Repository) -> None:
    trees.fill(repository.volume, files=200, size=50_000)
    async with repository.open() as restic:
        running = asyncio.ensure_future(restic.backup(request(repository)))
        async with asyncio.timeout(30):
            while not (held := await restic.list_locks()):
                assert not running.done()
                await asyncio.sleep(0.01)
        content = await restic.cat_lock(held[0].id)
        assert held[0].owner == OWNER
        assert not content.exclusive
        assert content.pid > 0
        assert content.time is not None
        await running


def every_command(binary: object) -> list[list[str]]:
    tuning = Tuning(read_concurrency=2, pack_size=16, compression="auto", connections=3, scan=False)
    backup = BackupRequest(
        source=Path("/v"),
        host=HOST,
        tags=("t",),
        parent=ID,
        ignore_ctime=True,
        ignore_inode=True,
        excludes=("*.tmp",),
        exclude_caches=True,
        tuning=tuning,
    )
    source = CopySource(url="rest:x", key_id=ID, read_only=True)
    restore = RestoreRequest(snapshot_id=ID, target=Path("/v"), replace=True, verify=True)
    return [
        arguments.backup(backup, root="/v", binary=binary),  # type: ignore[arg-type]
        arguments.restore(restore),
        arguments.snapshots(host=HOST, tags=["a", "b"]),
        arguments.ls(ID, "/x"),
        arguments.find(
            FindRequest(patterns=("x",), host=HOST, snapshot_ids=(ID,), ignore_case=True)
        ),
        arguments.dump(ID, "/x"),
        arguments.diff(ID, ID, metadata=True),
        arguments.forget([ID]),
        arguments.prune(PruneRequest(max_unused="5%", max_repack_size="1G", dry_run=True)),
        arguments.check(read_data_subset="1/10"),
        arguments.stats("raw-data"),
        arguments.repair_index(read_all_packs=True),
        arguments.repair_snapshots([ID], forget=True, dry_run=True),
        arguments.repair_packs([ID]),
        arguments.copy([ID], source=source, password_file="/dev/fd/3"),
        arguments.key_add(password_file="/dev/fd/3", host="h", user="u"),
        arguments.key_remove(ID),
        arguments.cat_lock(ID),
    ]


async def test_this_restic_knows_every_flag_that_we_pass() -> None:
    binary = await find_restic()
    common = arguments.common(
        binary.path,
        url="rest:x",
        password_file="/dev/fd/3",
        key_id=ID,
        access=Access.READ_ONLY,
        cache_dir=Path("/c"),
        connections=3,
    )[1:]
    for command in every_command(binary):
        words = command[: 2 if command[0] in ("repair", "key", "cat") else 1]
        asked = words[:1] if words[0] == "cat" else words
        shown = subprocess.run(
            [str(binary.path), *asked, "--help"], capture_output=True, text=True, check=True
        ).stdout
        known = set(re.findall(r"--[a-z-]+", shown))
        passed = {part.partition("=")[0] for part in [*common, *command] if part.startswith("--")}
        assert passed - {"--"} <= known, words
