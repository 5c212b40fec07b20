"""A Schedule as people read it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ararat import human
from ararat.api import Backup, Schedule
from ararat.api.schedule import Retention, ScheduleSpec
from ararat.cli import backup_view, render, sections, verification_view

HEADERS = ("NAME", "PHASE", "CRON", "ZONE", "NEXT", "LAST", "RESULT", "BACKUPS")


def table(schedules: Iterable[Schedule], now: datetime) -> str:
    rows = []
    for schedule in schedules:
        status, spec = schedule.status, schedule.spec
        last = status.last_backup
        rows.append(
            (
                schedule.name,
                str(status.phase or "Unknown"),
                status.expression or spec.cron,
                spec.time_zone,
                coming(status.next_run_time, now),
                f"{render.age(last.time, now)} ago" if last and last.time else "",
                last.phase if last else "",
                str(status.backups),
            )
        )
    return render.table(HEADERS, rows)


def describe(schedule: Schedule, backups: Sequence[Backup], now: datetime) -> str:
    status, spec = schedule.status, schedule.spec
    head = render.fields(
        [
            ("Name", schedule.name),
            ("Phase", str(status.phase or "Unknown")),
            ("Message", status.message),
            ("Cron", _cron(schedule)),
            ("Time zone", spec.time_zone),
            ("Next run", _next(schedule, now)),
            ("Overlap", str(spec.overlap)),
            ("Catches up", f"what was due in the last {spec.catch_up_within}"),
            ("Last completed", status.last_completed.name if status.last_completed else "none"),
            ("Left out", f"{status.missed} runs" if status.missed else None),
            ("Keeps", keeps(spec.retention)),
            ("Verifies", f"every {spec.verify.every}" if spec.verify else "never"),
            ("Verified", verification_view.last(status.verification, now)),
        ]
    )
    asked = render.fields(backup_view.asked_for(spec.template), indent="  ")
    shown = render.section("Backups:", backup_view.table(backups[:20], now)) if backups else ""
    parts = [
        head,
        render.section("Each backup:", asked),
        shown,
        sections.conditions(status.conditions, now),
    ]
    return "\n".join(part for part in parts if part)


def kept(rows: Sequence[Mapping[str, Any]]) -> str:
    """What ``controller show retention`` prints."""
    lines = [
        (
            str(row["name"]),
            str(row["phase"]),
            str(row["time"]),
            "keep" if row["kept"] else "DELETE",
            ", ".join(row["reasons"]),
        )
        for row in rows
    ]
    if not lines:
        return "it has no backup that has ended"
    return render.table(("NAME", "PHASE", "BEGAN", "", "BECAUSE"), lines)


def keeps(retention: Retention) -> str:
    """``7 daily, 5 weekly; none older than 90d; at least 1 completed``."""
    counts = [
        (retention.keep_last, "last"),
        (retention.keep_hourly, "hourly"),
        (retention.keep_daily, "daily"),
        (retention.keep_weekly, "weekly"),
        (retention.keep_monthly, "monthly"),
        (retention.keep_yearly, "yearly"),
    ]
    rules = ", ".join(f"{count} {word}" for count, word in counts if count)
    if retention.ttl:
        age = f"none older than {retention.ttl}"
    else:
        age = "" if rules else "those younger than 30d"
    floor = f"at least {retention.keep_at_least_completed} completed"
    return "; ".join(part for part in (rules, age, floor) if part)


def coming(moment: datetime | None, now: datetime) -> str:
    """``in 3h 10m``."""
    if moment is None:
        return ""
    return f"in {human.duration((moment - now).total_seconds())}"


def _cron(schedule: Schedule) -> str:
    spec, expression = schedule.spec, schedule.status.expression
    if expression and expression != spec.cron:
        return f"{spec.cron} ({expression})"
    return spec.cron


def _next(schedule: Schedule, now: datetime) -> str | None:
    moment = schedule.status.next_run_time
    if moment is None:
        return None
    return f"{moment.astimezone(_zone(schedule.spec)):%Y-%m-%d %H:%M %Z} ({coming(moment, now)})"


def _zone(spec: ScheduleSpec) -> Any:
    try:
        return ZoneInfo(spec.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
