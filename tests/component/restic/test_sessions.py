"""Sessions that end badly: what the caller is told, how soon, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ararat.blob.errors import ContainerNotFound, StoreUnreachable
from ararat.errors import AccessDenied, AraratError, InvalidSpec, OutOfSpace
from ararat.restic import locks
from ararat.restic.errors import ChildKilled, RepositoryLocked, ResticFailed
from ararat.restic.models import Access, BackupRequest, LockOwner, PruneRequest, RestoreRequest

from . import trees
from .conftest import HOST, Repository
from .stores import FaultyStore


def children() -> list[int]:
    """Our own child processes."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in found.split()]


def running_restic() -> int:
    """The one restic that this process runs (Azurite may be another child)."""
    for pid in children():
        with suppress(OSError):
            if "restic" in Path(f"/proc/{pid}/comm").read_text():
                return pid
    raise AssertionError("no restic runs")


async def until_running() -> int:
    async with asyncio.timeout(20):
        while True:
            with suppress(AssertionError):
                return running_restic()
            await asyncio.sleep(0.02)


def backup_request(repository: Repository) -> BackupRequest:
    return BackupRequest(source=repository.volume, host=HOST, tags=("job=j",))


@pytest.mark.parametrize(
    "exc", [StoreUnreachable("gone"), ContainerNotFound("no container"), AccessDenied("refused")]
)
async def test_a_store_that_never_answers_ends_the_job_soon(
    repository: Repository, exc: AraratError
) -> None:
    trees.fill(repository.volume)
    broken = repository.with_store(
        FaultyStore(repository.store, before=lambda _operation, _name: exc)
    )
    began = time.monotonic()
    async with broken.open() as restic:
        with pytest.raises(type(exc)) as caught:
            await restic.backup(backup_request(repository))
        assert caught.value.message == exc.message
    assert time.monotonic() - began < 8
    assert children_named("restic") == []


def children_named(name: str) -> list[int]:
    return [pid for pid in children() if name in Path(f"/proc/{pid}/comm").read_text()]


async def test_a_store_that_goes_away_in_the_middle_is_waited_for(repository: Repository) -> None:
    trees.fill(repository.volume, files=60, size=400_000)
    faulty = FaultyStore(repository.store)
    away = repository.with_store(faulty, outage_patience=20.0)
    loop = asyncio.get_running_loop()
    gone_until: list[float] = []

    def outage(operation: str, name: str) -> AraratError | None:
        if "/data/" in name and not gone_until:
            gone_until.append(loop.time() + 3)
        if gone_until and loop.time() < gone_until[0]:
            return StoreUnreachable("away for a moment")
        return None

    faulty.before = outage
    async with away.open() as restic:
        made = await restic.backup(backup_request(repository))
        assert gone_until
        assert made.files_new == 60
        assert (await restic.check()).ok


async def test_a_store_that_stays_away_ends_the_job_with_that_reason(
    repository: Repository,
) -> None:
    trees.fill(repository.volume, files=60, size=400_000)
    faulty = FaultyStore(repository.store)
    faulty.before = lambda _operation, name: (
        StoreUnreachable("the cable is cut") if "/data/" in name else None
    )
    async with repository.with_store(faulty, outage_patience=3.0).open() as restic:
        with pytest.raises(StoreUnreachable, match="the cable is cut"):
            await restic.backup(backup_request(repository))
    assert await repository.files("locks/") == []


async def test_a_full_store_ends_the_job_at_once(work: Path, template) -> None:
    """A real file system that is full."""
    location = work / "location"
    location.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", location], check=True)
    try:
        from ararat.blob.filesystem import FilesystemStore

        repository = await template.copy_to(FilesystemStore(location), work)
        trees.fill(repository.volume, files=60, size=400_000)
        began = time.monotonic()
        async with repository.open() as restic:
            with pytest.raises(OutOfSpace):
                await restic.backup(backup_request(repository))
        assert time.monotonic() - began < 15
    finally:
        subprocess.run(["umount", location], check=True)


