"""Backups outside schedules run out by their ttl; pins are kept in the location, beside the backup.

A pin in the object alone would be lost with it, and sync makes the object again: so ``pinned.json``
says it, and either of the two is enough for a backup to stay.
"""

from __future__ import annotations

from typing import Any

import structlog
from pydantic import ValidationError

from ararat import layout
from ararat.api import Backup
from ararat.api.backup import BackupPhase
from ararat.api.deletion import DeletionCause
from ararat.duration import parse
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.deletion.request import active_restores, request_deletion
from controller.schedule.held import held
from controller.schedule.retention import DEFAULT_TTL, FAILED_TTL, expired

_LONGEST_SECONDS = 3600.0
_AGAIN_SECONDS = 300.0
_BACKUPS = resource_of(Backup)
log = structlog.get_logger("controller.schedule")


class ExpiryReconciler:
    """Keys are Backups."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        raw = self._context.backups.get(name, namespace)
        if raw is None:
            return None
        try:
            backup = Backup.parse(raw)
        except ValidationError:
            return None
        if backup.status.phase is BackupPhase.DELETING:
            await self._resume(backup)
            return _AGAIN_SECONDS
        found = held(backup)
        location = backup.status.location
        if found is None:
            return None
        if location is not None:
            if not self._context.owns(location):
                return _AGAIN_SECONDS
            if found.restorable:
                await self._keep_pin(raw, backup, location)
        if backup.spec.schedule is not None:
            return None  # its schedule's retention decides
        if not expired(found, ttl=backup.spec.ttl, now=self._context.now()):
            limit = parse(backup.spec.ttl) if backup.spec.ttl else DEFAULT_TTL
            if not found.restorable:
                limit = min(limit, FAILED_TTL)
            left = (found.time + limit - self._context.now()).total_seconds()
            return min(max(left, 1.0), _LONGEST_SECONDS)
        if active_restores(self._context, name):
            return _AGAIN_SECONDS
        await request_deletion(self._context, backup, DeletionCause.EXPIRED)
        return _LONGEST_SECONDS

    async def _resume(self, backup: Backup) -> None:
        """A deletion that lost its request is ended all the same: Deleting leads nowhere else."""
        for raw in self._context.deletions.items():
            phase = (raw.get("status") or {}).get("phase")
            if raw["spec"].get("backup") == backup.name and phase not in ("Completed", "Refused"):
                return
        await request_deletion(self._context, backup, DeletionCause.RESUMED)

    async def _keep_pin(self, raw: dict[str, Any], backup: Backup, place: str) -> None:
        if backup.spec.pinned == backup.status.pinned:
            return
        location = await self._context.location(place)
        mark = layout.backup_pinned(backup.name)
        if backup.spec.pinned:
            await location.store.put(mark, b"{}\n")
        else:
            await location.store.delete(mark)
        await patch_status(self._context.api, _BACKUPS, raw, {"pinned": backup.spec.pinned})
        log.info("pin kept", backup=backup.name, pinned=backup.spec.pinned)
