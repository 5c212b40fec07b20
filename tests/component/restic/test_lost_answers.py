"""Answers that get lost after the work was done, between the real restic and our server.

restic cannot know whether its file was stored; its REST backend reacts by deleting it and trying
again. Whatever is dropped, the run must succeed and the repository must be sound.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ararat import process
from ararat.process import Command, Exit
from ararat.restic import arguments
from ararat.restic.models import Access, BackupRequest
from ararat.restic.rest_paths import ROOT

from . import trees
from .conftest import Repository
from .serving import Relay, Served, served

Drops = Callable[[str, str], bool]


async def run(
    repository: Repository,
    rest: Served,
    drops: Drops,
    *command: str,
    key_id: str = "",
) -> tuple[Exit, Relay]:
    """restic, by hand, through a relay in front of the server."""
    relay = Relay(rest.socket, drops)
    path = repository.work / "relay"
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(relay.serve, path, limit=1 << 20)
    password = repository.work / "password"
    password.write_text(repository.password)
    argv = arguments.common(
        Path(os.environ["ARARAT_RESTIC"]),
        url=f"rest:http+unix://{path}:{ROOT}",
        password_file=str(password),
        key_id=key_id,
        access=Access.APPEND_ONLY,
        cache_dir=None,
    )
    volume = os.open(repository.volume, os.O_RDONLY)
    try:
        end = await process.run(
            Command(
                argv=(*argv, *command),
                env={"TMPDIR": str(repository.work)},
                directory=volume,
            ),
            grace=5,
        )
    finally:
        os.close(volume)
        server.close()
    return end, relay


def dropping(kind: str, method: str = "POST") -> Drops:
    return lambda done, path: done == method and path.startswith(f"{ROOT}{kind}")


@pytest.mark.parametrize("kind", ["data", "index", "snapshots", "locks"])
async def test_a_backup_survives_lost_answers(repository: Repository, kind: str) -> None:
    trees.fill(repository.volume)
    directory = repository.current.directory
    async with served(repository.store, repository.work, directory=directory) as rest:
        end, relay = await run(
            repository,
            rest,
            dropping(kind),
            "backup",
            "--host=h",
            ".",
            key_id=repository.current.key_id,
        )
        assert relay.dropped, "the test dropped nothing"
        assert end.code == 0, end.tail
        await rest.blobs.sweep()
    async with repository.open(Access.MAINTENANCE) as restic:
        assert len(await restic.snapshots()) == 1
        assert (await restic.check(read_data_subset="100%")).ok
    assert await repository.files("locks/") == []


async def test_a_lock_whose_removal_got_no_answer_is_gone(repository: Repository) -> None:
    trees.fill(repository.volume)
    directory = repository.current.directory
    async with served(repository.store, repository.work, directory=directory) as rest:
        end, relay = await run(
            repository,
            rest,
            dropping("locks", "DELETE"),
            "backup",
            "--host=h",
            ".",
            key_id=repository.current.key_id,
        )
    assert relay.dropped
    assert end.code == 0
    # restic asks once more, for a lock that is gone: no reason to complain.
    assert "error while unlocking" not in " ".join(end.tail), end.tail
    assert await repository.files("locks/") == []


async def test_maintenance_survives_lost_answers_to_its_deletions(repository: Repository) -> None:
    """Snapshots, packs and indexes: each removal is done, its answer lost, and asked for again."""
    directory, key_id = repository.current.directory, repository.current.key_id
    async with repository.open() as restic:
        for seed in (1, 2):
            trees.fill(repository.volume, files=6, size=300_000, seed=seed)
            await restic.backup(BackupRequest(source=repository.volume, host="h"))
        gone, kept = await restic.snapshots()
    packs = await repository.files("data/")
    async with served(
        repository.store, repository.work, access=Access.MAINTENANCE, directory=directory
    ) as rest:
        for kinds, command in (
            ({"snapshots"}, ("forget", gone.id)),
            ({"data", "index"}, ("prune", "--max-unused=0")),
        ):
            end, relay = await run(
                repository, rest, dropping("", "DELETE"), *command, key_id=key_id
            )
            assert end.code == 0, end.tail
            dropped = {path.removeprefix(f"DELETE {ROOT}").split("/")[0] for path in relay.dropped}
            assert dropped == {*kinds, "locks"}
    assert not set(packs) <= set(await repository.files("data/"))
    async with repository.open(Access.MAINTENANCE) as restic:
        assert [snapshot.id for snapshot in await restic.snapshots()] == [kept.id]
        assert (await restic.check(read_data_subset="100%")).ok
    assert await repository.files("locks/") == []


@pytest.mark.parametrize("kind", ["config", "keys"])
async def test_making_a_repository_survives_lost_answers(repository: Repository, kind: str) -> None:
    directory = "repositories/volumes/shop/00000000000000aa"
    async with served(repository.store, repository.work, directory=directory) as rest:
        end, relay = await run(repository, rest, dropping(kind), "init")
        assert relay.dropped
        assert end.code == 0, end.tail
        end, _ = await run(repository, rest, lambda _m, _p: False, "cat", "config")
        assert end.code == 0, end.tail


async def test_a_second_init_does_not_harm_the_first(repository: Repository) -> None:
    """restic deletes the config that it could not write; it must not be the winner's."""
    directory = repository.current.directory
    async with served(repository.store, repository.work, directory=directory) as rest:
        end, _ = await run(repository, rest, lambda _m, _p: False, "init")
        assert end.code == 1
        # As if it had not seen the config: what its race with another init looks like.
        assert await rest.status("POST", "config", b"mine") == 403
        assert await rest.status("DELETE", "config") in (200, 403)
    async with repository.open() as restic:
        assert (await restic.cat_config()).id == repository.current.repository_id
