"""Everything is lost but the repositories and the exported key: stock restic gets it back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.cli import main
from ararat.errors import Damaged, WrongKey
from ararat.restic.errors import WrongPassword
from ararat.restic.models import BackupRequest
from ararat.restic.recover import recovered_location

from . import trees
from .conftest import HOST, LOCATION_ID, Repository


def cli(*arguments: str) -> tuple[int, str, str]:
    """The command line as it is typed, in this process, on its own thread."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(list(arguments))
    return code, out.getvalue(), err.getvalue()


async def test_a_key_file_and_the_export_open_a_repository(
    repository: Repository, restic: Path
) -> None:
    trees.fill(repository.volume)
    trees.special(repository.volume)
    async with repository.open() as session:
        await session.backup(BackupRequest(source=repository.volume, host=HOST))
    # An export from before the location was made: it does not know its id.
    export = repository.work / "ararat-key.json"
    export.write_text(keys.export_key(repository.master, {}).model_dump_json(by_alias=True))
    where = repository.work / "location" / repository.current.directory
    key_file = next((where / "keys").iterdir())

    command = ("key", "password", str(export), "--key-file", str(key_file))
    code, out, err = await asyncio.to_thread(cli, *command)
    assert (code, err) == (0, "")
    target = repository.directory("target")
    done = subprocess.run(
        [restic, "--repo", where, "--no-cache", "--no-lock", "restore", "latest", "--target", "."],
        cwd=target,
        env={**os.environ, "RESTIC_PASSWORD": out.strip()},
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert trees.describe(target) == trees.describe(repository.volume)

    other = keys.new_master_key()
    export.write_text(keys.export_key(other, {}).model_dump_json(by_alias=True))
    code, out, err = await asyncio.to_thread(cli, *command)
    assert (code, out) == (1, "")
    assert keys.fingerprint(repository.master) in err


async def test_a_location_says_what_it_was(repository: Repository) -> None:
    store, master = repository.store, repository.master
    found = await recovered_location(store, masters=[master], owner="cluster")
    assert (found.location_id, found.owner) == (LOCATION_ID, "cluster")
    assert found.key_fingerprints == [keys.fingerprint(master)]
    with pytest.raises(WrongKey, match=keys.fingerprint(master)):
        await recovered_location(store, masters=[keys.new_master_key()], owner="cluster")

    # A key file that was copied to another repository's place tells nothing.
    name = (await repository.files("keys/"))[0]
    data = await store.get(f"{repository.current.directory}/{name}")
    elsewhere = layout.fresh_directory(layout.objects_repository())
    await store.put(f"{elsewhere}/{name}", data)
    assert await recovered_location(store, masters=[master], owner="cluster") == found

    # One that was altered is not believed.
    forged = data.replace(LOCATION_ID.encode(), LOCATION_ID.replace("0d1f", "ffff").encode())
    await store.put(f"{repository.current.directory}/{name}", forged)
    with pytest.raises(WrongPassword):
        await recovered_location(store, masters=[master], owner="cluster")
    await store.delete(f"{repository.current.directory}/{name}")
    with pytest.raises(Damaged, match="are not there"):
        await recovered_location(store, masters=[master], owner="cluster")
