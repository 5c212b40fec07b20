"""Schedules, reconciled: a backup where one is due, a request to delete where one has expired.

What is due is decided by ``due``, what is kept by ``retention``; this module reads, makes objects
and writes status. Deleting is asked for by DeleteBackupRequest like everybody else does it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import structlog
from pydantic import ValidationError

from ararat import naming
from ararat.api import Backup, Schedule
from ararat.api.backup import BackupPhase, BackupStatus
from ararat.api.base import Meta
from ararat.api.deletion import DeletionCause
from ararat.api.names import SCHEDULE
from ararat.api.schedule import LastBackup, SchedulePhase, ScheduleStatus
from ararat.cron import Timetable, timetable
from ararat.errors import Conflict, InvalidSpec, Retryable
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.deletion.request import active_restores, request_deletion
from controller.location.open import first_error
from controller.schedule.due import Step, backup_name, next_step
from controller.schedule.held import parsed, verdicts

#: A look without an event: the clock may have been set, and age is known to nobody else.
_LONGEST_SECONDS = 300.0
_SCHEDULES = resource_of(Schedule)
_BACKUPS = resource_of(Backup)
log = structlog.get_logger("controller.schedule")


class ScheduleReconciler:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        raw = self._context.schedules.get(name, namespace)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        try:
            schedule = Schedule.parse(raw)
            table = timetable(
                schedule.spec.cron, zone=schedule.spec.time_zone, seed=self._seed(schedule)
            )
        except (ValidationError, InvalidSpec) as exc:
            await self._invalid(raw, exc)
            return None
        mine = parsed(self._context.backups.by_index("schedule", name))
        running = [b.name for b in mine if not b.status.phase.terminal]
        now = self._context.now()
        step = next_step(schedule, table, running=running, now=now)
        if step.run is not None:
            made = await self._make(raw, schedule, backup_name(name, step.run))
            mine.append(made)
        await self._show(raw, schedule, table, step, mine)
        if step.missed and step.message:
            log.warning("run left out", schedule=name, message=step.message)
            await self._context.events.event(
                raw, reason="RunMissed", message=step.message, type="Warning"
            )
        await self._expire(schedule, mine)
        if step.next is None:
            return _LONGEST_SECONDS
        left = (step.next - self._context.now()).total_seconds()
        return min(max(left, 0.2), _LONGEST_SECONDS)

    def _seed(self, schedule: Schedule) -> str:
        """The same for a schedule that is made again, another one in another cluster."""
        return f"{self._context.cluster_uid}/{schedule.metadata.namespace}/{schedule.name}"

    async def _make(self, raw: dict[str, Any], schedule: Schedule, name: str) -> Backup:
        body = scheduled_backup(schedule, name, namespace=self._context.namespace)
        try:
            made = await self._context.api.create(_BACKUPS, body, namespace=self._context.namespace)
        except Conflict:  # made before, by this controller or by one that was killed
            made = await self._context.api.get(_BACKUPS, name, namespace=self._context.namespace)
        else:
            log.info("backup is due", schedule=schedule.name, backup=name)
            await self._context.events.event(raw, reason="BackupDue", message=f"made backup {name}")
        return Backup.parse(made)

    async def _show(
        self,
        raw: dict[str, Any],
        schedule: Schedule,
        table: Timetable,
        step: Step,
        backups: list[Backup],
    ) -> None:
        newest = sorted(backups, key=lambda b: str(b.metadata.creation_timestamp), reverse=True)
        status = ScheduleStatus(
            phase=SchedulePhase.PAUSED if schedule.spec.paused else SchedulePhase.ENABLED,
            expression=table.expression,
            time_zone=schedule.spec.time_zone,
            next_run_time=step.next,
            considered_time=step.considered,
            interval_seconds=int(table.interval(self._context.now()).total_seconds()),
            last_backup=_last(newest),
            last_completed=_last([b for b in newest if b.status.phase is BackupPhase.COMPLETED])
            or schedule.status.last_completed,
            missed=schedule.status.missed + step.missed,
            backups=len({b.name for b in backups}),
        )
        absent = {"message": step.message, "nextRunTime": None}
        # A conflict: the cache was a moment behind, and nothing may be counted twice.
        await patch_status(
            self._context.api,
            _SCHEDULES,
            raw,
            {**absent, **status.to_dict()},
            resource_version=schedule.metadata.resource_version,
        )

    async def _expire(self, schedule: Schedule, backups: list[Backup]) -> None:
        """Location by location: what another cluster holds is not counted here."""
        by_location: dict[str, list[Backup]] = {}
        for backup in backups:
            by_location.setdefault(backup.status.location or "", []).append(backup)
        for name, held in by_location.items():
            if not name or not self._context.owns(name):
                continue
            try:
                location = await self._context.location(name)
                found = await verdicts(
                    location,
                    held,
                    schedule.spec.retention,
                    zone=schedule.spec.time_zone,
                    now=self._context.now(),
                )
            except Retryable as exc:
                log.warning("retention waits", schedule=schedule.name, message=exc.message)
                continue
            by_name = {backup.name: backup for backup in held}
            for verdict in found:
                backup = by_name[verdict.name]
                if not verdict.kept and not active_restores(self._context, backup.name):
                    await request_deletion(self._context, backup, DeletionCause.EXPIRED)

    async def _invalid(self, raw: dict[str, Any], exc: ValidationError | InvalidSpec) -> None:
        message = exc.message if isinstance(exc, InvalidSpec) else first_error(exc)
        status = {
            "phase": SchedulePhase.INVALID.value,
            "message": message,
            "nextRunTime": None,
        }
        with contextlib.suppress(Conflict):
            await patch_status(self._context.api, _SCHEDULES, raw, status)


def scheduled_backup(schedule: Schedule, name: str, *, namespace: str) -> dict[str, Any]:
    """The Backup of one run."""
    spec = schedule.spec.template.model_copy(
        update={"schedule": schedule.name, "ttl": None, "pinned": False, "cancel": False}
    )
    backup = Backup(
        metadata=Meta(
            name=name, namespace=namespace, labels={SCHEDULE: naming.label_value(schedule.name)}
        ),
        spec=spec,
        status=BackupStatus(),
    )
    return backup.manifest()


def _last(newest_first: list[Backup]) -> LastBackup | None:
    for backup in newest_first:
        began = backup.status.start_time or backup.metadata.creation_timestamp
        return LastBackup(
            name=backup.name,
            phase=backup.status.phase.value,
            time=began.replace(microsecond=0) if began else None,
        )
    return None
