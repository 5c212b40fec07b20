"""When restic is asked for snapshots, and that what is answered is what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from agent.known_snapshots import KnownSnapshots, Remembering
from ararat.blob.errors import StoreUnreachable
from ararat.blob.store import BlobInfo
from ararat.restic.models import BackupRequest, BackupResult, Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot(letter: str, *, host: str = "h", tags: Sequence[str] = ()) -> Snapshot:
    return Snapshot(id=letter * 64, time=NOW, hostname=host, tags=tuple(tags))


class Repository:
    """A store's names, and a restic that knows what they hold."""

    def __init__(self, *held: Snapshot) -> None:
        self.held = [*held]
        self.asked = 0
        self.away = False
        self.next: Snapshot | None = None

    async def list(self, prefix: str, *, metadata: bool = False) -> AsyncIterator[BlobInfo]:
        if self.away:
            raise StoreUnreachable("gone")
        for each in (*(s.id for s in self.held), "not-an-id"):
            yield BlobInfo(f"{prefix}{each}", 1, "", NOW, {})

    async def snapshots(self, **_: Any) -> Sequence[Snapshot]:
        self.asked += 1
        return [*self.held]

    async def backup(self, request: BackupRequest, **_: Any) -> BackupResult:
        assert self.next is not None
        self.held.append(self.next)
        return BackupResult(snapshot_id=self.next.id)


def opened(repository: Any, memory: KnownSnapshots, key: str = "k") -> Remembering:
    return Remembering(repository, memory, key=key, store=repository, directory="d")


async def test_an_empty_repository_needs_no_restic() -> None:
    repository = Repository()
    assert await opened(repository, KnownSnapshots()).snapshots(host="h") == []
    assert repository.asked == 0


async def test_restic_is_asked_once_for_each_unknown_snapshot() -> None:
    repository, memory = Repository(snapshot("a"), snapshot("b", host="other")), KnownSnapshots()
    for _ in range(3):
        found = await opened(repository, memory).snapshots(host="h")
        assert found == [snapshot("a")]
    assert repository.asked == 1
    repository.held.append(snapshot("c"))
    found = await opened(repository, memory).snapshots(host="h")
    assert sorted(s.id[0] for s in found) == ["a", "c"]
    assert repository.asked == 2


async def test_what_a_job_of_ours_stored_is_known() -> None:
    repository, memory = Repository(), KnownSnapshots()
    repository.next = snapshot("a", tags=["job=1"])
    restic = opened(repository, memory)
    await restic.snapshots(host="h")
    await restic.backup(BackupRequest(source=0, host="h", tags=("job=1",)))
    (found,) = await opened(repository, memory).snapshots(host="h", tags=["job=1"])
    assert (found.id, found.hostname, repository.asked) == ("a" * 64, "h", 0)
    assert await opened(repository, memory).snapshots(host="h", tags=["job=2"]) == []


async def test_what_was_removed_is_forgotten() -> None:
    repository, memory = Repository(snapshot("a"), snapshot("b")), KnownSnapshots()
    await opened(repository, memory).snapshots(host="h")
    del repository.held[0]
    assert await opened(repository, memory).snapshots(host="h") == [snapshot("b")]
    assert repository.asked == 1


async def test_repositories_are_told_apart_and_not_kept_for_ever() -> None:
    memory = KnownSnapshots()
    repositories = {str(n): Repository(snapshot(f"{n:x}")) for n in range(8)}
    for key, repository in repositories.items():
        (found,) = await opened(repository, memory, key).snapshots(host="h")
        assert found == repository.held[0]
    await opened(repositories["7"], memory, "7").snapshots(host="h")
    await opened(repositories["0"], memory, "0").snapshots(host="h")
    assert (repositories["7"].asked, repositories["0"].asked) == (1, 2)


async def test_a_store_that_is_away_is_left_to_restics_patience() -> None:
    repository = Repository(snapshot("a"))
    repository.away = True
    assert await opened(repository, KnownSnapshots()).snapshots(host="h") == [snapshot("a")]
    assert repository.asked == 1
