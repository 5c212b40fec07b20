"""One look at one backup: what the steps of the reconciler share, and how they write status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ararat.api import Backup, PodVolumeBackup
from ararat.api.backup import BackupPhase
from ararat.api.base import ConditionStatus, utcnow, with_condition
from ararat.api.names import FINALIZER
from ararat.errors import AraratError
from ararat.human import size
from ararat.kube.resources import of as resource_of
from ararat.kube.status import merge, patch_status
from controller.backup import store
from controller.backup.jobtable import JobTable
from controller.backup.plan import BackupPlan
from controller.backup.volumes import PlannedVolume
from controller.backup.watchdog import AgentWatchdog
from controller.context import Context
from controller.keptlog import KeptLog
from controller.runlog import RunLog

BACKUPS = resource_of(Backup)
JOBS = resource_of(PodVolumeBackup)
#: How long the cache may lag behind a phase that was written.
_LAG_SECONDS = 30.0
#: For storing the log of a backup that failed or was cancelled.
_LOG_SECONDS = 20.0


@dataclass
class Memory:
    """What this process remembers of a backup under way; all of it can be found again."""

    uid: str = ""
    #: The phase written last, and when (monotonic): the cache may not show it yet.
    phase: BackupPhase | None = None
    phase_at: float = 0.0
    #: Namespaces that it began with, before its status says so to the others.
    namespaces: frozenset[str] = frozenset()
    #: It was seen that no manifest has been committed, and this process has not tried since.
    uncommitted: bool = False
    plan: BackupPlan | None = None
    kept_log: KeptLog = field(default_factory=KeptLog)
    #: Node jobs that the API server has, as far as this process knows: when it said so (monotonic).
    made: dict[str, float] = field(default_factory=dict)
    objects: asyncio.Task[Any] | None = None
    watchdog: AgentWatchdog = field(default_factory=AgentWatchdog)
    jobs: JobTable = field(default_factory=JobTable)
    #: The volumes that the plan wants read, by the name of their job; None: not worked out yet.
    expected: Mapping[str, PlannedVolume] | None = None
    #: Helper pods that the API server refused: since when, and when last (monotonic).
    refused_helpers: dict[str, tuple[float, float]] = field(default_factory=dict)
    last_progress: float = 0.0
    failing_since: float | None = None
    #: The last collection of API objects ended with an error to retry.
    objects_failed: bool = False

    def ahead_of(self, shown: BackupPhase) -> bool:
        """Whether the cache shows an older phase than was written a moment ago.

        Acting on it would do a step twice, or bring an ended backup back to life. Not believed for
        ever: whoever turns a phase back by hand is obeyed in the end.
        """
        if self.phase is None or time.monotonic() - self.phase_at > _LAG_SECONDS:
            return False
        order = list(BackupPhase)
        return order.index(shown) < order.index(self.phase)


@dataclass
class Look:
    """A backup as it is now, and everything needed to act on it.

    ``backup`` is what the look decides upon, ``raw`` follows the look's own writes. Each of these
    names the version it was made for: a leader that lost its Lease and has not noticed yet, or
    whose cache is behind, must not write over what its successor did. Raises ApiConflict: look
    again.
    """

    context: Context
    raw: dict[str, Any]
    backup: Backup
    memory: Memory
    log: RunLog

    @property
    def cancelled(self) -> bool:
        deleted = self.backup.metadata.deletion_timestamp is not None
        return self.backup.spec.cancel or deleted

    async def patch(self, status: dict[str, Any]) -> None:
        before = self.raw.get("status") or {}
        if merge(before, status) != before:
            version = self.raw["metadata"]["resourceVersion"]
            self.raw = await patch_status(
                self.context.api, BACKUPS, self.raw, status, resource_version=version
            )
        if "phase" in status:
            self.memory.phase = BackupPhase(status["phase"])
            self.memory.phase_at = time.monotonic()

    def jobs(self) -> JobTable:
        """The node jobs that the cache shows, by name; caught up with it at each call."""
        cache, uid = self.context.pod_volume_backups, self.backup.uid
        jobs = self.memory.jobs

        def one(name: str) -> dict[str, Any] | None:
            raw = cache.get(name, self.context.namespace)
            return raw if raw is not None and raw["spec"].get("backupUID") == uid else None

        jobs.read(lambda: cache.by_index("backup-uid", uid), one)
        return jobs

    def note_changes(self, jobs: JobTable) -> None:
        """Log each job whose phase moved since the last look."""
        for name in jobs.moved():
            job = jobs[name]
            pod = job.spec.pod
            fields = {
                "job": name,
                "volume": f"{pod.namespace}/{pod.name}/{job.spec.volume}",
                "node": job.spec.node,
                "phase": job.status.phase.value,
            }
            if job.status.message:
                fields["message"] = job.status.message
            if job.status.reason:
                fields["reason"] = job.status.reason
            if job.status.attempts:
                fields["attempts"] = str(job.status.attempts)
            if job.status.snapshot_id:
                fields["snapshot"] = job.status.snapshot_id
            if (done := job.status.summary) is not None:
                fields["files"] = str(done.files_total)
                fields["processed"] = size(done.bytes_processed)
                fields["stored"] = size(done.bytes_stored)
                fields["seconds"] = f"{done.seconds:.1f}"
            if job.status.unreadable_count:
                fields["unreadable"] = str(job.status.unreadable_count)
                fields["paths"] = ", ".join(job.status.unreadable_paths)
            self.log.info("node job", **fields)

    async def hold(self, *, labels: dict[str, str]) -> None:
        """Keep the object from being removed before its end was seen to; labels come along."""
        held = self.raw["metadata"].get("finalizers") or []
        await self._patch_metadata({"finalizers": sorted({*held, FINALIZER}), "labels": labels})

    async def let_go(self) -> None:
        """The object may be removed."""
        held = self.raw["metadata"].get("finalizers") or []
        await self._patch_metadata({"finalizers": [name for name in held if name != FINALIZER]})

    async def _patch_metadata(self, metadata: dict[str, Any]) -> None:
        before = self.raw["metadata"]
        if merge(before, metadata) == before:
            return
        version = before["resourceVersion"]
        self.raw = await self.context.api.patch(
            BACKUPS,
            self.backup.name,
            {"metadata": {**metadata, "resourceVersion": version}},
            namespace=self.backup.metadata.namespace,
        )

    async def end(self, phase: BackupPhase, *, reason: str, message: str) -> None:
        """End a backup that leaves no manifest."""
        self.log.error("backup ended", phase=phase.value, reason=reason, message=message)
        begun = self.backup.status.phase in (BackupPhase.IN_PROGRESS, BackupPhase.FINALIZING)
        if begun and reason != "BackupExists":  # before that, the name is not ours
            await self._keep_log(phase, reason=reason, message=message)
        conditions = with_condition(
            self.backup.status.conditions,
            type="Succeeded",
            status=ConditionStatus.FALSE,
            reason=reason,
            message=message,
        )
        await self.patch(
            {
                "phase": phase.value,
                "message": message,
                "queuePosition": None,
                "completionTime": utcnow().isoformat(),
                "conditions": [c.to_dict() for c in conditions],
            }
        )
        await self.context.events.event(
            self.raw, reason=f"Backup{phase.value}", message=message, type="Warning"
        )

    async def _keep_log(self, phase: BackupPhase, *, reason: str, message: str) -> None:
        """Best effort: the store may be what the backup failed for."""
        try:
            async with asyncio.timeout(_LOG_SECONDS):
                location = await self.context.location(self.backup.status.location or "")
                await store.write_run(
                    location,
                    self.backup,
                    log=self.log.encode(),
                    results={"phase": phase.value, "reason": reason, "message": message},
                )
        except (AraratError, TimeoutError) as exc:
            self.log.warning("log not stored", error=str(exc))