async def test_a_full_volume_is_said_to_be_full(repository: Repository) -> None:
    trees.fill(repository.volume, files=8, size=1_000_000)
    target = repository.directory("target")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", target], check=True)
    try:
        async with repository.open() as restic:
            made = await restic.backup(backup_request(repository))
            assert made.snapshot_id
            try:
                restored = await restic.restore(
                    RestoreRequest(snapshot_id=made.snapshot_id, target=target)
                )
            except OutOfSpace:
                return
        assert any("no space left" in failed.message for failed in restored.failed)
    finally:
        subprocess.run(["umount", target], check=True)


async def test_a_killed_restic_leaves_no_lock(repository: Repository) -> None:
    trees.fill(repository.volume, files=60, size=400_000)
    faulty = FaultyStore(repository.store, delay=0.2)
    async with repository.with_store(faulty).open() as restic:
        task = asyncio.create_task(restic.backup(backup_request(repository)))
        while not await repository.files("locks/"):
            await asyncio.sleep(0.05)
        os.kill(running_restic(), signal.SIGKILL)
        with pytest.raises(ChildKilled):
            await task
        assert await repository.files("locks/") == []
        faulty.delay = 0
        assert (await restic.backup(backup_request(repository))).snapshot_id


_AGENT = """
import asyncio, sys
from pathlib import Path
from ararat.blob.filesystem import FilesystemStore
from ararat.restic.models import *
from ararat.restic.session import open_repository
from tests.component.restic.stores import FaultyStore

async def main():
    work, directory, password = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    store = FaultyStore(FilesystemStore(work / "location"), delay=0.3)
    async with open_repository(store=store, directory=directory, password=password,
            access=Access.APPEND_ONLY,
            owner=LockOwner("cluster-uid", "dead-pod", "2026-01-01", "j"),
            cache_dir=None, scratch_dir=work / "scratch") as restic:
        await restic.backup(BackupRequest(source=work / "volume", host="h"))

asyncio.run(main())
"""


async def test_restic_does_not_outlive_its_agent_and_its_lock_is_known(
    repository: Repository,
) -> None:
    trees.fill(repository.volume, files=60, size=400_000)
    repository.directory("scratch")
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _AGENT,
            str(repository.work),
            repository.current.directory,
            repository.password,
        ]
    )
    async with asyncio.timeout(30):
        while not await repository.files("locks/"):
            await asyncio.sleep(0.05)
    child = int(Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text())
    agent.kill()
    agent.wait()
    async with asyncio.timeout(5):
        while Path(f"/proc/{child}").exists() and "zombie" not in _state(child):
            await asyncio.sleep(0.02)

    left = await locks.list_locks(repository.store, repository.current.directory)
    assert [lock.owner for lock in left] == [
        LockOwner("cluster-uid", "dead-pod", "2026-01-01", "j")
    ]
    now = await repository.store.now()
    assert locks.dead_locks(left, now=now) == []
    async with repository.open(Access.MAINTENANCE) as restic:
        with pytest.raises(RepositoryLocked):
            await restic.prune()
        later = LockOwner("cluster-uid", "dead-pod", "2026-01-02", "")
        for lock, _why in locks.dead_locks(left, now=now, running=[later]):
            await restic.remove_lock(lock.id)
        await restic.prune()
        assert await restic.list_locks() == []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text().lower()
    except OSError:
        return "zombie"


async def test_an_old_lock_is_dead_and_a_fresh_one_is_not(repository: Repository) -> None:
    await repository.store.put(
        f"{repository.current.directory}/locks/{'a' * 64}",
        b"",
        metadata=locks.metadata(LockOwner("c", "p", "1", "j")),
    )
    found = await locks.list_locks(repository.store, repository.current.directory)
    now = datetime.now(UTC)
    assert locks.dead_locks(found, now=now + timedelta(minutes=44)) == []
    assert len(locks.dead_locks(found, now=now + timedelta(minutes=46))) == 1


