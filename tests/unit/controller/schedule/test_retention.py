"""Retention against a model in plain words, over two years of virtual time in three time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ararat.api.backup import BackupPhase
from ararat.api.schedule import Retention
from ararat.cron import timetable
from controller.schedule.retention import Held, decide, expired, undecided

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
GOOD, PART, BAD = BackupPhase.COMPLETED, BackupPhase.PARTIALLY_FAILED, BackupPhase.FAILED
VOLUMES = ("a", "b", "c")

retentions = st.builds(
    Retention,
    keep_last=st.integers(0, 3),
    keep_hourly=st.integers(0, 3),
    keep_daily=st.integers(0, 8),
    keep_weekly=st.integers(0, 5),
    keep_monthly=st.integers(0, 13),
    keep_yearly=st.integers(0, 3),
    ttl=st.sampled_from([None, None, "10d", "90d", "1w2d12h"]),
    keep_at_least_completed=st.integers(0, 3),
)


def outcome(random: st.DataObject, *, failing: bool) -> tuple[BackupPhase, frozenset[str]]:
    if not failing:
        return GOOD, frozenset(VOLUMES)
    held = random.draw(st.sets(st.sampled_from(VOLUMES), max_size=2))
    return (PART, frozenset(held)) if held else (BAD, frozenset())


def model(backups: list[Held], r: Retention, zone: ZoneInfo, now: datetime) -> set[str]:
    """What is kept, each rule as the documentation words it."""
    restorable = [b for b in backups if b.phase in (GOOD, PART)]
    kept = {b.name for b in backups if b.pinned}
    kept |= {b.name for b in backups if b.phase is BAD and now - b.time <= timedelta(days=14)}

    def best(some: list[Held]) -> Held:
        return max([b for b in some if b.phase is GOOD] or some, key=lambda b: b.time)

    periods = {
        "%Y-%m-%d %H %z": r.keep_hourly,
        "%Y-%m-%d": r.keep_daily,
        "%G-%V": r.keep_weekly,
        "%Y-%m": r.keep_monthly,
        "%Y": r.keep_yearly,
    }
    rules = any([r.keep_last, *periods.values()])
    limit = {None: None, "10d": 10, "90d": 90, "1w2d12h": 9.5}[r.ttl]
    if not rules and limit is None:
        limit = 30
    chosen: set[str] = set()
    if rules:
        by_time = sorted(restorable, key=lambda b: b.time)
        chosen |= {b.name for b in by_time[max(0, len(by_time) - r.keep_last) :]}
        chosen |= {b.name for b in by_time[-1:]}
        for form, count in periods.items():
            shown = {b.name: b.time.astimezone(zone).strftime(form) for b in restorable}
            latest = sorted(
                set(shown.values()),
                key=lambda p: max(b.time for b in restorable if shown[b.name] == p),
            )
            for period in latest[max(0, len(latest) - count) :]:
                chosen.add(best([b for b in restorable if shown[b.name] == period]).name)
    else:
        chosen = {b.name for b in restorable}
    if limit is not None:
        chosen -= {b.name for b in restorable if now - b.time > timedelta(days=limit)}
    floor = r.keep_at_least_completed
    for b in restorable:
        newer = [x for x in restorable if x.time > b.time]
        if b.phase is GOOD and sum(x.phase is GOOD for x in newer) < floor:
            chosen.add(b.name)
        assert b.good is not None
        for volume in b.good if b.phase is PART else ():
            assert all(x.good is not None for x in newer)
            if sum(x.phase is GOOD or volume in (x.good or ()) for x in newer) < floor:
                chosen.add(b.name)
    return kept | chosen


@settings(max_examples=25, deadline=None)
@given(
    retention=retentions,
    zone=st.sampled_from(ZONES),
    steps=st.lists(
        st.tuples(
            st.integers(1, 60 * 24 * 40),
            st.sampled_from([GOOD, GOOD, PART, BAD]),
            st.sets(st.sampled_from(VOLUMES), min_size=1, max_size=2),
            st.booleans(),
        ),
        max_size=30,
    ),
    later=st.integers(0, 60 * 24 * 60),
)
def test_any_history(retention, zone, steps, later):
    now, backups = BEGIN, []
    for number, (minutes, phase, good, pinned) in enumerate(steps):
        now += timedelta(minutes=minutes)
        held = frozenset(VOLUMES) if phase is GOOD else frozenset(good)
        backups.append(Held(f"b{number}", now, phase, pinned=pinned and number % 9 == 0, good=held))
    now += timedelta(minutes=later)
    clock = ZoneInfo(zone)
    found = decide(backups, retention, zone=clock, now=now)
    assert {v.name for v in found if v.kept} == model(backups, retention, clock, now)
    # Where it is only known what had to be asked for, the same is kept.
    asked = set(undecided([_unknown(b) for b in backups], retention, zone=clock, now=now))
    partly = [b if b.name in asked else _unknown(b) for b in backups]
    again = decide(partly, retention, zone=clock, now=now)
    assert {v.name for v in again if v.kept} == {v.name for v in found if v.kept}


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=3, deadline=None)
@given(retention=retentions, random=st.data())
def test_two_years_by_the_clock(zone, retention, random):
    """A backup each night, whole weeks of failures; what has expired goes at once."""
    clock = ZoneInfo(zone)
    table = timetable("30 2 * * *", zone=zone, seed="")
    starts = random.draw(st.lists(st.integers(0, 730), max_size=6))
    failing_days = {day for start in starts for day in range(start, start + 12)}
    standing: list[Held] = []
    everything: list[Held] = []
    now = BEGIN
    night = 0
    while (now := table.after(now)) < END:
        phase, good = outcome(random, failing=night in failing_days)
        made = Held(f"night-{night:03d}", now, phase, good=good)
        standing.append(made)
        everything.append(made)
        found = decide(standing, retention, zone=clock, now=now)
        kept = {v.name for v in found if v.kept}
        standing = [b for b in standing if b.name in kept]
        if retention.keep_at_least_completed:
            for volume in VOLUMES:
                copies = [b for b in everything if volume in (b.good or ())]
                assert not copies or copies[-1] in standing, (volume, night)
        night += 1
        if night % 180 == 0:  # deleting as time goes by keeps what judging the whole past keeps
            assert kept == model(everything, retention, clock, now)
    assert night == 730


def _unknown(backup: Held) -> Held:
    return Held(backup.name, backup.time, backup.phase, pinned=backup.pinned)


def test_a_volume_that_was_removed_does_not_hold_backups():
    day = timedelta(days=1)
    old = Held("old", BEGIN, PART, good=frozenset({"gone"}))
    new = Held("new", BEGIN + 40 * day, GOOD, good=frozenset({"other"}))
    found = decide([old, new], Retention(), zone=ZoneInfo("UTC"), now=BEGIN + 41 * day)
    assert {v.name: v.kept for v in found} == {"new": True, "old": False}


def test_reasons_are_told():
    backup = Held("only", BEGIN, GOOD)
    (verdict,) = decide(
        [backup],
        Retention(keep_daily=7, keep_yearly=1),
        zone=ZoneInfo("Europe/Berlin"),
        now=BEGIN,
    )
    assert verdict.reasons == (
        "newest",
        "daily 2026-01-01",
        "yearly 2026",
        "one of the last completed",
    )


@pytest.mark.parametrize(
    ("phase", "ttl", "pinned", "days"),
    [
        (GOOD, None, False, 30),
        (GOOD, "2d", False, 2),
        (BAD, None, False, 14),
        (GOOD, "2d", True, 0),
    ],
)
def test_backups_outside_schedules(phase, ttl, pinned, days):
    backup = Held("one", BEGIN, phase, pinned=pinned)
    for age in (0, 1, days, days + 1, 4000):
        now = BEGIN + timedelta(days=age)
        assert expired(backup, ttl=ttl, now=now) == (not pinned and age > days)
