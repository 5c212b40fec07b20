"""Single files out of a backup: as the command line asks for them, with a real restic."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ararat.api.nodejob import ClaimReference
from ararat.blob.filesystem import FilesystemStore
from ararat.keys import repository_password
from ararat.restic.create import create_repository
from ararat.restic.models import Access, BackupRequest, LockOwner
from ararat.restic.session import open_repository
from ararat.restic.version import VARIABLE
from tests.cluster.toolchain import restic as toolchain
from tests.component.controller.restore.scene import data, database
from tests.component.controller.restore.world import LOCATION_ID, MASTER, World

LARGE = os.urandom(9_000_001)


@pytest.fixture
def work() -> Iterator[Path]:
    """A short path: sockets stand below it."""
    with tempfile.TemporaryDirectory(prefix="ar", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
async def backed_up(
    world: World, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.setenv(VARIABLE, os.environ.get(VARIABLE) or str(toolchain.ensure()))
    monkeypatch.setenv("ARARAT_SCRATCH_DIR", str(work))
    volume = tmp_path / "volume"
    (volume / "dir/deep").mkdir(parents=True)
    (volume / "dir/large.bin").write_bytes(LARGE)
    (volume / "dir/deep/other").write_text("other")
    (volume / "ünï cödé").write_text("x\x00y\n")
    (volume / "link").symlink_to("dir/large.bin")
    store = FilesystemStore(world.store_path)
    owner = LockOwner(cluster="c", pod_uid="p", container_start="", job="j")
    current = await create_repository(
        store,
        folder=f"repositories/volumes/{world.wp}",
        master=MASTER,
        location_id=LOCATION_ID,
        owner=owner,
        scratch_dir=work,
    )
    name = current.repository_name
    async with open_repository(
        store=store,
        directory=current.directory,
        password=repository_password(MASTER, LOCATION_ID, name),
        access=Access.APPEND_ONLY,
        owner=owner,
        cache_dir=None,
        scratch_dir=work,
    ) as restic:
        made = await restic.backup(BackupRequest(source=volume, host="h"))
    world.directory, world.key_id = current.directory, current.key_id
    stored = data(world, directory=current.directory, snapshot_id=made.snapshot_id)
    slot = data(world, volume="scratch", claim=None, volume_type="emptyDir", snapshot_id=None)
    empty = slot.model_copy(update={"empty": True})
    failed = data(world, claim=ClaimReference(name="lost", uid="u"), coverage="Failed")
    await world.backup(*database(world), volumes=[stored, empty, failed])
    return world


def ask(world: World, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "controller", *arguments],
        env={
            **os.environ,
            "KUBECONFIG": str(world.plane.kubeconfig),
            "ARARAT_NAMESPACE": world.namespace,
            "ARARAT_GATE_IMAGE": "x",
            "ARARAT_CACHE_DIR": str(world.path / "cache"),
        },
        capture_output=True,
        check=False,
        timeout=120,
    )


async def test_files_of_a_volume(backed_up: World) -> None:
    world, claim = backed_up, f"{backed_up.wp}/data-db-0"

    def listed(*path: str) -> dict[str, str]:
        done = ask(world, "ls", "b1", claim, *path)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {entry["path"]: entry["type"] for entry in lines}

    assert listed() == {"/dir": "dir", "/link": "symlink", "/ünï cödé": "file"}
    assert listed("dir") == {"/dir/deep": "dir", "/dir/large.bin": "file"}

    large = ask(world, "cat", "b1", f"{world.wp}/db-0/data", "dir/../dir/large.bin")
    assert large.returncode == 0, large.stderr
    assert hashlib.sha256(large.stdout).digest() == hashlib.sha256(LARGE).digest()
    assert ask(world, "cat", "b1", claim, "/ünï cödé").stdout == b"x\x00y\n"

    # Nothing but an error where there is no such thing, and no lock is left in any case.
    for wrong, words in (
        ((claim, "nope"), "has no 'nope'"),
        ((claim, "dir"), "is a directory, not a file"),
        ((claim, "link"), "is a link, not a file"),
        ((f"{world.wp}/lost", "x"), "has no data of a volume"),
        ((f"{world.wp}/db-0/scratch", "x"), "has no 'x'"),
    ):
        done = ask(world, "cat", "b1", *wrong)
        assert (done.returncode, done.stdout) == (1, b"")
        assert words in done.stderr.decode()
    assert ask(world, "ls", "b1", f"{world.wp}/db-0/scratch").stdout == b""
    locks = world.store_path / world.directory / "locks"
    assert not locks.exists() or not list(locks.iterdir())
