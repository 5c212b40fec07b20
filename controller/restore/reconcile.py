"""Restores, reconciled: every look at one does the next thing that is missing.

Problem: a restore must end, in the same state, whatever is killed in between; and while it waits
it must say for what.
Decision: what is done stands in the cluster: objects carry the restore's label, claims the mark
that they are owed data, node jobs have derived names, status says which half is over. Each look
reads those and goes on. New → InProgress (objects, then volumes) → Finalizing → its end. Before
InProgress nothing has been touched, so whatever is wrong until then is Failed with one sentence.
An API or a store that is away for the deadline, or anything else that cannot be got over, ends it
as PartiallyFailed, and a retry goes on; one that had not begun begins anew.
A volume that nothing happens to for the deadline is a failure, and the restore ends; its claim
stays marked and its pods stay held, and a pod that can go on later is still served, for as long as
the Restore exists. A cancel stops the jobs, and leaves pods held.
Limits: several restores run side by side; each runs its objects in one look, so as many restores
as there are workers are in that half at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from ararat.api import Restore
from ararat.api.backup import Failure
from ararat.api.base import utcnow
from ararat.api.names import GATE_RESTORE
from ararat.api.restore import RestorePhase
from ararat.errors import AraratError, InvalidSpec, Retryable
from ararat.human import plural
from ararat.kube.errors import ApiConflict, ApiNotFound
from ararat.kube.status import patch_status
from controller.context import Context
from controller.location.open import OpenLocation, first_error

from . import in_place, results, source
from .aftercare import Aftercare
from .begin import TERMINATING_SECONDS, load, plan, survey, terminating
from .cancel import stop_jobs
from .dry_run import dry_run
from .filling import step
from .helpers import remove_idle
from .hooks.driver import RestoreHookDriver, unfilled
from .hooks.outcome import Standing, lines, standing
from .letting_go import release_named
from .objects import restore_objects
from .progress import (
    STATUS_LIMIT,
    WAITING_LIMIT,
    Volumes,
    final_message,
    running_message,
    sum_volumes,
)
from .release import release_namespaces
from .run import (
    IDLE_SECONDS,
    KEEP_JOBS_SECONDS,
    PROGRESSING,
    RESTORES,
    STEP_SECONDS,
    Filling,
    Look,
    Memory,
)
from .scale_down import scale_up
from .source import ObjectsReader
from .telling import all_failures, tell_pods

#: Volumes are looked at so often that looking takes no more than a fifth of the time.
_STEP_SHARE = 5.0
_TERMINATING_PAUSE = 2.0
#: An API or a store that is away for longer ends a restore that has not begun.
_PATIENCE_SECONDS = 60.0


class RestoreReconciler:
    """Keys are ``namespace/name``. ``tasks`` must outlive the reconciler's workers."""

    def __init__(
        self,
        context: Context,
        *,
        tasks: asyncio.TaskGroup,
        enqueue: Callable[[str], None],
        read_objects: ObjectsReader = source.read_objects,
    ) -> None:
        self._context = context
        self._hooks = RestoreHookDriver(context, tasks=tasks, enqueue=enqueue)
        self._aftercare = Aftercare(self._hooks, forget=self._forget)
        self._read_objects = read_objects
        self._memories: dict[str, Memory] = {}

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.rpartition("/")
        try:
            raw = await self._context.api.get(
                RESTORES, name, namespace=namespace or self._context.namespace
            )
        except ApiNotFound:
            return None
        try:
            restore = Restore.parse(raw)
        except ValidationError as exc:
            await self._refuse(raw, first_error(exc))
            return None
        look = self._look(raw, restore)
        if restore.status.phase.terminal:
            return await self._aftercare.look(look)
        try:
            wait = await self._advance(look)
        except ApiConflict:
            raise  # somebody else wrote: look again
        except Retryable as exc:
            return await self._retry_or_fail(look, exc)
        except AraratError as exc:
            await self._fail(look, exc, exc.message)
            return None
        look.memory.failing_since = None
        return wait

    def _look(self, raw: dict[str, Any], restore: Restore) -> Look:
        return Look(
            context=self._context,
            raw=raw,
            restore=restore,
            memory=self._memories.setdefault(restore.uid, Memory()),
            log=self._context.logs.of(
                kind="Restore",
                name=restore.name,
                uid=restore.uid,
                resumed=restore.status.phase in (RestorePhase.IN_PROGRESS, RestorePhase.FINALIZING),
            ),
            read_objects=self._read_objects,
        )

    # --- on the way -----------------------------------------------------------------------------

    async def _advance(self, look: Look) -> float | None:
        if look.cancelled:
            return await self._cancel(look)
        await release_named(look)  # before anything that needs the location
        location = await load(look)
        if look.restore.spec.dry_run and look.in_place:
            raise InvalidSpec("a restore in place has no plan of objects to show: leave dryRun out")
        if look.in_place and look.restore.spec.hooks.resources:
            raise InvalidSpec("a restore in place restores no pods that hooks could run in")
        if look.restore.spec.dry_run:
            await dry_run(look, location)
            return None
        if look.restore.status.phase is RestorePhase.NEW:
            wait = await self._begin(look, location)
            if wait is not None:
                return wait
        await results.keep_log(look, location)
        if not look.restore.status.objects_done:
            await restore_objects(look, location, await plan(look, location))
            if look.cancel_asked():
                return 0.0
        return await self._volumes(look, location)

    async def _begin(self, look: Look, location: OpenLocation) -> float | None:
        """From New to InProgress; seconds where something must go away first."""
        blocked = terminating(await survey(look))
        if blocked is not None:
            memory, now = look.memory, time.monotonic()
            memory.terminating_since = memory.terminating_since or now
            if now - memory.terminating_since > TERMINATING_SECONDS:
                message = (
                    f"{blocked}; that was waited for {TERMINATING_SECONDS / 60:.0f} minutes long: "
                    f"when it is gone, ararat restore retry {look.restore.name}"
                )
                await look.end(RestorePhase.FAILED, reason="NamespaceTerminating", message=message)
                return IDLE_SECONDS
            waiting = Failure(object="namespace", reason="NamespaceTerminating", message=blocked)
            await self._say(look, reason="NamespaceTerminating", message=blocked, waiting=[waiting])
            return _TERMINATING_PAUSE
        await self._say(look, reason="Reading", message="reading the backup", waiting=[])
        # Whatever is wrong with it is said before anything is touched.
        if look.in_place:
            in_place.wanted_claims(look.restore, look.memory.data, look.memory.sources)
        else:
            await plan(look, location)
        await look.set_finalizer(present=True)
        conditions = look.condition(PROGRESSING, holds=True, reason="Started")
        await look.patch(
            {
                "phase": RestorePhase.IN_PROGRESS.value,
                "startTime": utcnow().isoformat(),
                "objectsDone": look.in_place,
                "message": None,
                "conditions": [condition.to_dict() for condition in conditions],
            }
        )
        look.log.info("restore started", backup=look.restore.backup, location=location.name)
        return None

    async def _volumes(self, look: Look, location: OpenLocation) -> float | None:
        now = time.monotonic()
        pause = max(STEP_SECONDS, _STEP_SHARE * look.memory.step_seconds)
        early = look.memory.last_step + pause - now
        if look.memory.last_step and early > 0:
            return early
        look.memory.last_step = now
        await results.recall(look, location)
        retry = look.retry_asked
        filling = await self._step(look, location, retry=retry)
        look.memory.step_seconds = time.monotonic() - now
        if retry:
            await self._hooks.try_again(look.restore, look.log)
            # The jobs of the new attempt exist; the next look finds them.
            look.memory.moved.clear()
            await look.drop_retry()
            return STEP_SECONDS
        volumes = sum_volumes(filling.units, restore=look.restore, overdue=filling.overdue)
        if volumes.settled:
            # Pods that were made a moment ago may not be in the cache yet.
            filling = await self._step(look, location, fresh=True)
            volumes = sum_volumes(filling.units, restore=look.restore, overdue=filling.overdue)
        hooks = await self._run_hooks(look, filling, fresh=volumes.settled)
        await tell_pods(look, filling, volumes)
        if volumes.settled and hooks.settled:
            await self._finish(look, location, filling, volumes)
            return KEEP_JOBS_SECONDS
        await self._show(look, filling, volumes)
        return IDLE_SECONDS

    async def _step(
        self, look: Look, location: OpenLocation, *, retry: bool = False, fresh: bool = False
    ) -> Filling:
        if look.in_place:
            return await in_place.step(look, location, retry=retry)
        return await step(look, location, retry=retry, fresh=fresh)

    async def _run_hooks(self, look: Look, filling: Filling, *, fresh: bool = False) -> Standing:
        """Hooks of pods whose volumes are filled."""
        if look.in_place:
            return standing(())
        hooks = await self._hooks.step(
            look.restore, look.log, held=unfilled(filling.units), fresh=fresh
        )
        look.memory.hooks = hooks
        return hooks

    async def _show(self, look: Look, filling: Filling, volumes: Volumes) -> None:
        hooks = look.memory.hooks or standing(())
        waiting = [*filling.waiting, *(hooks.waiting if volumes.settled else ())]
        failures = all_failures(look, filling, volumes)
        reason = waiting[0].reason if waiting else "Filling"
        message = running_message(volumes, waiting)
        conditions = look.condition(PROGRESSING, holds=not waiting, reason=reason, message=message)
        await look.patch(
            {
                "volumes": volumes.counts.to_dict(),
                "progress": volumes.progress.to_dict(),
                "hooks": hooks.counts.to_dict(),
                "waiting": [cause.to_dict() for cause in waiting[:WAITING_LIMIT]],
                "failures": [failure.to_dict() for failure in failures[:STATUS_LIMIT]],
                "failureCount": len(failures),
                "message": message or None,
                "conditions": [condition.to_dict() for condition in conditions],
            }
        )

    async def _say(self, look: Look, *, reason: str, message: str, waiting: list[Failure]) -> None:
        conditions = look.condition(PROGRESSING, holds=not waiting, reason=reason, message=message)
        await look.patch(
            {
                "message": message,
                "waiting": [cause.to_dict() for cause in waiting],
                "conditions": [condition.to_dict() for condition in conditions],
            }
        )

    # --- the end --------------------------------------------------------------------------------

    async def _finish(
        self, look: Look, location: OpenLocation, filling: Filling, volumes: Volumes
    ) -> None:
        if look.restore.status.phase is not RestorePhase.FINALIZING:
            await look.patch({"phase": RestorePhase.FINALIZING.value, "message": None})
        await release_namespaces(look, filling.units)
        memory = look.memory
        failures = [*all_failures(look, filling, volumes), *await scale_up(look)]
        memory.failures = failures
        hooks = memory.hooks or standing(())
        memory.warnings = list(dict.fromkeys([*memory.warnings, *hooks.warnings]))
        phase = RestorePhase.PARTIALLY_FAILED if failures else RestorePhase.COMPLETED
        look.log.info("volumes", text=volumes.counts.text, bytes=volumes.progress.bytes_done)
        await results.keep(
            look,
            location,
            {
                "phase": phase.value,
                "volumes": [
                    {
                        "volume": unit.id,
                        "completed": unit.completed,
                        "jobs": [job.name for job in unit.jobs],
                        "snapshot": unit.data.volume.snapshot_id,
                        "bytes": unit.data.size,
                    }
                    for unit in filling.units
                ],
                "hooks": lines(self._hooks.records(look.restore.uid)),
            },
        )
        await look.end(
            phase,
            reason="Failures" if failures else "Completed",
            message=final_message(failures, memory.warnings),
            status={
                "volumes": volumes.counts.to_dict(),
                "progress": volumes.progress.to_dict(),
                "failures": [failure.to_dict() for failure in failures[:STATUS_LIMIT]],
                "failureCount": len(failures),
                "warnings": memory.warnings[:STATUS_LIMIT],
                "warningCount": len(memory.warnings),
                "hooks": hooks.counts.to_dict(),
            },
        )

    async def _cancel(self, look: Look) -> float | None:
        left = await stop_jobs(look)
        if left:
            await look.patch({"message": f"cancelling {plural(left, 'node job')}", "waiting": []})
            return IDLE_SECONDS
        if await self._hooks.stop(look.restore.uid):
            await look.patch({"message": "cancelling: a hook that runs comes to its end"})
            return STEP_SECONDS
        await remove_idle(look, ())
        await scale_up(look)
        held = [pod.path for pod in look.pods() if pod.held]
        message = "cancelled"
        if held:
            more = f" and {len(held) - 3} more" if len(held) > 3 else ""
            message += (
                f"; held pods stay held ({', '.join(held[:3])}{more}): delete them, or their "
                "namespace, to begin anew, or let them start: ararat restore release "
                f"{look.restore.name}"
            )
        if not look.restore.status.phase.terminal:
            await look.end(RestorePhase.CANCELLED, reason="Cancelled", message=message)
        return 0.0

    def _forget(self, look: Look) -> None:
        self._memories.pop(look.restore.uid, None)
        self._hooks.forget(look.restore.uid)
        self._context.logs.drop(look.restore.uid)

    # --- trouble --------------------------------------------------------------------------------

    async def _retry_or_fail(self, look: Look, error: Retryable) -> float | None:
        memory, now = look.memory, time.monotonic()
        memory.failing_since = memory.failing_since or now
        begun = look.restore.status.phase is not RestorePhase.NEW
        deadline = look.restore.spec.gate.no_progress_seconds if begun else _PATIENCE_SECONDS
        if now - memory.failing_since > deadline:
            memory.failing_since = None
            lasted = f"for {deadline:.0f} s: " if begun else ""
            await self._fail(look, error, f"{lasted}{error.message}")
            return None
        look.log.warning("will try again", reason=error.reason, message=error.message)
        waiting = Failure(object="restore", reason=error.reason, message=error.message)
        await self._say(
            look,
            reason=error.reason,
            message=f"will try again: {error.message}",
            waiting=[waiting],
        )
        raise error  # the work queue backs off

    async def _fail(self, look: Look, error: AraratError, message: str) -> None:
        """Once it has begun, what is done stays, pods stay held, and a retry goes on from there."""
        status, name = look.restore.status, look.restore.name
        if look.retry_asked:  # that was this attempt
            await look.drop_retry()
        if status.phase is RestorePhase.NEW:
            await look.end(RestorePhase.FAILED, reason=error.reason, message=message)
            return
        failure = Failure(
            object="restore",
            reason=error.reason,
            message=f"{message}; to go on: ararat restore retry {name}",
        )
        failures = [*(f for f in status.failures if f.object != "restore"), failure]
        await look.end(
            RestorePhase.PARTIALLY_FAILED,
            reason=error.reason,
            message=f"restore: {failure.message}",
            status={
                "failures": [each.to_dict() for each in failures[-STATUS_LIMIT:]],
                "failureCount": len(failures),
            },
        )

    async def _refuse(self, raw: dict[str, Any], message: str) -> None:
        """A spec that cannot be read."""
        if (raw.get("status") or {}).get("phase") == RestorePhase.FAILED.value:
            return
        status = {
            "phase": RestorePhase.FAILED.value,
            "message": message,
            "completionTime": utcnow().isoformat(),
        }
        await patch_status(self._context.api, RESTORES, raw, status)


def keys_of_pod(pod: dict[str, Any], *, namespace: str) -> Iterable[str]:
    """The restore that a gated pod wakes; ``namespace`` is Ararat's."""
    name = (pod["metadata"].get("annotations") or {}).get(GATE_RESTORE)
    return (f"{namespace}/{name}",) if name else ()
