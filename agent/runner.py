"""One run of one job: claimed, attended, ended.

Problem: whatever happens to restic, the store, the API or the agent, a job ends in exactly one of:
Completed, Failed, Cancelled, or handed back as New; and the restic process is gone before that is
written.
Decision: the body (agent/backup_job.py, agent/restore_job.py) is a task of its own; stopping means
cancelling that task and waiting for it, while the run itself goes on to write the end. Beside it an
attendant publishes progress at most every two seconds, says that it lives every thirty, says when a
body stands still, and stops one that has not moved for the job's deadline.
Limits: what follows from a failure is decided in agent/attempts.py, when to stop in decide.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.api.base import utcnow
from ararat.api.nodejob import STALLED, JobPhase, NodeJobStatus, PodVolumeBackupStatus, RestoreMode
from ararat.errors import AraratError

from . import attempts
from .backup_job import back_up
from .context import AgentContext, Run
from .decide import NodeJob, Stop, log_fields
from .in_place_job import restore_in_place
from .progress import ProgressMeter
from .queue import JobKind
from .record import JobLost, JobRecord
from .restore_job import fill
from .restore_result import FilesNotRestored

_log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_UNWRITTEN_DELAY = 60.0
_STALLED_TEXT = (
    "Nothing has moved for a while: the store or the volume does not answer, or is very slow."
)

Record = JobRecord[PodVolumeBackup] | JobRecord[PodVolumeRestore]


@dataclass(frozen=True)
class RunEnd:
    """How a run ended. ``phase`` None: nothing was written, the job is not ours any more."""

    phase: JobPhase | None
    reason: str | None = None
    message: str | None = None
    delay: float = 0.0
    seconds: float = 0.0


class JobRun:
    """From claim to end; ``execute`` is called once."""

    def __init__(
        self,
        context: AgentContext,
        record: Record,
        pod: Mapping[str, Any],
    ) -> None:
        self.context = context
        self.record = record
        self.meter = ProgressMeter()
        self.kind = JobKind.BACKUP if isinstance(record.job, PodVolumeBackup) else JobKind.RESTORE
        self._pod = pod
        self._run = Run(meter=self.meter, say=self._say, record=record.update)
        self._body: asyncio.Task[dict[str, Any]] | None = None
        self._stop: Stop | None = None
        self._message: str | None = None
        self.started_at = time.time()

    def stop(self, reason: Stop) -> None:
        """Ends the body soon; the first reason counts, and none once the body has ended."""
        if self._stop is not None or (self._body is not None and self._body.done()):
            return
        self._stop = reason
        # Said by whoever saw the reason, outside the run's own task.
        _log.info("job.stop", reason=reason.value, **log_fields(self.record.job))
        if self._body is not None:
            self._body.cancel()

    async def execute(self) -> RunEnd:
        """Runs the job; raises nothing but CancelledError."""
        begun = time.monotonic()
        try:
            end = await self._execute()
        except JobLost as error:
            _log.info("job.lost", cause=error.message)
            end = RunEnd(phase=None, reason=error.reason, message=error.message)
        except AraratError as error:
            # The status itself could not be written. The job stays InProgress, and is adopted.
            _log.error("job.not_written", reason=error.reason, cause=error.message)
            end = RunEnd(
                phase=None, reason=error.reason, message=error.message, delay=_UNWRITTEN_DELAY
            )
        return RunEnd(
            phase=end.phase,
            reason=end.reason,
            message=end.message,
            delay=end.delay,
            seconds=time.monotonic() - begun,
        )

    async def _execute(self) -> RunEnd:
        before = await self._claim()
        if isinstance(before, RunEnd):
            return before
        if self._stop is not None:
            return await self._stopped(self._stop, before)
        self._body = asyncio.create_task(self._work(), name=f"body {self.record.job.name}")
        attendant = asyncio.create_task(self._attend(), name=f"attend {self.record.job.name}")
        try:
            status = await self._body
        except asyncio.CancelledError:
            if self._stop is None:
                raise
            return await self._stopped(self._stop, before)
        except JobLost:
            raise
        except AraratError as error:
            if self._stop is not None:
                return await self._stopped(self._stop, before)
            return await self._failed(error, before)
        except Exception:  # noqa: BLE001 - whatever it is, the job must end, and say so
            _log.exception("job.crashed")
            crash = AraratError("The agent met an error of its own; its log has the details.")
            return await self._failed(crash, before)
        finally:
            attendant.cancel()
            await asyncio.gather(attendant, return_exceptions=True)
        if self._stop in (Stop.DELETED, Stop.TAKEN):
            return RunEnd(phase=None, reason=self._stop)
        return await self._completed(status)

    async def _claim(self) -> NodeJobStatus | RunEnd:
        """Makes the job ours; its status from before, with an attempt counted where one ended."""
        job = self.record.job
        status: NodeJobStatus = job.status
        self._run.again = status.start_time is not None
        changes: dict[str, Any] = {}
        if isinstance(job, PodVolumeBackup):
            changes["stored"] = None
        if status.phase is JobPhase.IN_PROGRESS:
            # It ran in an agent that is no more: that one had no time to hand it back.
            outcome = attempts.count(
                status,
                reason="AgentRestarted",
                message=f"The agent on {job.spec.node} ended while it ran.",
                stored=isinstance(status, PodVolumeBackupStatus) and status.stored,
                now=utcnow(),
            )
            if isinstance(outcome, attempts.Final):
                return await self._final(outcome)
            changes["attempts"] = outcome.attempts
            changes["conditions"] = _dump(outcome.conditions)
        now = utcnow().isoformat()
        await self.record.update(
            {
                "phase": JobPhase.IN_PROGRESS.value,
                "startTime": (status.start_time or utcnow()).isoformat(),
                "heartbeatTime": now,
                "message": None,
                "reason": None,
                "attempts": status.attempts,
                **changes,
            }
        )
        _log.info("job.started", attempts=self.record.job.status.attempts)
        claimed: NodeJobStatus = self.record.job.status
        return claimed

    async def _work(self) -> dict[str, Any]:
        job = self.record.job
        if isinstance(job, PodVolumeBackup):
            return await back_up(self.context, job, self._pod, self._run)
        if job.spec.mode is RestoreMode.IN_PLACE:
            return await restore_in_place(
                self.context, job, self._pod, self._run, mark_written=self._mark_written
            )
        return await fill(self.context, job, self._pod, self._run, mark_written=self._mark_written)

    async def _mark_written(self) -> None:
        await self.record.update({"wrote": True})

    def _say(self, message: str) -> None:
        self._message = message

    async def _attend(self) -> None:
        deadline = float(self.record.job.spec.no_progress_seconds)
        published: tuple[object, ...] = ()
        last = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self.meter.idle_seconds() > deadline:
                self.stop(Stop.NO_PROGRESS)
                return
            now = time.monotonic()
            stalled = self.meter.idle_seconds() > self.context.config.stalled_seconds
            message = self._message or (_STALLED_TEXT if stalled else None)
            current = (self.meter.snapshot(), message, self._run.stored(), stalled)
            pause = (
                HEARTBEAT_SECONDS if current == published else self.context.config.progress_seconds
            )
            if now - last < pause:
                continue
            try:
                written = await self.record.try_update(
                    {
                        "heartbeatTime": utcnow().isoformat(),
                        "progress": current[0].to_dict(),
                        "reason": STALLED if stalled else None,
                        "message": message,
                        **({"stored": True} if current[2] else {}),
                    }
                )
            except JobLost:
                self.stop(Stop.TAKEN)
                return
            except AraratError as error:
                _log.warning("job.progress_not_written", cause=error.message)
                written = False
            last = now
            if written:
                published = current

    async def _completed(self, status: dict[str, Any]) -> RunEnd:
        now = utcnow().isoformat()
        await self.record.update({**status, "completionTime": now, "heartbeatTime": now})
        _log.info("job.completed", bytes=self._run.bytes_read)
        return RunEnd(phase=JobPhase.COMPLETED, message=status.get("message"))

    async def _failed(self, error: AraratError, before: NodeJobStatus) -> RunEnd:
        _log.warning("job.failed", reason=error.reason, cause=error.message, error=repr(error))
        extra = error.status if isinstance(error, FilesNotRestored) else {}
        outcome = attempts.after_failure(
            before,
            error,
            stored=self._run.stored(),
            now=utcnow(),
            first_delay=self.context.config.retry_seconds,
        )
        if isinstance(outcome, attempts.Final):
            return await self._final(outcome, extra)
        return await self._again(outcome, extra)

    async def _stopped(self, stop: Stop, before: NodeJobStatus) -> RunEnd:
        _log.info("job.let_go", reason=stop.value)
        node, pod = self.record.job.spec.node, self.record.job.spec.pod
        if stop in (Stop.DELETED, Stop.TAKEN):
            return RunEnd(phase=None, reason=stop)
        if stop is Stop.SHUTDOWN:
            message = f"Handed back: the agent on {node} is shutting down; the next one goes on."
            await self.record.update(
                {"phase": JobPhase.NEW.value, "reason": None, "message": message}
            )
            return RunEnd(phase=JobPhase.NEW, reason=stop, message=message)
        if stop is Stop.NO_PROGRESS:
            seconds = self.record.job.spec.no_progress_seconds
            outcome = attempts.count(
                before,
                reason=stop,
                message=f"Nothing moved for {seconds} s.",
                stored=self._run.stored(),
                now=utcnow(),
                first_delay=self.context.config.retry_seconds,
            )
            if isinstance(outcome, attempts.Final):
                return await self._final(outcome)
            return await self._again(outcome)
        phase, message = {
            Stop.CANCELLED: (JobPhase.CANCELLED, _cancelled(self.record.job)),
            Stop.POD_TERMINATING: (
                JobPhase.FAILED,
                f"Pod {pod.namespace}/{pod.name} began to terminate; its volume was let go.",
            ),
            Stop.POD_ENDED: (JobPhase.FAILED, f"Pod {pod.namespace}/{pod.name} ended."),
            Stop.GATE_OPEN: (
                JobPhase.FAILED,
                f"The gate of pod {pod.namespace}/{pod.name} was opened by somebody else.",
            ),
        }[stop]
        return await self._final(
            attempts.Final(
                phase=phase,
                attempts=before.attempts,
                conditions=before.conditions,
                reason=stop,
                message=message,
            )
        )

    async def _final(
        self, outcome: attempts.Final, extra: Mapping[str, Any] | None = None
    ) -> RunEnd:
        await self.record.update(
            {
                **(extra or {}),
                "phase": outcome.phase.value,
                "reason": str(outcome.reason),
                "message": outcome.message,
                "attempts": outcome.attempts,
                "conditions": _dump(outcome.conditions),
                "completionTime": utcnow().isoformat(),
            }
        )
        return RunEnd(phase=outcome.phase, reason=str(outcome.reason), message=outcome.message)

    async def _again(
        self, outcome: attempts.Again, extra: Mapping[str, Any] | None = None
    ) -> RunEnd:
        message = f"{outcome.message} It is tried again in {outcome.delay:.0f} s."
        await self.record.update(
            {
                **(extra or {}),
                "phase": JobPhase.NEW.value,
                "reason": str(outcome.reason),
                "message": message,
                "attempts": outcome.attempts,
                "conditions": _dump(outcome.conditions),
            }
        )
        return RunEnd(
            phase=JobPhase.NEW,
            reason=str(outcome.reason),
            message=message,
            delay=outcome.delay,
        )


def _dump(conditions: list[Any]) -> list[dict[str, Any]]:
    return [condition.to_dict() for condition in conditions]


def _cancelled(job: NodeJob) -> str:
    if isinstance(job, PodVolumeBackup):
        return "Cancelled; what was stored stays."
    if job.status.wrote:
        return "Cancelled; the volume holds a part of its data."
    return "Cancelled; nothing was written."
