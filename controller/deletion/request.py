"""Asking for a deletion, as schedules, expiry and an interrupted deletion do it."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import structlog

from ararat import naming
from ararat.api import Backup, DeleteBackupRequest
from ararat.api.base import Meta
from ararat.api.deletion import (
    DeleteBackupRequestSpec,
    DeleteBackupRequestStatus,
    DeletionCause,
    DeletionPhase,
)
from ararat.errors import Conflict
from ararat.kube.resources import of as resource_of
from controller.context import Context

#: A request that was refused is made again no sooner.
_AGAIN = timedelta(hours=1)
REQUESTS = resource_of(DeleteBackupRequest)
log = structlog.get_logger("controller.deletion")


def build_request(spec: DeleteBackupRequestSpec, *, namespace: str) -> DeleteBackupRequest:
    """One name for one backup: who asks twice asks once."""
    name = naming.object_name(spec.backup, unique=(spec.backup_uid or "",))
    return DeleteBackupRequest(
        metadata=Meta(name=name, namespace=namespace),
        spec=spec,
        status=DeleteBackupRequestStatus(),
    )


async def request_deletion(context: Context, backup: Backup, cause: DeletionCause) -> None:
    spec = DeleteBackupRequestSpec(backup=backup.name, backup_uid=backup.uid, cause=cause)
    await send_request(context, spec)


async def send_request(context: Context, spec: DeleteBackupRequestSpec) -> None:
    request = build_request(spec, namespace=context.namespace)
    standing = context.deletions.get(request.name, context.namespace)
    if standing is not None:
        found = DeleteBackupRequest.parse(standing)
        ended = found.status.completion_time
        if found.status.phase is not DeletionPhase.REFUSED or ended is None:
            return
        if context.now() - ended < _AGAIN:
            return
        await context.api.delete(REQUESTS, request.name, namespace=context.namespace, uid=found.uid)
    with contextlib.suppress(Conflict):  # the cache is a moment behind
        await context.api.create(REQUESTS, request.manifest(), namespace=context.namespace)
        log.info("deletion requested", backup=spec.backup, cause=spec.cause.value)


def active_restores(context: Context, backup: str) -> list[str]:
    """Names of the restores of a backup that have not ended, as the cache has them."""
    return sorted(
        str(raw["metadata"]["name"])
        for raw in context.restores.items()
        if restored_backup(raw) == backup
        and not restore_ended(raw)
        and not raw["spec"].get("isolated")
    )


def restored_backup(raw: dict[str, Any]) -> str | None:
    """The backup of a Restore; none while its schedule's is not chosen yet."""
    name = (raw.get("status") or {}).get("backup") or raw["spec"].get("backup")
    return str(name) if name else None


def restore_ended(raw: dict[str, object]) -> bool:
    status = raw.get("status")
    phase = status.get("phase") if isinstance(status, dict) else None
    return phase in ("Completed", "PartiallyFailed", "Failed", "Cancelled")
