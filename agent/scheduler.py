"""Starts, stops and settles the jobs of this node.

Problem: jobs, pods, leaders and shutdown change at any time, in any order, and are seen late.
Decision: level, not edge: after every change (and every few seconds) all jobs are looked at as they
are, and what follows is decided by pure functions (agent/decide.py, agent/queue.py). Nothing but
the runs themselves is remembered; an agent that starts finds everything it needs in the API.
Stopping does not wait for that look: it is checked inside the watch's own callback, because a
terminating pod must be let go within a second.
Limits: one scheduler per node; two would meet at the claim, where the resource version decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.api.base import utcnow
from ararat.api.nodejob import JobPhase
from ararat.errors import AraratError
from ararat.human import size
from ararat.kube.api import KubeObject

from .book import Entry, JobBook
from .cache import free_bytes
from .context import AgentContext
from .decide import (
    End,
    Ignore,
    NodeJob,
    Start,
    Stop,
    Wait,
    log_fields,
    must_stop,
    next_step,
)
from .events import JobEvents
from .leaders import Leaders
from .metrics import AgentMetrics
from .progress import ProgressMeter
from .queue import JobKind, Limits, Plan, Waiting, expired, plan
from .record import JobLost, JobRecord
from .repository import sweep_after_death
from .runner import JobRun, Record, RunEnd

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 5.0
#: Between two sentences about a job that waits.
_SAY_SECONDS = 10.0
#: Phases of jobs that could run, and do not.
_IDLE = (JobPhase.NEW, JobPhase.HELD, JobPhase.RESERVED)


class Scheduler:
    """Runs until cancelled; ``drain`` first hands running jobs back."""

    def __init__(
        self,
        context: AgentContext,
        book: JobBook,
        *,
        leaders: Leaders,
        metrics: AgentMetrics,
        events: JobEvents,
        settled: Callable[[], None],
    ) -> None:
        self._context = context
        self._book = book
        self._leaders = leaders
        self._metrics = metrics
        self._events = events
        self._settled = settled
        self._poked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: dict[str, tuple[JobRun, Waiting]] = {}
        self._settling: set[str] = set()
        #: Phases that are being written for held jobs; the look takes them as written.
        self._marking: dict[str, JobPhase] = {}
        self._first_seen: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._said: dict[str, tuple[str, float]] = {}
        self._draining = False
        self.trouble: str | None = None
        self.ended = 0
        """Runs that have ended, however they did."""

    def poke(self) -> None:
        """Something changed: stop what must stop at once, look at the rest soon."""
        self._stop_runs()
        self._poked.set()

    def meter(self, uid: str) -> ProgressMeter | None:
        """Numbers of a job that runs now."""
        found = self._runs.get(uid)
        return found[0].meter if found else None

    def oldest_start(self) -> float | None:
        """When the oldest of the runs began, in seconds since 1970; None where nothing runs."""
        return min((run.started_at for run, _ in self._runs.values()), default=None)

    async def run(self) -> None:
        while True:
            self._poked.clear()
            if self._book.synced and not self._draining:
                try:
                    self._look()
                except Exception:  # noqa: BLE001 - the next look must come
                    _log.exception("scheduler.look_failed")
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._poked.wait()
            except TimeoutError:
                pass

    async def drain(self, seconds: float) -> None:
        """Starts nothing more, hands running jobs back, and waits for that."""
        self._draining = True
        for run, _ in self._runs.values():
            run.stop(Stop.SHUTDOWN)
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            _log.warning("scheduler.drain_incomplete", jobs=len(late))
            await asyncio.wait(late, timeout=2.0)

    # --- looking --------------------------------------------------------------------------------

    def _look(self) -> None:
        now = time.monotonic()
        entries = {entry.job.uid: entry for entry in self._book.entries()}
        for table in (self._first_seen, self._not_before, self._said):
            for stale in table.keys() - entries.keys():
                del table[stale]
        self._stop_runs()
        self.trouble = _disk_trouble(self._context)
        waiting: list[tuple[Waiting, Entry]] = []
        for uid, entry in entries.items():
            if uid in self._runs or uid in self._settling:
                continue
            if self._ready(entry, now):
                phase = self._marking.get(uid, entry.job.status.phase)
                waiting.append((_waiting(entry.job, phase), entry))
        self._leave_forming_groups(waiting, now)
        self._return_slots(waiting)
        self._act(waiting, now)

    def _ready(self, entry: Entry, now: float) -> bool:
        """Whether the job could start now; says why not, or settles it."""
        job = entry.job
        first = self._first_seen.setdefault(job.uid, now)
        follows = job.spec.follows if isinstance(job, PodVolumeRestore) else None
        step = next_step(
            job,
            self._book.pod(job),
            seen_seconds=now - first,
            leader=self._leaders.get(follows),
            leader_lost=self._leaders.lost(follows),
        )
        match step:
            case Ignore():
                return False
            case Wait(message=message):
                self._say(entry, message, now)
                return False
            case End() if job.uid in self._marking:
                return False
            case End():
                self._spawn(self._settle(entry, step), job)
                return False
            case Start():
                return self._not_before.get(job.uid, 0.0) <= now
        return False

    def _act(self, waiting: list[tuple[Waiting, Entry]], now: float) -> None:
        entries = {job.uid: entry for job, entry in waiting}
        chosen = Plan()
        if self.trouble is None:
            config = self._context.config
            chosen = plan(
                [job for job, _ in waiting],
                [job for _, job in self._runs.values()],
                Limits(node=config.concurrency, repository=config.repository_concurrency),
            )
        for job in chosen.start:
            if job.uid not in self._marking:
                self._launch(job, entries.pop(job.uid))
        for job in chosen.reserve:
            self._mark(entries[job.uid], _reserved())
        for job in chosen.hold:
            if entries[job.uid].job.status.phase is not JobPhase.HELD:
                self._mark(entries[job.uid], _held("Waits for slots for all volumes of its pod."))
        for uid, entry in entries.items():
            phase = self._marking.get(uid, entry.job.status.phase)
            if self.trouble is not None and phase in _IDLE:
                self._say(entry, self.trouble, now)
            elif phase is JobPhase.NEW and uid not in self._not_before:
                self._say(entry, "Waits for a free slot on its node.", now)
        self._count([job for job, _ in waiting if job.uid in entries])

    def _leave_forming_groups(self, waiting: list[tuple[Waiting, Entry]], now: float) -> None:
        """Takes out groups that may still be growing, and looks again when they are whole."""
        settle = self._context.config.group_settle_seconds
        since: dict[str, float] = {}
        for job, _ in waiting:
            if job.hold and not job.reserved:
                since[job.group] = max(since.get(job.group, 0.0), self._first_seen[job.uid])
        forming = {g: settle - (now - at) for g, at in since.items() if now - at < settle}
        if not forming:
            return
        waiting[:] = [
            (job, entry)
            for job, entry in waiting
            if job.reserved or not job.hold or job.group not in forming
        ]
        asyncio.get_running_loop().call_later(min(forming.values()), self._poked.set)

    def _return_slots(self, waiting: list[tuple[Waiting, Entry]]) -> None:
        """Takes back what nobody came for: a controller that died must not keep a node idle."""
        entries = {job.uid: entry for job, entry in waiting}
        limit = self._context.config.reserve_seconds
        since = {
            uid: (utcnow() - entry.job.status.reserved_time).total_seconds()
            for uid, entry in entries.items()
            if isinstance(entry.job, PodVolumeBackup)
            and entry.job.status.reserved_time is not None
            and uid not in self._marking
        }
        late = {job.uid for job in expired([job for job, _ in waiting], since, limit=limit)}
        for uid in late:
            message = f"Gave its slot back: it was not released within {limit:.0f} s."
            self._mark(entries[uid], _held(message, reason="ReservationExpired"))
        waiting[:] = [(job, entry) for job, entry in waiting if job.uid not in late]

    def _stop_runs(self) -> None:
        for run, _ in list(self._runs.values()):
            reason = must_stop(self._book.get(run.record.job), self._book.pod(run.record.job))
            if reason is not None:
                run.stop(reason)

    # --- acting ---------------------------------------------------------------------------------

    def _launch(self, job: Waiting, entry: Entry) -> None:
        pod = self._book.pod(entry.job)
        if pod is None:
            return
        run = JobRun(self._context, self._record(entry), pod)
        self._runs[job.uid] = (run, job)
        self._not_before.pop(job.uid, None)
        self._said.pop(job.uid, None)
        self._spawn(self._attend(run, job, pod), entry.job)

    async def _attend(self, run: JobRun, job: Waiting, pod: KubeObject) -> None:
        """One run from start to end, and what is said about it."""
        greeting = asyncio.create_task(self._events.started(run.record.job, pod))
        try:
            end = await run.execute()
        finally:
            self._book.remember(run.record.raw)
            self._runs.pop(job.uid, None)
            self.ended += 1
            self._settled()
            self._poked.set()
        if end.delay:
            self._not_before[job.uid] = time.monotonic() + end.delay
            asyncio.get_running_loop().call_later(end.delay, self._poked.set)
        self._measure(run, end)
        await greeting
        await self._events.ended(run.record.job, pod, end)

    def _mark(self, entry: Entry, status: dict[str, Any]) -> None:
        """Writes that a held job has slots, or has none."""
        if entry.job.uid not in self._marking:
            self._marking[entry.job.uid] = JobPhase(status["phase"])
            self._spawn(self._write_mark(entry, status), entry.job)

    async def _write_mark(self, entry: Entry, status: dict[str, Any]) -> None:
        record = self._record(entry)
        try:
            await record.update(status)
            _log.info("job.marked", phase=status["phase"], group=record.raw["spec"].get("group"))
        except JobLost as error:
            _log.info("job.lost", cause=error.message)
        except AraratError as error:
            _log.error("job.not_written", reason=error.reason, cause=error.message)
        finally:
            self._book.remember(record.raw)
            self._marking.pop(entry.job.uid, None)
            self._poked.set()

    async def _settle(self, entry: Entry, step: End) -> None:
        """Ends a job that never ran here."""
        record = self._record(entry)
        self._settling.add(entry.job.uid)
        try:
            if entry.job.status.phase is JobPhase.IN_PROGRESS:
                await sweep_after_death(self._context, entry.job)
            await record.update(
                {
                    "phase": step.phase.value,
                    "reason": str(step.reason),
                    "message": step.message,
                    "completionTime": utcnow().isoformat(),
                }
            )
            _log.info("job.settled", phase=step.phase.value, reason=str(step.reason))
        except JobLost as error:
            _log.info("job.lost", cause=error.message)
            return
        except AraratError as error:
            _log.error("job.not_written", reason=error.reason, cause=error.message)
            return
        finally:
            self._book.remember(record.raw)
            self._settling.discard(entry.job.uid)
            self._settled()
            self._poked.set()
        end = RunEnd(phase=step.phase, reason=str(step.reason), message=step.message)
        self._metrics.ended(
            kind=kind_of(entry.job).value, phase=step.phase.value, reason=end.reason, seconds=0.0
        )
        await self._events.ended(entry.job, self._book.pod(entry.job), end)

    def _say(self, entry: Entry, message: str, now: float) -> None:
        """Puts why a job waits into its status, not too often."""
        uid = entry.job.uid
        text, at = self._said.get(uid, (entry.job.status.message or "", -_SAY_SECONDS))
        if text == message or now - at < _SAY_SECONDS:
            return
        self._said[uid] = (message, now)
        self._spawn(self._write_message(entry, message), entry.job)

    async def _write_message(self, entry: Entry, message: str) -> None:
        record = self._record(entry)
        try:
            if await record.try_update({"message": message}):
                self._book.remember(record.raw)
        except AraratError as error:
            _log.info("job.message_not_written", cause=error.message)

    def _record(self, entry: Entry) -> Record:
        if isinstance(entry.job, PodVolumeBackup):
            return JobRecord(self._context.api, PodVolumeBackup, entry.raw)
        return JobRecord(self._context.api, PodVolumeRestore, entry.raw)

    def _spawn(self, work: Coroutine[Any, Any, None], job: NodeJob) -> None:
        """A task whose log lines name the job, and whose failure ends nothing else."""

        async def guarded() -> None:
            structlog.contextvars.bind_contextvars(**log_fields(job))
            try:
                await work
            except Exception:  # noqa: BLE001 - a job must not take the agent down
                _log.exception("job.task_failed")

        task = asyncio.create_task(guarded(), name=f"{job.KIND} {job.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- measuring ------------------------------------------------------------------------------

    def _count(self, waiting: list[Waiting]) -> None:
        for kind in JobKind:
            self._metrics.running.labels(kind.value).set(
                sum(job.kind is kind for _, job in self._runs.values())
            )
            self._metrics.queued.labels(kind.value).set(sum(job.kind is kind for job in waiting))
        self._metrics.reserved.set(sum(job.reserved for job in waiting))
        oldest = min((job.created for job in waiting), default=None)
        self._metrics.oldest.set((utcnow() - oldest).total_seconds() if oldest else 0.0)

    def _measure(self, run: JobRun, end: RunEnd) -> None:
        if end.phase is None:
            return
        kind = kind_of(run.record.job).value
        self._metrics.ended(
            kind=kind, phase=end.phase.value, reason=end.reason, seconds=end.seconds
        )
        if end.phase is not JobPhase.COMPLETED:
            return
        job = run.record.job
        if isinstance(job, PodVolumeBackup) and job.status.summary is not None:
            self._metrics.bytes.labels("read").inc(job.status.summary.bytes_processed)
            self._metrics.bytes.labels("added").inc(job.status.summary.bytes_added)
            self._metrics.bytes.labels("stored").inc(job.status.summary.bytes_stored)
            self._metrics.unreadable.inc(job.status.unreadable_count)
        elif isinstance(job, PodVolumeRestore) and job.status.summary is not None:
            self._metrics.bytes.labels("restored").inc(job.status.summary.bytes_restored)


def kind_of(job: NodeJob) -> JobKind:
    return JobKind.BACKUP if isinstance(job, PodVolumeBackup) else JobKind.RESTORE


def _waiting(job: NodeJob, phase: JobPhase) -> Waiting:
    """The job as the queue sees it; ``phase`` as it is or is being written."""
    claim = job.spec.claim
    if claim is not None:
        subject = f"claim {job.spec.pod.namespace}/{claim.name}"
    else:
        subject = f"pod {job.spec.pod.uid}/{job.spec.volume}"
    created = job.metadata.creation_timestamp or utcnow()
    group, hold = "", False
    if isinstance(job, PodVolumeBackup):
        hold = job.spec.hold
        # One name may be used by two Backups; a held job without a group is one by itself.
        group = f"{job.spec.backup_uid}/{job.spec.group}" if job.spec.group else job.uid
        if phase is JobPhase.HELD and job.status.reserved_time is not None:
            # It had its turn and did not use it: to the end of the queue.
            created = max(created, job.status.reserved_time)
    return Waiting(
        uid=job.uid,
        name=job.name,
        kind=kind_of(job),
        created=created,
        repository=f"{job.spec.repository.location}/{job.spec.repository.directory}",
        subject=subject,
        group=group,
        hold=hold,
        reserved=phase is JobPhase.RESERVED,
    )


def _reserved() -> dict[str, Any]:
    return {
        "phase": JobPhase.RESERVED.value,
        "reservedTime": utcnow().isoformat(),
        "reason": None,
        "message": "Its slot is kept; it starts as soon as it is released.",
    }


def _held(message: str, *, reason: str | None = None) -> dict[str, Any]:
    return {"phase": JobPhase.HELD.value, "reason": reason, "message": message}


def _disk_trouble(context: AgentContext) -> str | None:
    """Why this node's disk allows no further job: a full disk would get the node evicted."""
    config = context.config
    try:
        free = free_bytes(config.cache_dir)
    except OSError as error:
        return f"The cache directory {config.cache_dir} is unusable: {error.strerror}."
    if free >= config.minimum_free_bytes:
        return None
    return (
        f"Node {config.node} has {size(free)} left in {config.cache_dir}, and keeps "
        f"{size(config.minimum_free_bytes)} free: no new job starts there."
    )
