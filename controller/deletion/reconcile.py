"""DeleteBackupRequests, reconciled: done once, refused with the reason, or gone on with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from ararat.api import DeleteBackupRequest
from ararat.api.base import ConditionStatus, with_condition
from ararat.api.deletion import DeletionPhase
from ararat.errors import AraratError, Damaged, Retryable
from ararat.kube.errors import ApiConflict
from ararat.kube.status import patch_status
from controller.context import Context
from controller.deletion.manifests import ManifestReader
from controller.deletion.request import REQUESTS
from controller.deletion.run import Deletion, Refused, Waits
from controller.location.open import first_error

#: Requests that have ended can be looked at for so long.
_KEEP = timedelta(hours=24)
_KEEP_REFUSED = timedelta(days=7)
#: Until a look at what a deletion waits for, or at what a person must mend first.
_WAIT_SECONDS = 10.0
_STUCK_SECONDS = 300.0
log = structlog.get_logger("controller.deletion")


class DeletionReconciler:
    def __init__(self, context: Context, reader: ManifestReader) -> None:
        self._context = context
        self._reader = reader

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        raw = self._context.deletions.get(name, namespace)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        try:
            request = DeleteBackupRequest.parse(raw)
        except ValidationError as exc:
            await self._end(raw, None, Refused(first_error(exc), reason="InvalidSpec"))
            return None
        if request.status.phase.terminal:
            return await self._after(request)
        return await self._advance(raw, request)

    async def _advance(self, raw: dict[str, Any], request: DeleteBackupRequest) -> float | None:
        begun = request.status.location is not None
        deletion = Deletion(self._context, self._reader, raw, request)
        try:
            await deletion.run()
        except ApiConflict:
            raise  # looked at with an old version
        except Waits as exc:
            await self._wait(deletion, exc)
            return _WAIT_SECONDS
        except Retryable as exc:
            await self._wait(deletion, exc)
            raise
        except AraratError as exc:
            begun = begun or deletion.request.status.location is not None
            if begun:
                # It cannot be taken back: from deleting.json on the backup does not exist.
                await self._wait(deletion, exc)
                if isinstance(exc, Damaged):
                    await self._context.events.event(
                        raw, reason=exc.reason, message=exc.message, type="Warning"
                    )
                return _STUCK_SECONDS
            await self._end(raw, request, exc)
            return None
        await self._end(deletion.raw, deletion.request, None)
        return None

    async def _wait(self, deletion: Deletion, exc: AraratError) -> None:
        log.warning("deletion waits", backup=deletion.name, message=exc.message)
        status = {"reason": exc.reason, "message": exc.message}
        await patch_status(self._context.api, REQUESTS, deletion.raw, status)

    async def _end(
        self, raw: dict[str, Any], request: DeleteBackupRequest | None, exc: AraratError | None
    ) -> None:
        phase = DeletionPhase.COMPLETED if exc is None else DeletionPhase.REFUSED
        message = "deleted" if exc is None else exc.message
        reason = "Completed" if exc is None else exc.reason
        conditions = with_condition(
            request.status.conditions if request else [],
            type="Succeeded",
            status=ConditionStatus.TRUE if exc is None else ConditionStatus.FALSE,
            reason=reason,
            message=message,
        )
        status = {
            "phase": phase.value,
            "reason": reason,
            "message": message,
            "completionTime": self._context.now().isoformat(),
            "conditions": [c.to_dict() for c in conditions],
        }
        await patch_status(self._context.api, REQUESTS, raw, status)
        await self._context.events.event(
            raw,
            reason="BackupDeleted" if exc is None else reason,
            message=message,
            type="Normal" if exc is None else "Warning",
        )

    async def _after(self, request: DeleteBackupRequest) -> float | None:
        ended = request.status.completion_time
        if ended is None:
            return None
        keep = _KEEP if request.status.phase is DeletionPhase.COMPLETED else _KEEP_REFUSED
        left = (ended + keep - self._context.now()).total_seconds()
        if left > 0:
            return left
        await self._context.api.delete(
            REQUESTS, request.name, namespace=self._context.namespace, uid=request.uid
        )
        return None
