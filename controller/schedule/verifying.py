"""Schedules that verify: when the newest Completed backup is read whole. The decision is pure.

Problem: backups that are made every night and never looked at rot unseen.
Decision: every so often (``verify.every``) a BackupVerification of the schedule's newest Completed
backup is made; the first as soon as there is one. What came of it stands in the schedule's status,
from the backups' own, so that it outlives them, and verifications that people ask for count too.
One that could not be tried is tried again sooner. Names are derived from what is already known, so
that a controller that was killed finds the verification instead of making another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from ararat import naming
from ararat.api import Backup, BackupVerification, Schedule
from ararat.api.backup import BackupPhase, LastVerification
from ararat.api.base import Meta
from ararat.api.names import SCHEDULE
from ararat.api.verification import (
    BackupVerificationSpec,
    BackupVerificationStatus,
    VerificationCause,
    VerificationPhase,
)
from ararat.duration import parse
from ararat.errors import Conflict
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.schedule.held import parsed

#: Between two tries of what could not be tried.
_SOONER = timedelta(hours=6)
_LONGEST_SECONDS = 300.0
_SCHEDULES = resource_of(Schedule)
_VERIFICATIONS = resource_of(BackupVerification)
log = structlog.get_logger("controller.schedule")


@dataclass(frozen=True)
class Due:
    #: The backup to verify now.
    backup: Backup | None = None
    #: When something was last verified, or tried.
    since: datetime | None = None
    #: When to look again; None: when something happens.
    seconds: float | None = None


def last_of(backups: Iterable[Backup], before: LastVerification | None) -> LastVerification | None:
    """The newest result among the backups', and among what was known before. Pure."""
    known = [b.status.verification for b in backups if b.status.verification is not None]
    known += [before] if before is not None else []
    dated = [one for one in known if one.time is not None]
    if not dated:
        return None
    newest = max(dated, key=lambda one: one.time.timestamp() if one.time else 0.0)
    passed = [one.last_passed_time for one in dated if one.last_passed_time is not None]
    ran = [one.last_run_time for one in dated if one.last_run_time is not None]
    return newest.model_copy(
        update={
            "last_passed_time": max(passed, default=None),
            "last_run_time": max(ran, default=None),
        }
    )


def next_due(
    schedule: Schedule,
    backups: Iterable[Backup],
    verifications: Iterable[BackupVerification],
    *,
    now: datetime,
) -> Due:
    """``verifications``: those that this schedule asked for. Pure."""
    if schedule.spec.verify is None or schedule.spec.paused:
        return Due()
    good = [b for b in backups if b.status.phase is BackupPhase.COMPLETED]
    if not good:
        return Due()
    asked = list(verifications)
    if any(not one.status.phase.terminal for one in asked):
        return Due()
    every = parse(schedule.spec.verify.every)
    last = last_of(good, schedule.status.verification)
    sooner = last is not None and last.phase == VerificationPhase.INCONCLUSIVE
    known = last.time if last is not None else None
    if schedule.spec.verify.run:
        # Where pods are to run, having read the data is not enough, and says nothing about them.
        asked = [one for one in asked if one.spec.run is not None]
        sooner = _newest_phase(asked) is VerificationPhase.INCONCLUSIVE
        known = last.last_run_time if last is not None else None
    times = [one.status.completion_time for one in asked if one.status.completion_time]
    times += [known] if known is not None else []
    if times:
        left = max(times) + (min(every, _SOONER) if sooner else every) - now
        if left > timedelta(0):
            return Due(seconds=left.total_seconds())
    return Due(backup=max(good, key=_began), since=max(times, default=None))


def build(
    schedule: Schedule, backup: Backup, *, since: datetime | None, namespace: str
) -> BackupVerification:
    """Pure. One name for one time that something is due."""
    return BackupVerification(
        metadata=Meta(
            name=naming.object_name(backup.name, unique=(schedule.uid, str(since))),
            namespace=namespace,
            labels={SCHEDULE: naming.label_value(schedule.name)},
        ),
        spec=BackupVerificationSpec(
            backup=backup.name,
            cause=VerificationCause.SCHEDULED,
            run=schedule.spec.verify.run if schedule.spec.verify else None,
        ),
        status=BackupVerificationStatus(),
    )


class ScheduledVerifications:
    """Keys are Schedules."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        context = self._context
        raw = context.schedules.get(name, namespace)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        try:
            schedule = Schedule.parse(raw)
        except ValidationError:
            return None
        backups = parsed(context.backups.by_index("schedule", name))
        schedule = await self._show(raw, schedule, backups)
        asked = [
            BackupVerification.parse(one)
            for one in context.verifications.items()
            if (one["metadata"].get("labels") or {}).get(SCHEDULE) == naming.label_value(name)
        ]
        due = next_due(schedule, backups, asked, now=context.now())
        if due.backup is not None:
            made = build(schedule, due.backup, since=due.since, namespace=context.namespace)
            with contextlib.suppress(Conflict):
                await context.api.create(
                    _VERIFICATIONS, made.manifest(), namespace=context.namespace
                )
                log.info("verification is due", schedule=name, backup=due.backup.name)
            return _LONGEST_SECONDS
        return None if due.seconds is None else min(max(due.seconds, 0.2), _LONGEST_SECONDS)

    async def _show(
        self, raw: dict[str, Any], schedule: Schedule, backups: list[Backup]
    ) -> Schedule:
        status = schedule.status
        result = last_of(backups, status.verification)
        since = status.verify_since
        if schedule.spec.verify is None:
            since = None
        elif since is None:
            since = self._context.now()
        if (result, since) == (status.verification, status.verify_since):
            return schedule
        shown = {
            "verification": result.to_dict() if result else None,
            "verifySince": since.isoformat() if since else None,
        }
        written = await patch_status(
            self._context.api,
            _SCHEDULES,
            raw,
            shown,
            resource_version=schedule.metadata.resource_version,
        )
        return Schedule.parse(written)


def _newest_phase(ended: Iterable[BackupVerification]) -> VerificationPhase | None:
    dated = [(one.status.completion_time, one) for one in ended if one.status.completion_time]
    return max(dated, key=lambda found: found[0])[1].status.phase if dated else None


def _began(backup: Backup) -> float:
    moment = backup.status.start_time or backup.metadata.creation_timestamp
    return moment.timestamp() if moment else 0.0
