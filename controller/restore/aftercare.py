"""What a restore that has ended is still there for.

Problem: its pods may stand at their gates long after: somebody mends the cause, gives data up, asks
for another attempt; and what it needed for its work must go.
Decision: each look at an ended restore does what is missing: helpers and scaled-down workloads
first, then a retry if one was asked for, then words on volumes, pods that came late, hooks, and, an
hour later, its node jobs. It is held by no finalizer any more.
"""

from __future__ import annotations

from collections.abc import Callable

from ararat.api.base import utcnow
from ararat.api.restore import ReleaseAction, RestorePhase, VolumeCounts
from ararat.errors import AraratError, Retryable
from ararat.human import plural

from .begin import load
from .cancel import stop_jobs
from .cancelled import tell_cancelled
from .filling import step
from .helpers import remove_idle
from .hooks.driver import RestoreHookDriver, unfilled
from .letting_go import release_named
from .progress import sum_volumes, volumes_text
from .release import release_namespaces, sweep
from .run import IDLE_SECONDS, JOBS, KEEP_JOBS_SECONDS, PROGRESSING, STEP_SECONDS, Look
from .scale_down import scale_up
from .telling import tell_passed, tell_pods

#: A restore that owes data to a claim looks this often for a pod that came late (seconds).
_LATECOMERS_SECONDS = 60.0
_RETRIED = (RestorePhase.PARTIALLY_FAILED, RestorePhase.FAILED)


class Aftercare:
    """``forget`` is called for a restore that nothing needs to be remembered of any more."""

    def __init__(self, hooks: RestoreHookDriver, *, forget: Callable[[Look], None]) -> None:
        self._hooks = hooks
        self._forget = forget

    async def look(self, look: Look) -> float | None:
        """Let go of it, serve latecomers, drop its jobs in the end. Seconds to the next look."""
        restore = look.restore
        await remove_idle(look, ())
        if restore.status.scaled_down and not await stop_jobs(look):
            await scale_up(look)
        await tell_passed(look)
        if restore.status.phase is RestorePhase.CANCELLED:
            await tell_cancelled(look)
        if restore.metadata.deletion_timestamp is not None:
            if await stop_jobs(look):
                return IDLE_SECONDS
            await look.set_finalizer(present=False)
            self._forget(look)
            return None
        if restore.spec.dry_run:
            self._forget(look)
            return None
        if look.retry_asked and restore.status.phase in _RETRIED:
            await self._begin_again(look)
            return 0.0
        await look.set_finalizer(present=False)
        if not await self._released(look):
            return STEP_SECONDS
        ran = restore.status.phase in (RestorePhase.COMPLETED, RestorePhase.PARTIALLY_FAILED)
        if ran and any(pod.held for pod in look.pods()):
            await self._latecomers(look)
            return IDLE_SECONDS
        if ran and not await self._hooks_ended(look, held=frozenset()):
            return IDLE_SECONDS
        await look.context.drop_password_secrets(restore)
        await sweep(look)
        self._forget(look)
        if ran and restore.status.volumes.failed:
            return _LATECOMERS_SECONDS
        ended = restore.status.completion_time or utcnow()
        left = KEEP_JOBS_SECONDS - (utcnow() - ended).total_seconds()
        if left > 0:
            return left
        for job in look.jobs():
            if not job.status.phase.terminal:  # a word to a pod that came late
                return _LATECOMERS_SECONDS
            await look.context.api.delete(JOBS, job.name, namespace=look.context.namespace)
        return None

    async def _hooks_ended(self, look: Look, *, held: frozenset[str]) -> bool:
        """Of pods that went on after the restore had ended, as well."""
        before = look.restore.status.hooks
        if before is None:  # it ended before there were hooks: nothing is run in its pods now
            return True
        hooks = await self._hooks.step(look.restore, look.log, held=held)
        if hooks.counts != before:
            await look.patch({"hooks": hooks.counts.to_dict()})
            for failure in hooks.failures:
                look.log.error("hook failed", object=failure.object, message=failure.message)
        return hooks.settled

    async def _released(self, look: Look) -> bool:
        """Whether everything that a person gave up after the end has been let go."""
        named = await release_named(look)
        if any(unit.active is not None for unit in named):
            return False
        open_now = [unit for unit in named if unit.word is ReleaseAction.START]
        if any(not unit.let_go for unit in open_now):
            return False
        before = look.restore.status.volumes
        if open_now and before.released != len(open_now):
            left = max(before.total - before.completed - len(open_now), 0)
            counts = VolumeCounts(
                total=before.total,
                completed=before.completed,
                failed=min(before.failed, left),
                released=len(open_now),
                text=volumes_text(
                    total=before.total,
                    completed=before.completed,
                    failed=min(before.failed, left),
                    released=len(open_now),
                ),
            )
            told = f"{plural(len(open_now), 'volume')} released: their data is not complete"
            await look.patch({"volumes": counts.to_dict(), "message": told})
        return True

    async def _begin_again(self, look: Look) -> None:
        """Another attempt: from the beginning, or where it had come to when it had begun."""
        begun = look.restore.status.start_time is not None
        look.log.info("retry")
        look.memory.failures = None
        if begun:
            await look.set_finalizer(present=True)
        conditions = look.condition(PROGRESSING, holds=True, reason="Retry", message="tried again")
        phase = RestorePhase.IN_PROGRESS if begun else RestorePhase.NEW
        await look.patch(
            {
                "phase": phase.value,
                "completionTime": None,
                "message": "failed volumes are tried again" if begun else "tried again",
                "conditions": [condition.to_dict() for condition in conditions],
            }
        )
        if not begun:
            await look.drop_retry()  # when volumes are looked at, nothing is to be tried again
            self._forget(look)

    async def _latecomers(self, look: Look) -> None:
        """Pods that are still held: whatever held them up may be over by now."""
        try:
            location = await load(look)
            filling = await step(look, location)
        except AraratError as exc:
            look.log.warning("held pods not served", reason=exc.reason, message=exc.message)
            if isinstance(exc, Retryable):
                raise
            return
        await self._hooks_ended(look, held=unfilled(filling.units))
        volumes = sum_volumes(filling.units, restore=look.restore, overdue=filling.overdue)
        await tell_pods(look, filling, volumes)
        if volumes.counts != look.restore.status.volumes:
            await look.patch(
                {"volumes": volumes.counts.to_dict(), "progress": volumes.progress.to_dict()}
            )
        if filling.units and all(unit.completed for unit in filling.units):
            await release_namespaces(look, filling.units)
            if look.restore.status.phase is RestorePhase.PARTIALLY_FAILED:
                await look.patch({"message": "every volume was filled in the end"})