async def test_forget_and_prune(repository: Repository) -> None:
    trees.fill(repository.volume, files=6, size=300_000, seed=1)
    async with repository.open(Access.MAINTENANCE) as restic:
        first = await restic.backup(backup_request(repository))
        trees.fill(repository.volume, files=6, size=300_000, seed=2)
        second = await restic.backup(backup_request(repository))
        assert first.snapshot_id
        before = await restic.repository_stats()
        await restic.forget([first.snapshot_id])
        await restic.forget([first.snapshot_id])
        await restic.prune(PruneRequest(max_unused="0"))
        after = await restic.repository_stats()
        assert [s.id for s in await restic.snapshots()] == [second.snapshot_id]
        assert after.total_size < before.total_size * 0.7
        assert (await restic.check(read_data_subset="100%")).ok


async def test_a_node_job_cannot_forget(repository: Repository) -> None:
    async with repository.open() as restic:
        with pytest.raises(InvalidSpec):
            await restic.forget(["a" * 64])
        with pytest.raises(InvalidSpec):
            await restic.prune()


async def test_damage_is_found_and_named(repository: Repository) -> None:
    trees.fill(repository.volume)
    async with repository.open() as restic:
        await restic.backup(backup_request(repository))
    pack = (await repository.files("data/"))[0]
    await repository.store.put(f"{repository.current.directory}/{pack}", b"x" * 1000)
    async with repository.open(Access.MAINTENANCE) as restic:
        found = await restic.check(read_data_subset="100%")
    assert not found.ok
    assert found.messages or found.broken_packs


async def test_prune_refuses_where_an_index_is_missing(repository: Repository) -> None:
    """What a listing that ended early would look like: packs seem to belong to nobody."""
    trees.fill(repository.volume, seed=1)
    async with repository.open() as restic:
        await restic.backup(backup_request(repository))
        trees.fill(repository.volume, seed=2)
        await restic.backup(backup_request(repository))
    packs = await repository.files("data/")
    index = (await repository.files("index/"))[0]
    await repository.store.delete(f"{repository.current.directory}/{index}")
    async with repository.open(Access.MAINTENANCE) as restic:
        with pytest.raises(ResticFailed):
            await restic.prune()
    assert await repository.files("data/") == packs


async def test_sessions_of_one_repository_run_side_by_side(any_repository: Repository) -> None:
    async def one(number: int) -> None:
        volume = any_repository.directory(f"volume{number}")
        trees.fill(volume, seed=number, files=10)
        async with any_repository.open() as restic:
            made = await restic.backup(BackupRequest(source=volume, host=f"h{number}"))
            assert made.files_new == 10

    await asyncio.gather(*(one(number) for number in range(3)))
    async with any_repository.open(Access.MAINTENANCE) as restic:
        assert len(await restic.snapshots()) == 3
        assert (await restic.check()).ok
    assert await any_repository.files("locks/") == []


async def test_no_secret_is_seen_from_outside(repository: Repository) -> None:
    trees.fill(repository.volume, files=60, size=400_000)
    faulty = FaultyStore(repository.store, delay=0.2)
    async with repository.with_store(faulty).open() as restic:
        task = asyncio.create_task(restic.backup(backup_request(repository)))
        pid = await until_running()
        seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        names = {
            entry.split(b"=")[0].decode()
            for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if entry
        }
        score = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
        limits = Path(f"/proc/{pid}/limits").read_text()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert repository.password.encode() not in seen
    assert names <= {
        "TMPDIR",
        "RESTIC_PROGRESS_FPS",
        "PATH",
        "TZ",
        "GOMAXPROCS",
        "GOMEMLIMIT",
        "GOGC",
    }
    assert score == 1000
    assert re.search(r"^Max core file size +([01]) +\1 +bytes", limits, re.MULTILINE)
