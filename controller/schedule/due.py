"""What a schedule has to do at one moment. Pure.

Everything that was due is dealt with once: a backup is made for it, it waits, or it is left out.
``considered`` is the moment until which that has been done; it is written before anything else
depends on it, and names are made from due times, so a controller that is killed in between makes
the same backup again and finds it made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ararat.api import Schedule
from ararat.api.schedule import Overlap, SchedulePhase
from ararat.cron import Timetable
from ararat.duration import parse

_STAMP = "%Y%m%d%H%M%S"


@dataclass(frozen=True)
class Step:
    #: Make a backup for this due time.
    run: datetime | None
    #: Everything due until then is dealt with once ``run`` has been made.
    considered: datetime
    #: The next due time; None while paused.
    next: datetime | None
    #: Runs that are left out.
    missed: int = 0
    #: Why something that was due is not made, in one sentence.
    message: str | None = None


def next_step(
    schedule: Schedule, timetable: Timetable, *, running: list[str], now: datetime
) -> Step:
    """``running``: names of the schedule's backups that have not ended."""
    spec = schedule.spec
    if spec.paused:
        since = schedule.status.considered_time or now
        return Step(run=None, considered=since, next=None, message="paused")
    since = _anchor(schedule, timetable, now)
    window = now - parse(spec.catch_up_within)
    due, count = timetable.latest(max(since, window), now)
    # What lies before the window counts as one: it may be years of due times.
    lost = int(since < window and timetable.after(since) <= window)
    upcoming = timetable.after(now)
    if due is None:
        message = "what was due while no controller ran is too old to be made up for"
        return Step(
            run=None,
            considered=now if lost else since,
            next=upcoming,
            missed=lost,
            message=message if lost else None,
        )
    if not running or backup_name(schedule.name, due) in running:  # made, and not noted any more
        return Step(run=due, considered=due, next=upcoming, missed=lost + count - 1)
    names = ", ".join(sorted(running)[:3])
    clock = f"{due.astimezone(timetable.zone):%H:%M}"
    if spec.overlap is Overlap.QUEUE:
        message = f"the run of {clock} waits for {names}"
        return Step(run=None, considered=since, next=upcoming, message=message)
    message = f"the run of {clock} was left out: {names} still ran"
    return Step(run=None, considered=due, next=upcoming, missed=lost + count, message=message)


def _anchor(schedule: Schedule, timetable: Timetable, now: datetime) -> datetime:
    """Since when due times count: none is owed for a time before, or while it was paused."""
    status = schedule.status
    if status.considered_time is None:
        return schedule.metadata.creation_timestamp or now
    read = (timetable.expression, schedule.spec.time_zone)
    if (status.expression, status.time_zone) != read or status.phase is SchedulePhase.PAUSED:
        return now
    return status.considered_time


def backup_name(schedule: str, due: datetime) -> str:
    """``<schedule>-YYYYMMDDhhmmss`` in UTC, cut so that it stays a name."""
    stamp = due.astimezone(UTC).strftime(_STAMP)
    return f"{schedule[: 253 - len(stamp) - 1].rstrip('.-')}-{stamp}"
