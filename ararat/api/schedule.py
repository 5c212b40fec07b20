"""Schedule: backups made by the clock, and how long they are kept."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from ararat import duration

from .backup import BackupSpec, LastVerification
from .base import Model, Resource, Status
from .verification import VerificationRun


class Overlap(StrEnum):
    FORBID = "Forbid"
    QUEUE = "Queue"


class Retention(Model):
    """Which backups of a schedule are kept; with no rule at all, those younger than 30 days."""

    keep_last: int = Field(default=0, ge=0, le=10000, description="The newest ones.")
    keep_hourly: int = Field(
        default=0, ge=0, le=10000, description="One of each of the last hours that have one."
    )
    keep_daily: int = Field(
        default=0, ge=0, le=10000, description="One of each of the last days that have one."
    )
    keep_weekly: int = Field(
        default=0, ge=0, le=10000, description="One of each of the last weeks (ISO) that have one."
    )
    keep_monthly: int = Field(
        default=0, ge=0, le=10000, description="One of each of the last months that have one."
    )
    keep_yearly: int = Field(
        default=0, ge=0, le=10000, description="One of each of the last years that have one."
    )
    ttl: str | None = Field(
        default=None,
        pattern=duration.PATTERN,
        description="None gets older than this, as in 90d or 1w2d12h, whatever rule would keep it.",
    )
    keep_at_least_completed: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="Good copies of each volume that stay, however old and whatever the rules say.",
    )


class ScheduleVerify(Model):
    """How often a backup of the schedule is read whole."""

    every: str = Field(
        default="7d",
        pattern=duration.PATTERN,
        description="The newest Completed backup is restored into scratch volumes, read, and "
        "compared with what it promises, this often, as in 7d.",
    )
    run: VerificationRun | None = Field(
        default=None, description="Start its pods as well; unset: the data is read only."
    )


class ScheduleSpec(Model):
    cron: str = Field(
        min_length=1,
        max_length=200,
        description="Minute, hour, day, month, weekday; or @hourly, @daily, @weekly, @monthly, "
        "@yearly, or one of them with -random, which picks a time that never changes for this "
        "schedule and differs from others'.",
    )
    time_zone: str = Field(
        default="UTC", description="Time zone of cron and of retention's days, as Europe/Berlin."
    )
    paused: bool = Field(
        default=False, description="No backup is made, nor made up for afterwards."
    )
    overlap: Overlap = Field(
        default=Overlap.FORBID,
        description="While the last backup still runs. Forbid: this one is left out. Queue: it "
        "begins when the last one has ended; only the newest waits.",
    )
    catch_up_within: str = Field(
        default="12h",
        pattern=duration.PATTERN,
        description="A backup that was missed is made up for, once, if it was due no longer ago.",
    )
    template: BackupSpec = Field(default=BackupSpec(), description="The backups to make.")
    retention: Retention = Field(default=Retention(), description="Which of them are kept.")
    verify: ScheduleVerify | None = Field(
        default=None, description="Verify backups of it from time to time; never where unset."
    )


class SchedulePhase(StrEnum):
    ENABLED = "Enabled"
    PAUSED = "Paused"
    INVALID = "Invalid"


class LastBackup(Model):
    name: str = Field(default="", description="Name of the Backup.")
    phase: str = Field(default="", description="Its phase.")
    time: datetime | None = Field(default=None, description="When it began.")


class ScheduleStatus(Status):
    phase: SchedulePhase | None = Field(default=None, description="Whether backups are made.")
    expression: str | None = Field(
        default=None, description="The five fields that hold, where cron is an alias."
    )
    time_zone: str | None = Field(default=None, description="Time zone that they were read in.")
    next_run_time: datetime | None = Field(default=None, description="When the next one is due.")
    considered_time: datetime | None = Field(
        default=None, description="Everything that was due until then is dealt with."
    )
    interval_seconds: int = Field(
        default=0, description="Longest time between two runs; what alerts wait for."
    )
    last_backup: LastBackup | None = Field(default=None, description="The newest one.")
    last_completed: LastBackup | None = Field(
        default=None, description="The newest that is Completed."
    )
    verification: LastVerification | None = Field(
        default=None, description="What the last verification of a backup of it found."
    )
    verify_since: datetime | None = Field(
        default=None, description="When it was first asked to verify."
    )
    missed: int = Field(default=0, description="Runs that were left out so far.")
    backups: int = Field(default=0, description="Backups that it has now.")


class Schedule(Resource[ScheduleSpec, ScheduleStatus]):
    """Makes backups by the clock, and lets go of those that its retention does not keep."""

    KIND: ClassVar[str] = "Schedule"
    PLURAL: ClassVar[str] = "schedules"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Cron", "string", ".status.expression", 0),
        ("Zone", "string", ".spec.timeZone", 0),
        # Not of type date: kubectl shows a time to come as <invalid>.
        ("Next", "string", ".status.nextRunTime", 0),
        ("Last", "date", ".status.lastBackup.time", 0),
        ("Result", "string", ".status.lastBackup.phase", 0),
        ("Backups", "integer", ".status.backups", 0),
        ("Verified", "date", ".status.verification.lastPassedTime", 0),
        ("Message", "string", ".status.message", 0),
    )
