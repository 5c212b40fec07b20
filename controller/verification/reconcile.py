"""BackupVerifications, reconciled: everything of a backup is restored into scratch, and read.

Problem: a backup that nobody has ever restored is a hope.
Decision: the same node jobs that restore do it (mode Scratch, verify Full), into scratch volumes of
our own (scratch.py), bounded in number and size; API objects are read as a restore reads them. What
came back is compared with the manifest, which is sealed (targets.py). As node jobs they take part
in everything that keeps jobs and maintenance of a repository apart, and survive what jobs survive.
Everything is found again by derived names. Nothing in the location is changed; its lock aside, a
verification of a ReadOnly location writes nothing there.
Limits: one verification reads at a time, the others wait and say for whom.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from ararat.api import BackupVerification
from ararat.api.backup import Failure
from ararat.api.base import ConditionStatus, utcnow, with_condition
from ararat.api.verification import VerificationPhase
from ararat.errors import AraratError, Damaged, Retryable, WrongKey
from ararat.kube.errors import ApiConflict
from ararat.kube.resources import of as resource_of
from controller.context import Context
from controller.restore.source import ObjectsReader, read_objects

from . import cleaning
from .look import Cancelled, Look, Memory, NotNow, Turn
from .record import record

KIND = resource_of(BackupVerification)
_LOOK_SECONDS = 10.0
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
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        try:
            verification = BackupVerification.parse(raw)
        except ValidationError:
            return None
        if verification.status.phase.terminal:
            return await self._after(raw, verification)
        return await self._advance(raw, verification)

    async def _advance(self, raw: dict[str, Any], verification: BackupVerification) -> float | None:
        look = Look(
            context=self._context,
            raw=raw,
            verification=verification,
            memory=self._memories.setdefault(verification.uid, Memory()),
            turn=self._turn,
            objects=self._objects,
        )
        try:
            if not await look.step():
                return _LOOK_SECONDS
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
            phase, reason, message = look.verdict()
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
                **look.shown(),
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

    async def _after(self, raw: dict[str, Any], verification: BackupVerification) -> float | None:
        if verification.uid not in self._settled:
            await self._settle(verification)
        status = verification.status
        good = status.phase in (VerificationPhase.PASSED, VerificationPhase.CANCELLED)
        ended = status.completion_time or utcnow()
        left = (ended + (_KEEP if good else _KEEP_BAD) - self._context.now()).total_seconds()
        if left > 0:
            return min(left, 3600.0)
        self._settled.discard(verification.uid)
        await self._context.api.delete(
            KIND, verification.name, namespace=raw["metadata"]["namespace"], uid=verification.uid
        )
        return None
