"""Nothing outside a volume is read or written, whatever a pod does with links meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ararat import process
from ararat.process import Command, Sandbox
from ararat.restic.errors import ResticFailed
from ararat.restic.models import BackupRequest, Confinement, RestoreRequest

from . import trees
from .conftest import HOST, Repository

SECRET = b"the node's own secret"


@contextmanager
def swapping(volume: Path, outside: Path) -> Iterator[None]:
    """A pod that swaps ``volume/d`` for a link to ``outside`` and back, all the time."""
    stop = threading.Event()
    (volume / "link").symlink_to(outside)

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):
                os.rename(volume / "d", volume / "d-real")
                os.rename(volume / "link", volume / "d")
            with suppress(OSError):
                os.rename(volume / "d", volume / "link")
                os.rename(volume / "d-real", volume / "d")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def outside_of(repository: Repository) -> Path:
    outside = repository.directory("outside")
    for number in range(50):
        (outside / f"f{number}").write_bytes(SECRET)
    return outside


async def test_a_backup_reads_nothing_outside(repository: Repository) -> None:
    outside = outside_of(repository)
    inner = repository.volume / "d"
    inner.mkdir()
    for number in range(50):
        (inner / f"f{number}").write_bytes(b"the pod's own")
    async with repository.open() as restic:
        with swapping(repository.volume, outside):
            snapshots = []
            for _ in range(8):
                with suppress(ResticFailed):  # now and then nothing at all can be read
                    made = await restic.backup(
                        BackupRequest(
                            source=repository.volume,
                            host=HOST,
                            force=True,
                            confinement=Confinement.REQUIRED,
                        )
                    )
                    snapshots.append(made.snapshot_id)
        assert snapshots
        for number, snapshot in enumerate(filter(None, snapshots)):
            target = repository.directory(f"t{number}")
            await restic.restore(RestoreRequest(snapshot_id=snapshot, target=target))
            for path in target.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    assert path.read_bytes() != SECRET, path


async def test_a_restore_writes_nothing_outside(repository: Repository) -> None:
    outside = outside_of(repository)
    before = trees.describe(outside)
    inner = repository.volume / "d"
    inner.mkdir()
    for number in range(200):
        (inner / f"f{number}").write_bytes(b"the pod's own")
    target = repository.directory("target")
    async with repository.open() as restic:
        made = await restic.backup(BackupRequest(source=repository.volume, host=HOST))
        assert made.snapshot_id
        (target / "d").mkdir()
        with swapping(target, outside):
            for _ in range(6):
                with suppress(Exception):
                    await restic.restore(
                        RestoreRequest(
                            snapshot_id=made.snapshot_id,
                            target=target,
                            replace=True,
                            confinement=Confinement.REQUIRED,
                        )
                    )
                    if not (target / "link").exists():
                        (target / "link").symlink_to(outside)
    after = trees.describe(outside)
    assert set(after) == set(before)
    assert {name: entry[6] for name, entry in after.items()} == {
        name: entry[6] for name, entry in before.items()
    }


def shell(script: str, sandbox: Sandbox | None, directory: int | None = None) -> Command:
    return Command(
        argv=("/bin/sh", "-c", script),
        env={"PATH": "/usr/bin:/bin"},
        sandbox=sandbox,
        directory=directory,
    )


async def test_what_a_confined_child_can_do(work: Path) -> None:
    volume = work / "volume"
    volume.mkdir()
    (volume / "file").write_text("content")
    (work / "secret").write_text("secret")
    outside = work / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    (volume / "link").symlink_to(outside)
    libraries = tuple(map(Path, ("/bin", "/lib", "/lib64", "/usr")))
    descriptor = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    script = (
        "cat file; cat ../secret; cat /proc/1/environ; echo x > file; echo y > new; "
        "ln -s / l; cat /etc/shadow; "
        # Where a link leads that stands for a directory.
        "ls link; cat link/theirs; echo z > link/theirs; echo z > link/ours; mkdir link/d; "
        "mv file link/; ln file link/hard; ln -s a link/soft; rm link/theirs; mv link/theirs got"
    )
    try:
        for kind in ("read", "restore"):
            lines: list[str] = []
            sandbox = Sandbox(
                execute=libraries,
                read=(descriptor,) if kind == "read" else (),
                restore=(descriptor,) if kind == "restore" else (),
            )
            end = await process.run(
                shell(script, sandbox, descriptor), grace=2, on_stdout=lines.append
            )
            assert lines == ["content"]
            assert end.code != 0
            assert (volume / "new").exists() is (kind == "restore")
            assert not (volume / "got").exists()
            assert [path.name for path in outside.iterdir()] == ["theirs"]
            assert (outside / "theirs").read_text() == "theirs"
    finally:
        os.close(descriptor)
    assert (volume / "file").read_text() == "x\n"


async def test_a_confined_child_has_no_network(work: Path) -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    program = f"import socket; s = socket.socket();\nprint(s.connect_ex(('127.0.0.1', {port})))"
    lines: list[str] = []
    await process.run(
        Command(
            argv=(sys.executable, "-I", "-c", program),
            env={},
            sandbox=Sandbox(execute=(Path("/"),)),
        ),
        grace=2,
        on_stdout=lines.append,
    )
    server.close()
    if process.landlock_abi() < 4:
        pytest.fail("this kernel's Landlock cannot restrict TCP; the test needs 6.7 or newer")
    assert lines == ["13"]  # EACCES
