"""A double in restic's place, for what the real one does only when it likes: hang, fail, crawl.

It keeps the engine's promises: a cancelled call ends, results are what ``models`` says.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ararat.restic.models import (
    BackupProgress,
    BackupRequest,
    BackupResult,
    CompareRequest,
    CompareResult,
    Node,
    OnBackupProgress,
    OnRestoreProgress,
    OperationStats,
    RestoreProgress,
    RestoreRequest,
    RestoreResult,
    SessionStats,
    Snapshot,
)

SNAPSHOT = "5" * 64


class FakeEngine:
    """Called like ``open_repository``; tests replace ``on_backup`` and ``on_restore``."""

    def __init__(self) -> None:
        self.sessions: list[dict[str, Any]] = []
        self.backups: list[BackupRequest] = []
        self.restores: list[RestoreRequest] = []
        self.compared: list[CompareRequest] = []
        self.running = 0
        self.most = 0
        self.stored = 0
        self.known: list[Snapshot] = []
        #: What lies in the root of every snapshot.
        self.held: list[str] = []
        self.reported = BackupProgress(total_bytes=100, bytes_done=40, total_files=2, files_done=1)
        self.on_backup: Callable[[BackupRequest], Awaitable[BackupResult]] = self._back_up
        self.on_restore: Callable[[RestoreRequest], Awaitable[RestoreResult]] = self._restore

        self.on_compare: Callable[[CompareRequest], Awaitable[CompareResult]] = self._compare

    @asynccontextmanager
    async def __call__(self, **arguments: Any) -> AsyncIterator[FakeEngine]:
        self.sessions.append(arguments)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield self
        finally:
            self.running -= 1

    async def snapshots(
        self, *, host: str | None = None, tags: Sequence[str] = ()
    ) -> list[Snapshot]:
        return self.known

    async def backup(
        self, request: BackupRequest, *, on_progress: OnBackupProgress | None = None
    ) -> BackupResult:
        self.backups.append(request)
        if on_progress is not None:
            on_progress(self.reported)
        return await self.on_backup(request)

    async def restore(
        self, request: RestoreRequest, *, on_progress: OnRestoreProgress | None = None
    ) -> RestoreResult:
        self.restores.append(request)
        if on_progress is not None:
            on_progress(RestoreProgress(total_bytes=100, bytes_done=40))
        return await self.on_restore(request)

    async def ls(
        self, snapshot_id: str, *, path: str | Sequence[str] | None = None, recursive: bool = True
    ) -> AsyncIterator[Node]:
        for name in self.held:
            yield Node(path=f"/{name}", type="file")

    async def compare(
        self, request: CompareRequest, *, on_line: Callable[[], None] | None = None
    ) -> CompareResult:
        self.compared.append(request)
        return await self.on_compare(request)

    @property
    def stats(self) -> SessionStats:
        return SessionStats(operations={"post index": OperationStats(requests=self.stored)})

    @staticmethod
    async def _back_up(request: BackupRequest) -> BackupResult:
        return BackupResult(
            snapshot_id=SNAPSHOT, files_new=2, files_total=2, bytes_processed=100, bytes_added=90,
            bytes_stored=50, seconds=0.1, parent=request.parent,
        )  # fmt: skip

    @staticmethod
    async def _restore(request: RestoreRequest) -> RestoreResult:
        assert isinstance(request.target, int)
        if request.replace:
            for name in os.listdir(request.target):
                os.unlink(name, dir_fd=request.target)
        fd = os.open("restored", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=request.target)
        os.write(fd, b"content" * 14 + b"\n\n")
        os.close(fd)
        return RestoreResult(files_total=1, files_restored=1, bytes_total=100, bytes_restored=100)

    @staticmethod
    async def _compare(request: CompareRequest) -> CompareResult:
        return CompareResult(files_same=1, bytes_same=100)


async def for_ever(_: object) -> Any:
    """A restic that does nothing until it is ended."""
    await asyncio.Event().wait()


def files(path: Path) -> list[str]:
    return sorted(os.listdir(path))
