"""Backups, reconciled: every look at one does the next thing that is missing.

Problem: the controller may be killed at any line, and a backup must end as it would have.
Decision: what was decided stands outside this process before anything follows from it: the claimed
name and the plan in the location, node jobs under derived names, the objects' snapshot in status,
the manifest create-only. Each look at a backup reads those and goes on. Only the collection of API
objects runs beside (it may take minutes); if it is lost with the process it is done again.
Limits: of the log, the last seconds before a kill are lost (see keptlog).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from pydantic import ValidationError

from ararat import layout
from ararat.api import Backup
from ararat.api.backup import BackupPhase
from ararat.api.base import utcnow
from ararat.api.names import FINALIZER
from ararat.api.nodejob import JobPhase
from ararat.concurrency import for_each
from ararat.errors import AraratError, NotFound, OutOfSpace, Retryable
from ararat.human import plural
from ararat.kube.errors import ApiConflict
from ararat.kube.status import patch_status
from controller.backup import finalize, store
from controller.backup.begin import (
    CREATE_IN_ONE_LOOK,
    begin,
    create_jobs_of,
    location_name,
    missing_jobs,
)
from controller.backup.hooks.driver import HookDriver, Standing
from controller.backup.jobs import job_name
from controller.backup.jobtable import JobTable
from controller.backup.moving import LOOK_SECONDS, follow_moves
from controller.backup.objects import ObjectsOutcome, store_objects
from controller.backup.outcome import STATUS_LIMIT
from controller.backup.plan import BackupPlan
from controller.backup.run import BACKUPS, JOBS, Look, Memory
from controller.backup.unmounted import follow_helpers
from controller.backup.volumes import PlannedVolume
from controller.context import Context
from controller.location.open import OpenLocation, first_error
from controller.location.sync import awaits_status

#: Node jobs are kept this long after the manifest that carries their result was read back.
_KEEP_JOBS_SECONDS = 3600.0
#: Status writes of one backup are at least this far apart, in seconds.
_PROGRESS_SECONDS = 2.0
#: A look without an event, in seconds: for deadlines that no event announces.
_IDLE_SECONDS = 30.0
#: Until the cache must have caught up, should its event not bring the backup up sooner.
_BEHIND_SECONDS = 1.0
#: How long errors that may pass are waited for before a backup has begun.
_BEGIN_SECONDS = 30.0
#: Requests about node jobs on their way at once.
_AT_ONCE = 16
log = structlog.get_logger("controller.backup")


class BackupReconciler:
    """Keys are ``namespace/name``. ``tasks`` must outlive the reconciler's workers."""

    def __init__(
        self, context: Context, *, tasks: asyncio.TaskGroup, enqueue: Callable[[str], None]
    ) -> None:
        self._context = context
        self._tasks = tasks
        self._enqueue = enqueue
        #: By key; of backups that have not ended.
        self._memories: dict[str, Memory] = {}
        context.pod_volume_backups.on_change(self._note_job)
        self._hooks = HookDriver(context, tasks=tasks, enqueue=enqueue)
        tasks.create_task(self._hooks.watch())

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        raw = self._context.backups.get(name, namespace)
        if raw is None:
            self._forget(key)
            return None
        try:
            backup = Backup.parse(raw)
        except ValidationError as exc:
            self._forget(key)
            return await self._fail_invalid(raw, first_error(exc))
        if awaits_status(backup):
            return None  # found in a location, and not to be made: sync says in a moment what it is
        look = self._look(key, raw, backup)
        if look.memory.ahead_of(backup.status.phase):
            return _BEHIND_SECONDS
        if backup.status.phase.terminal:
            self._forget(key)
            return await self._after(look)
        try:
            wait = await self._advance(look)
        except ApiConflict:
            raise  # the cache is a moment behind: look again
        except Retryable as exc:
            return await self._retry_or_fail(look, exc)
        except AraratError as exc:
            await look.end(BackupPhase.FAILED, reason=exc.reason, message=exc.message)
            return None
        if not look.memory.objects_failed:
            look.memory.failing_since = None
        return wait

    def _note_job(self, change: str, job: dict[str, Any], old: dict[str, Any] | None) -> None:
        """A node job changed, came or went: its backup reads it again at its next look."""
        del old
        metadata = job["metadata"]
        memory = self._memories.get(f"{metadata.get('namespace')}/{job['spec'].get('backup')}")
        if memory is not None:
            memory.jobs.touch(metadata["name"])
            if change == "deleted":
                memory.made.pop(metadata["name"], None)  # by somebody else: it is made again

    def _look(self, key: str, raw: dict[str, Any], backup: Backup) -> Look:
        phase = backup.status.phase
        resumed = phase in (BackupPhase.IN_PROGRESS, BackupPhase.FINALIZING)
        memory = self._memories.get(key)
        if memory is None or memory.uid != backup.uid:
            self._forget(key)
            memory = self._memories[key] = Memory(uid=backup.uid)
        return Look(
            context=self._context,
            raw=raw,
            backup=backup,
            memory=memory,
            log=self._context.logs.of(
                kind="Backup", name=backup.name, uid=backup.uid, resumed=resumed
            ),
        )

    def _forget(self, key: str) -> None:
        """End what still runs for a backup that has ended, or is gone, or is another by now."""
        memory = self._memories.pop(key, None)
        if memory is None:
            return
        if memory.objects is not None:
            memory.objects.cancel()
        self._context.logs.drop(memory.uid)

    def _beginning(self, key: str) -> dict[str, frozenset[str]]:
        """The namespaces of the other backups that this process began."""
        return {
            other.partition("/")[2]: memory.namespaces
            for other, memory in self._memories.items()
            if other != key and memory.namespaces
        }

    async def _advance(self, look: Look) -> float | None:
        backup = look.backup
        if backup.status.phase in (BackupPhase.NEW, BackupPhase.QUEUED):
            if look.cancelled:
                await look.end(
                    BackupPhase.CANCELLED, reason="Cancelled", message="cancelled before it began"
                )
                return None
            key = f"{backup.metadata.namespace}/{backup.name}"
            try:
                return await begin(look, beginning=lambda: self._beginning(key))
            except BaseException:
                look.memory.namespaces = frozenset()
                raise
        location = await self._context.location(location_name(self._context, backup))
        kept, log_blob = look.memory.kept_log, layout.backup_log(backup.name)
        await kept.read(location.store, log_blob, look.log, uid=backup.uid)
        if look.cancelled or not look.memory.uncommitted:
            manifest = await store.committed(location, backup)
            if manifest is not None:
                await finalize.finish(look, manifest)
                return None
            look.memory.uncommitted = True
        plan = look.memory.plan or await store.read_plan(location, backup)
        if plan is None:
            raise NotFound(
                f"the plan of backup {backup.name} is no longer in location {location.name}: "
                "make a new backup",
                reason="PlanMissing",
            )
        look.memory.plan = plan
        if look.cancelled:
            return await self._cancel(look, plan)
        wait = await self._follow(look, location, plan)
        if look.memory.phase is None or not look.memory.phase.terminal:
            await kept.keep(location.store, log_blob, look.log)
        return wait

    async def _follow(self, look: Look, location: OpenLocation, plan: BackupPlan) -> float | None:
        jobs = look.jobs()
        look.note_changes(jobs)
        to_make = missing_jobs(look, plan, jobs)
        if to_make:
            await create_jobs_of(look, location, to_make[:CREATE_IN_ONE_LOOK])
        missing = to_make is not None
        wait = await self._fail_orphans(look, jobs)
        hooks = await self._step_hooks(look, plan, ending=False)
        wait = _sooner(wait, hooks.wait)

        async def make_job(volume: PlannedVolume) -> None:
            await create_jobs_of(look, location, [volume])

        helped = await follow_helpers(look, plan, jobs, make_job=make_job)
        moving = await follow_moves(look, plan, jobs, make_job=make_job)
        wait = _sooner(wait, LOOK_SECONDS if moving else None)
        await self._objects(look, location, plan)
        finished = not missing and not moving and not jobs.busy_nodes()
        if finished and hooks.done and look.backup.status.objects is not None:
            await look.patch({"phase": BackupPhase.FINALIZING.value, "message": None})
            look.memory.uncommitted = False
            records = self._hooks.records(look.backup.uid)
            manifest = await finalize.commit(look, location, plan, jobs, hooks=records)
            await finalize.finish(look, manifest)
            return None
        if to_make and len(to_make) > CREATE_IN_ONE_LOOK:
            return 0.0
        now = time.monotonic()
        if now - look.memory.last_progress < _PROGRESS_SECONDS:
            return _PROGRESS_SECONDS
        look.memory.last_progress = now
        progress, status, counts = jobs.progress, look.backup.status, hooks.counts
        message = "volumes are done; storing API objects" if finished else None
        if finished and not hooks.done:
            message = "volumes are done; running post hooks"
        if moving and not jobs.busy_nodes():
            message = f"waits for a pod in place of {moving[0].pod.namespace}/{moving[0].pod.name}"
        if (progress, message, counts) != (status.progress, status.message, status.hooks):
            shown = counts.to_dict() if counts else None
            await look.patch({"progress": progress.to_dict(), "message": message, "hooks": shown})
        if missing and helped is None:
            return _PROGRESS_SECONDS
        return _sooner(_sooner(wait, helped), _IDLE_SECONDS)

    async def _step_hooks(self, look: Look, plan: BackupPlan, *, ending: bool) -> Standing:
        """Pods that are to be frozen or let go now; see controller.backup.hooks."""
        backup = look.backup

        def jobs() -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for volume in plan.volumes:
                if volume.group:
                    found.setdefault(volume.group, []).append(job_name(backup, volume))
            return found

        return await self._hooks.step(
            name=backup.name,
            uid=backup.uid,
            log=look.log,
            planned=plan.hooks,
            jobs=jobs,
            hooks=backup.spec.hooks,
            ending=ending,
        )

    async def _objects(self, look: Look, location: OpenLocation, plan: BackupPlan) -> None:
        """Start the collection of API objects, or take its result into status."""
        memory, backup = look.memory, look.backup
        if backup.status.objects is not None:
            return
        if memory.objects is None:
            key = f"{backup.metadata.namespace}/{backup.name}"
            work = store_objects(self._context, location, backup, plan, look.log)
            memory.objects = self._tasks.create_task(_outcome_or_error(work))
            memory.objects.add_done_callback(lambda _: self._enqueue(key))
            return
        if not memory.objects.done():
            return
        if memory.objects.cancelled():
            memory.objects = None  # a cancel that was taken back
            return
        outcome = memory.objects.result()
        memory.objects_failed = isinstance(outcome, Retryable)
        if isinstance(outcome, AraratError):
            memory.objects = None  # begin anew, should the error be one to retry
            raise outcome
        findings = store.Findings(
            backup_uid=backup.uid,
            failures=outcome.failures,
            warnings=[*plan.warnings, *outcome.warnings],
        )
        # In full before status says that there are objects: whoever goes on finds both, or none.
        await store.write_findings(location, backup, findings)
        await look.patch(
            {
                "objects": outcome.result.to_dict(),
                "failures": [f.to_dict() for f in outcome.failures[:STATUS_LIMIT]],
                "failureCount": len(outcome.failures),
                "warnings": [*plan.warnings, *outcome.warnings][:STATUS_LIMIT],
            }
        )
        # The cache shows it in a moment, and that brings this backup back here.

    async def _cancel(self, look: Look, plan: BackupPlan) -> float | None:
        jobs = look.jobs()
        look.note_changes(jobs)
        if look.memory.objects is not None:
            look.memory.objects.cancel()
        running = await self._end_jobs(jobs)
        hooks = await self._step_hooks(look, plan, ending=True)
        if running or not hooks.done:
            wait = _sooner(await self._fail_orphans(look, jobs), hooks.wait)
            doing = f"cancelling {plural(running, 'node job')}"
            await look.patch({"message": doing if running else "cancelled; running post hooks"})
            return wait if wait is not None else _IDLE_SECONDS
        await look.end(
            BackupPhase.CANCELLED,
            reason="Cancelled",
            message="cancelled; nothing of it is offered for restore",
        )
        return None

    async def _end_jobs(self, jobs: JobTable) -> int:
        """Ask the agents to end what runs; returns how many that are."""
        running = jobs.unfinished()

        async def end(name: str) -> None:
            if not jobs[name].spec.cancel:
                with contextlib.suppress(NotFound):
                    await self._context.api.patch(
                        JOBS, name, {"spec": {"cancel": True}}, namespace=self._context.namespace
                    )

        await for_each(running, end, at_once=_AT_ONCE)
        return len(running)

    async def _fail_orphans(self, look: Look, jobs: JobTable) -> float | None:
        agents = self._context.agent_readiness()
        failed, wait = look.memory.watchdog.overdue(jobs.busy_nodes(), agents, now=time.monotonic())
        for node, message in failed.items():
            for name in jobs.unfinished_on(node):
                raw = self._context.pod_volume_backups.get(name, self._context.namespace)
                if raw is not None:
                    await patch_status(
                        self._context.api,
                        JOBS,
                        raw,
                        {
                            "phase": JobPhase.FAILED.value,
                            "reason": "NoAgent",
                            "message": message,
                            "completionTime": utcnow().isoformat(),
                        },
                        resource_version=raw["metadata"]["resourceVersion"],
                    )
        return wait

    async def _retry_or_fail(self, look: Look, error: Retryable) -> float | None:
        now = time.monotonic()
        memory = look.memory
        memory.failing_since = memory.failing_since or now
        patience = float(look.backup.spec.deadlines.no_progress_seconds)
        if look.backup.status.phase in (BackupPhase.NEW, BackupPhase.QUEUED):
            # Little was begun, so there is little to wait for: a person reads why within a minute,
            # and one disturbance does not cost a backup.
            patience = _BEGIN_SECONDS
        if now - memory.failing_since > patience:
            await look.end(BackupPhase.FAILED, reason=error.reason, message=error.message)
            return None
        look.log.warning("will try again", reason=error.reason, message=error.message)
        await look.patch({"message": f"will try again: {error.message}"})
        raise error  # the work queue backs off

    async def _fail_invalid(self, raw: dict[str, Any], message: str) -> float | None:
        metadata = raw["metadata"]
        if (raw.get("status") or {}).get("phase") != BackupPhase.FAILED.value:
            status = {
                "phase": BackupPhase.FAILED.value,
                "message": message,
                "completionTime": utcnow().isoformat(),
            }
            await patch_status(self._context.api, BACKUPS, raw, status)
        elif FINALIZER in (held := metadata.get("finalizers") or []):
            # It was changed while it ran. Nobody else could let it go, or end its jobs.
            found = self._context.pod_volume_backups.by_index("backup-uid", metadata["uid"])
            jobs = JobTable()
            jobs.read(lambda: found, lambda _: None)
            await self._end_jobs(jobs)
            wait = await self._hooks.settle(metadata["uid"], name=metadata["name"])
            if wait is not None:
                return wait
            kept = [name for name in held if name != FINALIZER]
            await self._context.api.patch(
                BACKUPS,
                metadata["name"],
                {
                    "metadata": {
                        "finalizers": kept,
                        "resourceVersion": metadata["resourceVersion"],
                    }
                },
                namespace=metadata["namespace"],
            )
        return None

    async def _after(self, look: Look) -> float | None:
        """A backup that has ended: let go of it, and of its jobs an hour later."""
        await self._end_jobs(look.jobs())
        if FINALIZER in look.backup.metadata.finalizers:
            wait = await self._hooks.settle(look.backup.uid, name=look.backup.name, log=look.log)
            if wait is not None:
                return wait
            await self._context.drop_password_secrets(look.backup)
            await look.let_go()
        jobs, ended = look.jobs(), look.backup.status.completion_time
        if not jobs or ended is None:
            return None
        left = _KEEP_JOBS_SECONDS - (utcnow() - ended).total_seconds()
        if left > 0:
            return left

        async def delete(name: str) -> None:
            await self._context.api.delete(JOBS, name, namespace=self._context.namespace)

        await for_each(list(jobs), delete, at_once=_AT_ONCE)
        return None


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((wait for wait in (one, other) if wait is not None), default=None)


async def _outcome_or_error(work: Awaitable[ObjectsOutcome]) -> ObjectsOutcome | AraratError:
    """An error as a value: one backup's trouble must not end the task group all work runs in."""
    try:
        return await work
    except AraratError as exc:
        return exc
    except OSError as exc:
        text = f"the API objects could not be laid out for storing: {exc.strerror or exc}"
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        return OutOfSpace(text) if full else AraratError(text, reason="SpoolFailed")
    except Exception as exc:
        log.exception("objects crashed")
        return AraratError(f"the API objects could not be stored: {type(exc).__name__} (a bug)")
