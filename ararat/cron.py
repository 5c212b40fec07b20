"""When a schedule is due: cron expressions in a time zone, right at both clock changes. Pure.

Problem: a backup at 02:30 must be made once on the day that has no 02:30, and once on the day that
has two. Schedules of one hour must not all begin at the same second.
Decision: cronsim matches wall-clock times; what a wall-clock time means as a moment is decided
here. A schedule whose hour field lets every hour through counts real hours: it runs in both of two
hours of the same name, and not in one that does not exist. Every other schedule means times of day:
one that does not exist is due when the clock has jumped over it, one that exists twice is due the
first time. ``@daily-random`` and its kin are spread by a hash of the schedule: always the same for
one schedule, different for two.
Limits: five fields; no seconds. Years without a match within cronsim's horizon are an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from ararat.errors import InvalidSpec

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
#: {m}inute, {h}our, {w}eekday, {d}ay up to 28, m{o}nth.
_SPREAD = {
    "@hourly-random": "{m} * * * *",
    "@daily-random": "{m} {h} * * *",
    "@weekly-random": "{m} {h} * * {w}",
    "@monthly-random": "{m} {h} {d} * *",
    "@yearly-random": "{m} {h} {d} {o} *",
}
_EVERY_HOUR = set(range(24))
#: A start from which every expression can be parsed.
_SOME_DAY = datetime(2026, 1, 1)  # noqa: DTZ001 - a wall-clock time
_DAY = timedelta(days=1)
#: How many due times are looked at for the distance between two of them.
_SAMPLE = 50


@dataclass(frozen=True)
class Timetable:
    """A cron expression in its five-field form, and where its clock hangs."""

    expression: str
    zone: ZoneInfo
    #: Counts real hours instead of naming times of day.
    hourly: bool

    def after(self, moment: datetime) -> datetime:
        """The first due time after ``moment``, in UTC. Raises InvalidSpec: there is none."""
        for due in self.upcoming(moment):
            return due
        raise InvalidSpec(f"the schedule {self.expression!r} is never due")

    def latest(self, after: datetime, until: datetime) -> tuple[datetime | None, int]:
        """The last due time in (after, until], and how many there are."""
        last, count = None, 0
        for due in self.upcoming(after):
            if due > until:
                break
            last, count = due, count + 1
        return last, count

    def upcoming(self, moment: datetime) -> Iterator[datetime]:
        """Due times after ``moment``, in UTC, in order, each once."""
        if self.hourly:
            yield from self._real_hours(moment.astimezone(UTC))
            return
        last = moment.astimezone(UTC)
        # From a day before: a time that the clock jumped over stands before the jump.
        start = moment.astimezone(self.zone).replace(tzinfo=None) - _DAY
        for wall in CronSim(self.expression, start):
            due = _moment(wall, self.zone)
            if due > last:
                last = due
                yield due

    def _real_hours(self, start: datetime) -> Iterator[datetime]:
        """Every moment at which the clock shows a match, stretch by stretch of one offset."""
        offset = _offset(start, self.zone)
        while True:
            jumped = None
            for wall in CronSim(self.expression, (start + offset).replace(tzinfo=None)):
                due = wall.replace(tzinfo=UTC) - offset
                if _offset(due, self.zone) != offset:
                    jumped = _jump(start, due, self.zone)
                    break
                yield due
                start = due
            if jumped is None:
                return
            # The minute before, by the new offset: the first one after the jump may match.
            offset, start = _offset(jumped, self.zone), jumped - timedelta(minutes=1)

    def interval(self, now: datetime) -> timedelta:
        """The longest distance between due times that are near: what monitoring waits for."""
        near = []
        for due in self.upcoming(now):
            near.append(due)
            if len(near) == _SAMPLE or due - now > 370 * _DAY:
                break
        return max((later - earlier for earlier, later in pairwise(near)), default=366 * _DAY)


def timetable(text: str, *, zone: str, seed: str) -> Timetable:
    """``seed`` tells schedules apart whose expression is spread. Raises InvalidSpec."""
    expression = expand(text, seed=seed)
    try:
        parsed = CronSim(expression, _SOME_DAY)
        next(parsed)
    except (CronSimError, StopIteration) as exc:
        raise InvalidSpec(
            f"{text!r} is no cron expression that is ever due ({exc or 'no such day'}): "
            "write minute, hour, day, month and weekday as in '30 2 * * *', or @daily"
        ) from exc
    return Timetable(expression, find_zone(zone), hourly=parsed.hours == _EVERY_HOUR)


def expand(text: str, *, seed: str) -> str:
    """The five fields that an alias stands for. Raises InvalidSpec."""
    word = " ".join(text.split())
    if word.startswith("@"):
        if word in _ALIASES:
            return _ALIASES[word]
        if word in _SPREAD:
            return _spread(_SPREAD[word], seed)
        known = ", ".join([*_ALIASES, *_SPREAD])
        raise InvalidSpec(f"{word[:40]!r} is no alias for a schedule: there are {known}")
    if len(word.split(" ")) != 5:
        raise InvalidSpec(
            f"{word[:80]!r} does not have five fields: minute, hour, day, month, weekday"
        )
    return word


def find_zone(name: str) -> ZoneInfo:
    """Raises InvalidSpec."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as exc:  # ZoneInfoNotFoundError is a KeyError
        raise _unknown(name) from exc
    except KeyError as exc:
        raise _unknown(name) from exc


def _unknown(name: str) -> InvalidSpec:
    return InvalidSpec(f"{name[:60]!r} is no time zone: write UTC, or one as Europe/Berlin")


def _spread(pattern: str, seed: str) -> str:
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big")
    parts = {}
    for key, low, count in (("m", 0, 60), ("h", 0, 24), ("w", 0, 7), ("d", 1, 28), ("o", 1, 12)):
        number, rest = divmod(number, count)
        parts[key] = low + rest
    return pattern.format(**parts)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment of a wall-clock time: the first of two, or the end of the gap it falls into."""
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    # Read with the offset before the gap it lies after the jump, and with the one after, before it.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _jump(before, moment, zone)


def _jump(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first minute in (low, high] that has the offset of ``high``."""
    offset = high.astimezone(zone).utcoffset()
    while high - low > timedelta(minutes=1):
        middle = low + (high - low) // 2
        middle = middle.replace(second=0, microsecond=0)
        if middle <= low:
            break
        if middle.astimezone(zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return high
