"""What a run is given: who we are, how to reach things, and where to say how it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ararat.blob.store import BlobStore
from ararat.kube.api import KubeApi
from ararat.layout import LocationFile
from ararat.restic.models import (
    Access,
    BackupRequest,
    BackupResult,
    CompareRequest,
    CompareResult,
    LockOwner,
    Node,
    OnBackupProgress,
    OnRestoreProgress,
    RestoreRequest,
    RestoreResult,
    SessionStats,
    Snapshot,
)
from ararat.restic.session import open_repository
from ararat.restic.settings import Settings

from .config import AgentConfig
from .known_snapshots import KnownSnapshots
from .locations import Locations
from .progress import ProgressMeter


class Engine(Protocol):
    """The seam to restic: what a run asks of an open repository."""

    async def snapshots(
        self, *, host: str | None = None, tags: Sequence[str] = ()
    ) -> list[Snapshot]: ...

    async def backup(
        self, request: BackupRequest, *, on_progress: OnBackupProgress | None = None
    ) -> BackupResult: ...

    async def restore(
        self, request: RestoreRequest, *, on_progress: OnRestoreProgress | None = None
    ) -> RestoreResult: ...

    def ls(
        self, snapshot_id: str, *, path: str | Sequence[str] | None = None, recursive: bool = True
    ) -> AsyncIterator[Node]: ...

    async def compare(
        self, request: CompareRequest, *, on_line: Callable[[], None] | None = None
    ) -> CompareResult: ...

    @property
    def stats(self) -> SessionStats: ...


class OpenRepository(Protocol):
    """``ararat.restic.session.open_repository``, or a double in tests."""

    def __call__(
        self,
        *,
        store: BlobStore,
        directory: str,
        password: str,
        key_id: str = "",
        access: Access,
        owner: LockOwner,
        cache_dir: Path | None,
        scratch_dir: Path,
        settings: Settings | None = None,
    ) -> AbstractAsyncContextManager[Engine]: ...


@dataclass(frozen=True)
class AgentContext:
    """Of this agent's process."""

    config: AgentConfig
    api: KubeApi
    locations: Locations
    open_repository: OpenRepository = open_repository
    restic_ended: Callable[[Mapping[tuple[str, str], int]], None] = lambda _: None
    """Told how the processes of each session ended."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    node_lock: Callable[[], str] = lambda: ""
    """What proves that agents before this one have ended (agent/node_lock.py)."""
    known: KnownSnapshots = field(default_factory=KnownSnapshots)
    swept: set[str] = field(default_factory=set)
    """Repositories in which locks of earlier containers of this pod were looked for."""

    def lock_owner(self, location: LocationFile, job: str) -> LockOwner:
        # Locks are stored only in a location that this cluster owns, so its owner is this cluster.
        return LockOwner(
            cluster=location.owner,
            pod_uid=self.config.pod_uid,
            container_start=self.started.isoformat(),
            job=job,
            node_lock=self.node_lock(),
        )

    def restic_settings(self) -> Settings:
        # restic must have ended before the agent's own time is over.
        return Settings(
            grace=max(5.0, self.config.shutdown_seconds - 8.0),
            concurrency=self.config.concurrency,
            bandwidth=self.config.bandwidth_bytes,
            outage_patience=self.config.outage_seconds,
            niceness=self.config.niceness,
            io_priority=self.config.io_priority,
        )


@dataclass
class Run:
    """One run of one job, as its body sees it."""

    meter: ProgressMeter
    say: Callable[[str], None]
    """Puts a sentence into the job's status, soon."""
    record: Callable[[Mapping[str, Any]], Awaitable[None]]
    """Writes into the job's status at once; raises JobLost where the job is not ours any more."""
    stored: Callable[[], bool] = lambda: False
    """Whether new data was stored for good: a further run has less to do."""
    again: bool = False
    """The job ran before, here or elsewhere."""
    adopted: bool = False
    """The snapshot is one that an earlier run had finished."""
    unreadable: int = 0
    """Files that could not be read so far."""
    bytes_read: int = 0
