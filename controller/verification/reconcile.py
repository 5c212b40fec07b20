"""BackupVerifications, reconciled: everything of a backup is restored into scratch, and read.

Problem: a backup that nobody has ever restored is a hope.
Decision: the same node jobs that restore do it (mode Scratch, verify Full), into scratch volumes of
our own (scratch.py), bounded in number and size; API objects are read as a restore reads them. What
came back is compared with the manifest, which is sealed (targets.py). As node jobs they take part
in everything that keeps jobs and maintenance of a repository apart, and survive what jobs survive.
Everything is found again by derived names. Nothing in the location is changed; its lock aside, a
verification of a ReadOnly location writes nothing there.
Where its pods are to run as well, they do so first (run.py), and what that has read is not read
again. A finalizer holds the object until nothing of theirs is left.
Limits: one verification reads at a time, the others wait and say for whom.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from pydantic import ValidationError

from ararat.api import BackupVerification
from ararat.api.backup import Failure
from ararat.api.base import ConditionStatus, utcnow, with_condition
from ararat.api.names import FINALIZER
from ararat.api.verification import VerificationPhase
from ararat.errors import AraratError, Damaged, Retryable, WrongKey
from ararat.kube.errors import ApiConflict
from ararat.kube.resources import of as resource_of
from controller.context import Context
from controller.restore.source import ObjectsReader, read_objects

from . import cleaning, run
from .look import Look
from .memory import Memory
from .record import record
from .turn import Cancelled, NotNow, Turn

KIND = resource_of(BackupVerification)
_LOOK_SECONDS = 10.0
#: While pods of it run, and while they are removed.
_RUN_SECONDS, _REMOVAL_SECONDS = 2.0, 2.0
#: Ended ones can be looked at for so long; the Backup keeps the result.
_KEEP = timedelta(days=7)
_KEEP_BAD = timedelta(days=30)
log = structlog.get_logger("controller.verification")


class VerificationReconciler:
    def __init__(self, context: Context, *, objects: ObjectsReader = read_objects) -> None:
        self._context = context
        self._objects = objects
        self._turn = Turn()
        self._memories: dict[str, Memory] = {}
        #: Whose result is recorded and whose scratch is gone, as far as this process knows.
        self._settled: set[str] = set()

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        raw = self._context.verifications.get(name, namespace)
        if raw is None:
            return None
        try:
            verification = BackupVerification.parse(raw)
        except ValidationError:
            return None
        deleted = verification.metadata.deletion_timestamp is not None
        if deleted and FINALIZER not in verification.metadata.finalizers:
            return None
        look = Look(
            context=self._context,
            raw=raw,
            verification=verification,
            memory=self._memories.setdefault(verification.uid, Memory()),
            turn=self._turn,
            objects=self._objects,
        )
        if verification.status.phase.terminal:
            return await self._after(look)
        return await self._advance(look)

    async def _advance(self, look: Look) -> float | None:
        verification = look.verification
        try:
            if not await look.step():
                return _RUN_SECONDS if look.runs else _LOOK_SECONDS
        except ApiConflict:
            raise  # somebody else wrote: look again
        except NotNow as exc:
            await look.say([exc.waiting])
            return _LOOK_SECONDS
        except Cancelled as exc:
            await self._end(look, VerificationPhase.CANCELLED, exc.reason, exc.message)
        except Retryable as exc:
            await look.say(
                [Failure(object=verification.spec.backup, reason=exc.reason, message=exc.message)]
            )
            raise
        except AraratError as exc:
            # What cannot be opened or believed is no backup; what is not there is none, either.
            bad = isinstance(exc, Damaged | WrongKey)
            phase = VerificationPhase.FAILED if bad else VerificationPhase.INCONCLUSIVE
            await self._end(look, phase, exc.reason, exc.message)
        else:
            phase, reason, message = look.findings.verdict()
            await self._end(look, phase, reason, message)
        return 0.5  # the cache shows the end by then

    async def _end(self, look: Look, phase: VerificationPhase, reason: str, message: str) -> None:
        good = phase is VerificationPhase.PASSED
        conditions = with_condition(
            look.verification.status.conditions,
            type="Succeeded",
            status=ConditionStatus.TRUE if good else ConditionStatus.FALSE,
            reason=reason,
            message=message,
        )
        await look.patch(
            {
                **look.findings.shown(),
                "phase": phase.value,
                "reason": reason,
                "message": message,
                "completionTime": self._context.now().isoformat(),
                "waiting": [],
                "conditions": [condition.to_dict() for condition in conditions],
            }
        )
        log.info(
            "verification ended",
            verification=look.verification.name,
            backup=look.verification.spec.backup,
            phase=phase.value,
            reason=reason,
            message=message,
        )
        backup = self._context.backups.get(look.verification.spec.backup, self._context.namespace)
        for about in (look.raw, backup):
            if about is not None:
                await self._context.events.event(
                    about,
                    reason=f"Verification{phase.value}",
                    message=message,
                    type="Normal" if good else "Warning",
                )
        await self._settle(look.verification)

    async def _settle(self, verification: BackupVerification) -> None:
        await record(self._context, verification)
        await cleaning.remove_scratch(self._context, verification)
        self._memories.pop(verification.uid, None)
        self._settled.add(verification.uid)

    async def _after(self, look: Look) -> float | None:
        verification = look.verification
        if FINALIZER in verification.metadata.finalizers:
            left = await run.removed(look)
            if left:
                await self._say_what_is_left(look, left)
                return _REMOVAL_SECONDS
            await self._say_what_is_left(look, "")
            await look.set_finalizer(present=False)
            verification = look.verification
        self._memories.pop(verification.uid, None)
        if verification.metadata.deletion_timestamp is not None:
            return None
        if verification.uid not in self._settled:
            await self._settle(verification)
        status = verification.status
        good = status.phase in (VerificationPhase.PASSED, VerificationPhase.CANCELLED)
        ended = status.completion_time or utcnow()
        rest = (ended + (_KEEP if good else _KEEP_BAD) - self._context.now()).total_seconds()
        if rest > 0:
            return min(rest, 3600.0)
        self._settled.discard(verification.uid)
        await self._context.api.delete(
            KIND, verification.name, namespace=self._context.namespace, uid=verification.uid
        )
        return None

    async def _say_what_is_left(self, look: Look, left: str) -> None:
        waiting = [Failure(object="pods", reason="Removing", message=left)] if left else []
        if list(look.verification.status.waiting) != waiting:
            log.info("what ran is removed", verification=look.verification.name, left=left)
            await look.patch({"waiting": [failure.to_dict() for failure in waiting]})
