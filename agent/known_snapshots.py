"""The snapshots of a repository, without asking restic for what is known already.

Problem: a backup needs its volume's newest snapshot as parent. Asking restic costs a whole process,
as much as the backup of a small volume itself.
Decision: snapshots never change, and their ids are names in the store. The ids are listed by one
request; only where one of them is not known is restic asked, and what it says is kept. What this
agent's own jobs store is added without being asked for.
Limits: of the few repositories that were used last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ararat.blob.store import BlobStore
from ararat.errors import Retryable
from ararat.restic.models import (
    BackupRequest,
    BackupResult,
    CompareRequest,
    CompareResult,
    Node,
    OnBackupProgress,
    OnRestoreProgress,
    RestoreRequest,
    RestoreResult,
    SessionStats,
    Snapshot,
    SnapshotSummary,
)
from ararat.restic.rest_paths import is_id

if TYPE_CHECKING:
    from .context import Engine

#: A namespace with a hundred volumes and a month of daily backups has three thousand, 1 KiB each.
_REPOSITORIES = 4
_SNAPSHOTS = 4000

#: All snapshots of a repository, from restic.
Ask = Callable[[], Awaitable[list[Snapshot]]]


class KnownSnapshots:
    """One per agent."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, dict[str, Snapshot]] = OrderedDict()

    async def of(self, key: str, store: BlobStore, directory: str, ask: Ask) -> list[Snapshot]:
        """Exactly those that are stored now. ``key`` names the repository everywhere."""
        try:
            names = [blob.name async for blob in store.list(f"{directory}/snapshots/")]
        except Retryable:
            return await ask()  # a session has more patience with a store than a single call
        ids = {name for name in (path.rpartition("/")[2] for path in names) if is_id(name)}
        known = self._known.setdefault(key, {})
        self._known.move_to_end(key)
        while len(self._known) > _REPOSITORIES:
            self._known.popitem(last=False)
        if not ids <= known.keys():
            # Others may have been added meanwhile; they are known then.
            found = await ask()
            known.update((snapshot.id, snapshot) for snapshot in found)
            ids |= {snapshot.id for snapshot in found}
        for gone in known.keys() - ids:
            del known[gone]
        kept = [known[each] for each in ids if each in known]
        if len(known) > _SNAPSHOTS:
            self._known.pop(key, None)
        return kept

    def add(self, key: str, snapshot: Snapshot) -> None:
        """One that a job of ours has just stored."""
        known = self._known.get(key)
        if known is not None:
            known[snapshot.id] = snapshot


class Remembering:
    """An open repository whose snapshots are looked up here first."""

    def __init__(
        self,
        engine: Engine,
        memory: KnownSnapshots,
        *,
        key: str,
        store: BlobStore,
        directory: str,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._key = key
        self._store = store
        self._directory = directory

    async def snapshots(
        self, *, host: str | None = None, tags: Sequence[str] = ()
    ) -> list[Snapshot]:
        found = await self._memory.of(
            self._key, self._store, self._directory, self._engine.snapshots
        )
        return [
            snapshot
            for snapshot in found
            if host in (None, snapshot.hostname) and all(map(snapshot.has_tag, tags))
        ]

    async def backup(
        self, request: BackupRequest, *, on_progress: OnBackupProgress | None = None
    ) -> BackupResult:
        result = await self._engine.backup(request, on_progress=on_progress)
        if result.snapshot_id is not None:
            self._memory.add(self._key, _snapshot(request, result, result.snapshot_id))
        return result

    async def restore(
        self, request: RestoreRequest, *, on_progress: OnRestoreProgress | None = None
    ) -> RestoreResult:
        return await self._engine.restore(request, on_progress=on_progress)

    async def compare(
        self, request: CompareRequest, *, on_line: Callable[[], None] | None = None
    ) -> CompareResult:
        return await self._engine.compare(request, on_line=on_line)

    def ls(
        self, snapshot_id: str, *, path: str | Sequence[str] | None = None, recursive: bool = True
    ) -> AsyncIterator[Node]:
        return self._engine.ls(snapshot_id, path=path, recursive=recursive)

    @property
    def stats(self) -> SessionStats:
        return self._engine.stats


def _snapshot(request: BackupRequest, result: BackupResult, snapshot_id: str) -> Snapshot:
    """What a listing would say about it; of its time restic has a little earlier one."""
    now = datetime.now(UTC)
    return Snapshot(
        id=snapshot_id,
        time=now,
        hostname=request.host,
        tags=tuple(request.tags),
        parent=result.parent,
        summary=SnapshotSummary(
            files_new=result.files_new,
            files_changed=result.files_changed,
            files_unmodified=result.files_unmodified,
            bytes_processed=result.bytes_processed,
            files_processed=result.files_total,
            bytes_added=result.bytes_added,
            bytes_stored=result.bytes_stored,
            backup_end=now,
        ),
    )
