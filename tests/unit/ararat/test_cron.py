"""Cron against a model that looks at every day of two years, in three time zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ararat import cron
from ararat.errors import InvalidSpec

#: Europe: changes at 02:00/03:00; New York: at 02:00; Lord Howe: by half an hour.
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)


def table(text: str, zone: str = "UTC", seed: str = "") -> cron.Timetable:
    return cron.timetable(text, zone=zone, seed=seed)


def due(text: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    found: list[datetime] = []
    for moment in table(text, zone).upcoming(start):
        if moment > end:
            return found
        found.append(moment)
    return found


def model(hours: set[int], minutes: set[int], weekdays: set[int], zone: ZoneInfo) -> list[datetime]:
    """By the minutes that a clock on the wall shows, one after the other."""
    result = set()
    day = date(2025, 12, 31)
    while day <= date(2028, 1, 1):
        if day.isoweekday() % 7 in weekdays:
            shown: dict[tuple[int, int], datetime] = {}
            start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
            offsets = {(start + timedelta(hours=h)).astimezone(zone).utcoffset() for h in (0, 40)}
            wanted = {(h, m) for h in hours for m in minutes}
            if len(offsets) == 1:
                (offset,) = offsets
                assert offset is not None
                for h, m in wanted:
                    wall = datetime(day.year, day.month, day.day, h, m, tzinfo=UTC)
                    shown[h, m] = wall - offset
            else:  # a day of change: watch the clock
                reached: list[tuple[datetime, tuple[int, int]]] = []
                for minute in range(40 * 60):
                    moment = start + timedelta(minutes=minute)
                    wall = moment.astimezone(zone)
                    if wall.date() == day:
                        reached.append((moment, (wall.hour, wall.minute)))
                for clock in wanted:
                    exact = [moment for moment, seen in reached if seen == clock]
                    past = [moment for moment, seen in reached if seen > clock]
                    shown[clock] = (exact or past)[0]  # never shown: when it is first past
            result |= set(shown.values())
        day += timedelta(days=1)
    return sorted(moment for moment in result if BEGIN < moment <= END)


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=3, deadline=None)
@given(
    hours=st.sets(st.integers(0, 4), min_size=1, max_size=3),
    minutes=st.sets(st.sampled_from([0, 15, 30, 59]), min_size=1, max_size=3),
    weekdays=st.sampled_from([set(range(7)), {0}, {0, 3}]),
)
def test_times_of_day_are_met_once_each_day(zone, hours, minutes, weekdays):
    fields = [
        ",".join(map(str, sorted(minutes))),
        ",".join(map(str, sorted(hours))),
        "*",
        "*",
        "*" if len(weekdays) == 7 else ",".join(map(str, sorted(weekdays))),
    ]
    assert due(" ".join(fields), zone, BEGIN, END) == model(
        hours, minutes, weekdays, ZoneInfo(zone)
    )


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("text", ["@hourly", "30 * * * *", "*/15 * * * *"])
def test_every_hour_means_every_real_hour(zone, text):
    # Around the changes, and not the quiet time between.
    found = due(text, zone, datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    step = {"*/15 * * * *": timedelta(minutes=15)}.get(text, timedelta(hours=1))
    assert {b - a for a, b in pairwise(found)} == {step}
    found = due(text, zone, datetime(2026, 10, 20, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC))
    assert {b - a for a, b in pairwise(found)} == {step}


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=3, deadline=None)
@given(minutes=st.sets(st.sampled_from([0, 7, 15, 29, 30, 31, 45, 59]), min_size=1, max_size=3))
def test_every_hour_by_the_minutes_that_a_clock_shows(zone, minutes):
    """Also where it jumps by half an hour, and one of the minutes is shown twice or never."""
    text = ",".join(map(str, sorted(minutes))) + " * * * *"
    clock = ZoneInfo(zone)
    for month in (3, 10):  # the changes of all three are in these weeks
        start = datetime(2026, month, 1, tzinfo=UTC)
        every = (start + timedelta(minutes=n) for n in range(1, 40 * 24 * 60))
        shown = [moment for moment in every if moment.astimezone(clock).minute in minutes]
        assert due(text, zone, start, shown[-1]) == shown


def test_berlin_in_spring_and_autumn():
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    # 29 March has no 02:30: at 03:00 CEST.
    assert table("30 2 * * *", "Europe/Berlin").after(spring) == datetime(
        2026, 3, 29, 1, 0, tzinfo=UTC
    )
    # Several that do not exist are one run.
    assert due(
        "0,15,30 2 * * *", "Europe/Berlin", spring, datetime(2026, 3, 29, 12, tzinfo=UTC)
    ) == [datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]
    autumn = datetime(2026, 10, 24, 12, tzinfo=UTC)
    for text in ("30 2 * * *", "30 */2 * * *"):
        runs = due(text, "Europe/Berlin", autumn, datetime(2026, 10, 25, 2, tzinfo=UTC))
        assert runs[-1] == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_in_the_second_of_two_hours_nothing_is_due_again():
    between = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)  # 02:45, the first time
    assert table("30 2 * * *", "Europe/Berlin").after(between) == datetime(
        2026, 10, 26, 1, 30, tzinfo=UTC
    )


@settings(max_examples=30)
@given(seed=st.text(), alias=st.sampled_from(["hourly", "daily", "weekly", "monthly", "yearly"]))
def test_spread_is_legal_and_stable(seed, alias):
    text = f"@{alias}-random"
    first = table(text, seed=seed)
    assert first == table(text, seed=seed)
    assert first.after(BEGIN) > BEGIN


def test_spread_spreads():
    times = {cron.expand("@daily-random", seed=f"cluster/ararat/{n}") for n in range(200)}
    assert len(times) > 150
    hours = {text.split()[1] for text in times}
    assert len(hours) == 24


@pytest.mark.parametrize(
    ("text", "zone", "says"),
    [
        ("* * * *", "UTC", "five fields"),
        ("0 0 0 * * *", "UTC", "five fields"),
        ("@fortnightly", "UTC", "no alias"),
        ("61 * * * *", "UTC", "Bad minute"),
        ("0 0 30 2 *", "UTC", "ever due"),
        ("@daily", "Mars/Olympus", "no time zone"),
        ("@daily", "../../etc/passwd", "no time zone"),
        ("@daily", "", "no time zone"),
    ],
)
def test_what_cannot_be_is_refused(text, zone, says):
    with pytest.raises(InvalidSpec, match=says):
        table(text, zone)


def test_interval():
    assert table("@daily").interval(BEGIN) == timedelta(days=1)
    assert table("0 2 * * 1-5").interval(BEGIN) == timedelta(days=3)
    assert table("@yearly").interval(BEGIN) >= timedelta(days=365)


def test_latest():
    day = datetime(2026, 5, 5, tzinfo=UTC)
    assert table("0 */6 * * *").latest(day, day + timedelta(hours=13)) == (
        day + timedelta(hours=12),
        2,
    )
    assert table("@daily").latest(day, day + timedelta(hours=3)) == (None, 0)
