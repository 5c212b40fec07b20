"""What a verification found, kept where it is looked for: on the Backup, and beside it.

Decision: the Backup's status shows the last result. In a location that this cluster owns the result
also stands beside the manifest, sealed like it, so that it survives the object and is seen by other
clusters that find the backup there. Both are written from the verification's own terminal status,
so that a controller that was killed in between writes them again.
Limits: other clusters read it when they first see the backup.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ararat import layout, sealed
from ararat.api import Backup, BackupVerification
from ararat.api.backup import LastVerification
from ararat.api.verification import VerificationPhase
from ararat.errors import Damaged, NotFound
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.location.open import OpenLocation

_BACKUPS = resource_of(Backup)
_WHAT = "the result of a verification"


def result_of(
    verification: BackupVerification, before: LastVerification | None
) -> LastVerification:
    """Pure."""
    status = verification.status
    passed = before.last_passed_time if before else None
    ran = before.last_run_time if before else None
    if status.phase is VerificationPhase.PASSED:
        passed = status.completion_time
        ran = passed if status.run is not None else ran
    return LastVerification(
        name=verification.name,
        phase=status.phase.value,
        time=status.completion_time,
        last_passed_time=passed,
        last_run_time=ran,
        message=(status.message or "")[:500],
    )


def is_newer(result: LastVerification, before: LastVerification | None) -> bool:
    """Pure: whether it is not what stands there, nor older."""
    if before is None or before.time is None or result.time is None:
        return True
    return result.name != before.name and result.time >= before.time


async def record(context: Context, verification: BackupVerification) -> None:
    """Does nothing where that is done. Raises Retryable."""
    if verification.status.phase is VerificationPhase.CANCELLED:
        return
    try:
        raw = await context.api.get(_BACKUPS, verification.spec.backup, namespace=context.namespace)
    except NotFound:
        return
    backup = Backup.parse(raw)
    before = backup.status.verification
    result = result_of(verification, before)
    if not is_newer(result, before) or not backup.status.phase.restorable:
        return
    place = backup.status.location
    if place is not None and context.owns(place):
        await _store(await context.location(place), backup, result)
    with contextlib.suppress(NotFound):
        await patch_status(
            context.api,
            _BACKUPS,
            raw,
            {"verification": result.to_dict()},
            resource_version=raw["metadata"]["resourceVersion"],
        )


async def _store(location: OpenLocation, backup: Backup, result: LastVerification) -> None:
    body: dict[str, Any] = {"backup": backup.name, "verification": result.to_dict()}
    data = sealed.seal(body, location.manifest_keys[0])
    await location.store.put(layout.backup_verification(backup.name), data)


async def stored_result(location: OpenLocation, backup: str) -> LastVerification | None:
    """What stands beside a backup. None: nothing, or nothing that can be believed."""
    try:
        data = await location.store.get(layout.backup_verification(backup))
        body = sealed.unseal(data, *location.manifest_keys, what=_WHAT, reason="ResultForged")
        if body.get("backup") != backup:
            return None
        return LastVerification.model_validate(body.get("verification"))
    except (NotFound, Damaged, ValueError):
        return None
