"""Backup and restore of volumes: the real restic, our server, both kinds of store."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
import structlog

from ararat.errors import InvalidSpec
from ararat.restic.errors import NoRepository, SnapshotNotFound, WrongPassword
from ararat.restic.models import (
    Access,
    BackupProgress,
    BackupRequest,
    Confinement,
    LastRun,
    RestoreProgress,
    RestoreRequest,
    Tuning,
)
from ararat.restic.parent import choose_parent
from ararat.restic.tuning import last_run

from . import trees
from .conftest import HOST, Repository
from .stores import FaultyStore


def request_for(repository: Repository, **more: object) -> BackupRequest:
    fields: dict[str, object] = {
        "source": repository.volume,
        "host": HOST,
        "tags": ("ararat", "backup=b1", "job=j1"),
        **more,
    }
    return BackupRequest(**fields)  # type: ignore[arg-type]


async def test_a_volume_comes_back_as_it_was(any_repository: Repository) -> None:
    trees.fill(any_repository.volume)
    trees.special(any_repository.volume)
    target = any_repository.directory("target")
    seen: list[BackupProgress] = []
    written: list[RestoreProgress] = []
    async with any_repository.open() as restic:
        made = await restic.backup(request_for(any_repository), on_progress=seen.append)
        assert made.snapshot_id
        assert not made.incomplete
        assert not made.empty
        assert made.files_total == made.files_new > 20
        listed = await restic.snapshots(host=HOST, tags=["job=j1"])
        assert [snapshot.id for snapshot in listed] == [made.snapshot_id]
        restored = await restic.restore(
            RestoreRequest(snapshot_id=made.snapshot_id, target=target),
            on_progress=written.append,
        )
    assert restored.failed_count == 0
    assert restored.bytes_restored == restored.bytes_total > 20_000_000
    assert trees.describe(target) == trees.describe(any_repository.volume)
    assert (target / "sparse").stat().st_blocks * 512 < 2 * 1024 * 1024
    assert await any_repository.files("locks/") == []
    assert list(any_repository.directory("scratch").iterdir()) == []


async def test_the_second_run_reads_nothing_though_the_pod_has_moved(
    repository: Repository,
) -> None:
    """The kubelet's path holds the pod's UID; the volume is entered by descriptor."""
    first_path = repository.directory("pod-1") / "mount"
    trees.fill(first_path.parent, files=0)
    first_path.mkdir()
    trees.fill(first_path, size=1_500_000)
    async with repository.open() as restic:
        first = await restic.backup(request_for(repository, source=first_path))
    second_path = repository.directory("pod-2") / "mount"
    first_path.rename(second_path)
    async with repository.open() as restic:
        parent, reason = choose_parent(await restic.snapshots(), HOST)
        assert parent == first.snapshot_id, reason
        descriptor = os.open(second_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            second = await restic.backup(
                request_for(repository, source=descriptor, parent=parent, tags=("job=j2",))
            )
            os.fstat(descriptor)  # it is still ours
        finally:
            os.close(descriptor)
        forced = await restic.backup(request_for(repository, source=second_path, force=True))
    assert (second.files_unmodified, second.files_new, second.files_changed) == (20, 0, 0)
    assert second.parent == first.snapshot_id
    assert second.bytes_added == 0
    assert forced.files_unmodified == 0
    # What the kernel counted: of 30 MB nothing but restic's own start, index and directories.
    assert first.bytes_read > 30_000_000
    assert second.bytes_read < 8_000_000
    assert forced.bytes_read > 30_000_000


async def test_a_run_without_a_parent_finds_the_newest_of_its_host(repository: Repository) -> None:
    trees.fill(repository.volume)
    async with repository.open() as restic:
        await restic.backup(request_for(repository))
        other = await restic.backup(request_for(repository, host="cluster-uid/other/pvc/x"))
        again = await restic.backup(request_for(repository, tags=("job=j9",)))
    assert other.files_new == 20
    assert again.files_unmodified == 20


async def test_a_finished_run_is_found_by_its_job(repository: Repository) -> None:
    trees.fill(repository.volume)
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository))
        found = await restic.find_finished(host=HOST, job="j1")
        assert found is not None
        assert found.id == made.snapshot_id
        assert await restic.find_finished(host=HOST, job="j2") is None
        assert await restic.find_finished(host="other", job="j1") is None


@pytest.mark.parametrize("content", ["nothing", "lost+found", "socket", "excluded"])
async def test_an_empty_volume_is_a_success_without_a_snapshot(
    repository: Repository, content: str
) -> None:
    if content == "lost+found":
        (repository.volume / "lost+found").mkdir()
        (repository.volume / "lost+found" / "remains").write_bytes(b"x")
    elif content == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(repository.volume / "app.sock"))
    elif content == "excluded":
        (repository.volume / "cache.tmp").write_bytes(b"x")
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository, excludes=("*.tmp",)))
        assert await restic.snapshots() == []
    assert made.empty
    assert made.snapshot_id is None
    assert not made.incomplete


async def test_unreadable_files_make_it_incomplete_and_are_named(repository: Repository) -> None:
    trees.fill(repository.volume, files=4)
    secret = repository.volume / "dir0" / "file0"
    # What even root cannot read: this opens, and every read fails.
    await mounted("mount", "--bind", "/proc/self/mem", str(secret))
    try:
        async with repository.open() as restic:
            made = await restic.backup(request_for(repository, one_file_system=False))
    finally:
        await mounted("umount", str(secret))
    assert made.snapshot_id
    assert made.incomplete
    assert made.unreadable_count == 1
    assert made.unreadable[0].path.endswith("dir0/file0")
    assert made.unreadable[0].message


async def mounted(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, f"{command[0]} needs root, which the agent has too"


async def test_excludes(repository: Repository) -> None:
    for name in ("keep.txt", "a.tmp", "sub/b.tmp", "sub/keep", "cache/x", "sub/cache/y"):
        path = repository.volume / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(name)
    target = repository.directory("target")
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository, excludes=("*.tmp", "/cache")))
        assert made.snapshot_id
        await restic.restore(RestoreRequest(snapshot_id=made.snapshot_id, target=target))
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == [
        "keep.txt",
        "sub/cache/y",
        "sub/keep",
    ]


async def test_caches_say_so_themselves(repository: Repository) -> None:
    trees.fill(repository.volume, files=4)
    cache = repository.volume / "dir0" / "cache"
    cache.mkdir()
    (cache / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    (cache / "entry").write_bytes(b"x" * 1000)
    async with repository.open() as restic:
        kept = await restic.backup(request_for(repository))
        left = await restic.backup(request_for(repository, exclude_caches=True))
        assert kept.snapshot_id
        assert left.snapshot_id
        change = await restic.diff(kept.snapshot_id, left.snapshot_id)
    assert [(one.path, one.modifier) for one in change.changes] == [("/dir0/cache/entry", "-")]


async def test_the_size_of_the_last_run_chooses_the_tuning(repository: Repository) -> None:
    trees.fill(repository.volume)
    with structlog.testing.capture_logs() as logs:
        async with repository.open() as restic:
            await restic.backup(request_for(repository))
            last = last_run(await restic.snapshots(), host=HOST)
            assert last == LastRun(files=20, bytes=400_000)
            made = await restic.backup(request_for(repository, last=last))
            assert made.snapshot_id
            target = repository.directory("target")
            request = RestoreRequest(snapshot_id=made.snapshot_id, target=target, expected=last)
            await restic.restore(request)
    tuned = [entry for entry in logs if entry["event"] == "backup-tuned"]
    assert [entry["why"] for entry in tuned] == [
        "nothing is known of the volume yet",
        "20 files, most of them small",
    ]
    assert tuned[1]["read_concurrency"] >= 2
    assert any(entry["event"] == "restore-tuned" for entry in logs)


async def test_excludes_work_where_the_path_has_pattern_characters(repository: Repository) -> None:
    volume = repository.directory("vol[1]*")
    (volume / "cache").mkdir()
    (volume / "cache" / "x").write_text("x")
    (volume / "keep").write_text("k")
    (volume / "lost+found").mkdir()
    (volume / "lost+found" / "x").write_text("x")
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository, source=volume, excludes=("/cache",)))
    assert made.files_total == 1


async def test_a_retry_replaces_its_own_partial_data(repository: Repository) -> None:
    trees.fill(repository.volume)
    target = repository.directory("target")
    (target / "left-over").write_text("from an attempt that died")
    (target / "lost+found").mkdir()
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository))
        assert made.snapshot_id
        request = RestoreRequest(snapshot_id=made.snapshot_id, target=target, replace=True)
        restored = await restic.restore(request)
    assert restored.files_deleted == 1
    assert (target / "lost+found").is_dir()
    (target / "lost+found").rmdir()
    assert trees.describe(target) == trees.describe(repository.volume)


async def test_only_the_named_paths_are_restored(repository: Repository) -> None:
    trees.fill(repository.volume)
    target = repository.directory("target")
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository))
        assert made.snapshot_id
        await restic.restore(
            RestoreRequest(snapshot_id=made.snapshot_id, target=target, include=("/dir1",))
        )
    assert [path.name for path in target.iterdir()] == ["dir1"]


async def test_paths_that_cannot_be_written_are_in_the_result(repository: Repository) -> None:
    trees.fill(repository.volume, files=4)
    target = repository.directory("target")
    # Something stands where a file should go that cannot be removed: a busy mount point.
    (target / "dir0").mkdir()
    busy = target / "dir0" / "file0"
    busy.mkdir()
    await mounted("mount", "-t", "tmpfs", "none", str(busy))
    try:
        async with repository.open() as restic:
            made = await restic.backup(request_for(repository))
            assert made.snapshot_id
            restored = await restic.restore(
                RestoreRequest(snapshot_id=made.snapshot_id, target=target)
            )
    finally:
        await mounted("umount", str(busy))
    assert restored.failed_count >= 1
    assert "/dir0/file0" in restored.failed[0].path
    assert (target / "dir1" / "file1").is_file()


async def test_reading_a_file_and_a_listing(any_repository: Repository) -> None:
    trees.fill(any_repository.volume, files=8, size=300_000)
    async with any_repository.open() as restic:
        made = await restic.backup(request_for(any_repository))
        assert made.snapshot_id
        nodes = [node async for node in restic.ls(made.snapshot_id)]
        assert sum(node.type == "file" for node in nodes) == 8
        below = [node.path async for node in restic.ls(made.snapshot_id, path="/dir1")]
        assert "/dir1/file1" in below
        assert "/dir2/file2" not in below
        read = b"".join([chunk async for chunk in restic.dump(made.snapshot_id, "dir1/file1")])
        assert read == (any_repository.volume / "dir1" / "file1").read_bytes()
        stats = await restic.snapshot_stats(made.snapshot_id)
        assert stats.total_size == made.bytes_processed
        assert (await restic.repository_stats()).snapshots == 1


async def test_what_is_not_there_is_said_so(repository: Repository) -> None:
    trees.fill(repository.volume, files=1)
    missing = "f" * 64
    async with repository.open() as restic:
        with pytest.raises(SnapshotNotFound):
            await restic.restore(
                RestoreRequest(snapshot_id=missing, target=repository.directory("target"))
            )
    async with repository.open(password="0" * 64) as restic:
        with pytest.raises(WrongPassword):
            await restic.cat_config()
    repository.current = repository.current.model_copy(
        update={"directory": "repositories/volumes/shop/0000000000000000"}
    )
    async with repository.open() as restic:
        with pytest.raises(NoRepository):
            await restic.cat_config()


async def test_a_reader_stores_nothing(any_repository: Repository) -> None:
    trees.fill(any_repository.volume)
    async with any_repository.open() as restic:
        made = await restic.backup(request_for(any_repository))
    before = await any_repository.files()
    async with any_repository.open(Access.READ_ONLY) as restic:
        assert made.snapshot_id
        await restic.restore(
            RestoreRequest(snapshot_id=made.snapshot_id, target=any_repository.directory("target"))
        )
        with pytest.raises(InvalidSpec):
            await restic.backup(request_for(any_repository))
        assert not any(operation.startswith("post") for operation in restic.stats.operations)
    assert await any_repository.files() == before


async def test_tuning_reaches_restic(repository: Repository) -> None:
    trees.fill(repository.volume, files=1, size=6 * 1024 * 1024)
    (repository.volume / "text").write_text("\n".join(map(str, range(1_000_000))))
    tuning = Tuning(read_concurrency=4, pack_size=4, compression="off", connections=2, scan=False)
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository, tuning=tuning))
    assert made.bytes_stored > made.bytes_added * 0.99  # directories are compressed all the same
    assert len(await repository.files("data/")) > 2


async def test_it_is_confined_where_it_must_be(repository: Repository) -> None:
    trees.fill(repository.volume, files=2)
    async with repository.open() as restic:
        made = await restic.backup(request_for(repository, confinement=Confinement.REQUIRED))
        assert made.confined
        assert made.snapshot_id
        restored = await restic.restore(
            RestoreRequest(
                snapshot_id=made.snapshot_id,
                target=repository.directory("target"),
                confinement=Confinement.REQUIRED,
            )
        )
        assert restored.confined


async def test_cancelling_ends_restic_and_leaves_no_lock(any_repository: Repository) -> None:
    trees.fill(any_repository.volume, files=60, size=400_000)
    slow = FaultyStore(any_repository.store, delay=0.3)
    async with any_repository.with_store(slow).open() as restic:
        task = asyncio.create_task(restic.backup(request_for(any_repository)))
        async with asyncio.timeout(30):
            while not await any_repository.files("locks/"):
                await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)
        assert await any_repository.files("locks/") == []
        slow.delay = 0
        assert (await restic.snapshots()) == []
