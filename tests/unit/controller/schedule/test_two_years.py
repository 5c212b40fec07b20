"""Two years of a schedule by its clock, in three time zones, against what its documentation says.

The model knows nothing of how it is done: it has the list of due times that a clock on the wall
shows, and at each look a list of those that nobody has dealt with yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ararat.api import Schedule
from ararat.cron import timetable
from controller.schedule.due import next_step
from tests.unit.ararat.test_cron import BEGIN, END, ZONES, model

HOUR = timedelta(hours=1)
_DUES: dict[tuple[str, str], list[datetime]] = {}
#: Cron expressions, and what a clock on the wall must show for them.
CRONS = {
    "30 2 * * *": ({2}, {30}, set(range(7))),
    "0,30 1-3 * * *": ({1, 2, 3}, {0, 30}, set(range(7))),
    "15 */6 * * 0": ({0, 6, 12, 18}, {15}, {0}),
}


def dues(cron: str, zone: str) -> list[datetime]:
    if (cron, zone) not in _DUES:
        hours, minutes, weekdays = CRONS[cron]
        _DUES[cron, zone] = model(hours, minutes, weekdays, ZoneInfo(zone))
    return _DUES[cron, zone]


@dataclass
class Model:
    """As docs/schedules.md has it."""

    queue: bool
    window: timedelta
    #: Due, and neither made nor left out.
    open: list[datetime] = field(default_factory=list)
    made: list[datetime] = field(default_factory=list)

    def look(self, due: list[datetime], now: datetime, *, paused: bool, running: bool) -> None:
        """``due``: what has become due since the last look."""
        self.open += due
        if paused:
            self.open = []
            return
        self.open = [moment for moment in self.open if now - moment < self.window]
        if running:
            if not self.queue:
                self.open = []
        elif self.open:  # several that were missed are made up for once
            self.made.append(self.open[-1])
            self.open = []


looks = st.lists(
    st.tuples(
        # Minutes until the next look: soon, half a day, and days when nobody led.
        st.sampled_from([25, 60, 300, 660, 780, 1800, 9 * 24 * 60]),
        st.sampled_from([False] * 9 + [True]),  # paused meanwhile
        st.sampled_from([0, 0, 0, 1, 5]),  # the backup that is made runs for so many looks
    ),
    min_size=5,
    max_size=60,
).map(lambda found: [*found, *[(9 * 24 * 60, False, 0)] * (len(found) // 6 + 1)])


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=3, deadline=None)
@given(
    cron=st.sampled_from(sorted(CRONS)),
    overlap=st.sampled_from(["Forbid", "Queue"]),
    window=st.sampled_from([1, 12, 48]),
    pattern=looks,
)
def test_two_years_of_looks(zone, cron, overlap, window, pattern):
    """The pattern of looks, over and over, until two years are over."""
    table = timetable(cron, zone=zone, seed="")
    all_due = dues(cron, zone)
    expected = Model(queue=overlap == "Queue", window=window * HOUR)
    made: list[datetime] = []
    status: dict[str, object] = {}
    now, seen, number, busy = BEGIN, 0, 0, 0
    while True:
        minutes, paused, lasts = pattern[number % len(pattern)]
        number += 1
        # A second past: who comes first at a due time to the second is nobody's business.
        now += timedelta(minutes=minutes, seconds=number == 1)
        if now > END:
            break
        running = [f"running-{number}"] if busy else []
        found = next_step(
            _schedule(cron, zone, overlap, window, paused, status), table, running=running, now=now
        )
        due = []
        while seen < len(all_due) and all_due[seen] <= now:
            due.append(all_due[seen])
            seen += 1
        # Nobody knows when in between it was woken up: until now it was paused.
        asleep = status.get("phase") == "Paused"
        expected.look([] if asleep else due, now, paused=paused, running=bool(running))
        busy = max(busy - 1, 0)
        if found.run is not None:
            made.append(found.run)
            busy = lasts
        if not paused:
            assert found.next == next(iter(all_due[seen:]), found.next)
        status = {
            "phase": "Paused" if paused else "Enabled",
            "expression": table.expression,
            "timeZone": zone,
            "consideredTime": found.considered.isoformat(),
        }
        assert made == expected.made, (now, paused, running)
    assert made == sorted(set(made))
    assert set(made) <= set(all_due)


def _schedule(
    cron: str, zone: str, overlap: str, window: int, paused: bool, status: dict[str, object]
) -> Schedule:
    spec = {
        "cron": cron,
        "timeZone": zone,
        "overlap": overlap,
        "catchUpWithin": f"{window}h",
        "paused": paused,
    }
    metadata = {"name": "s", "namespace": "ararat", "creationTimestamp": BEGIN.isoformat()}
    return Schedule.parse({"metadata": metadata, "spec": spec, "status": status})


def test_the_model_notices_a_lost_day():
    """Proof that it can fail: looks that come too late for the window."""
    one = Model(queue=False, window=HOUR)
    due = datetime(2026, 5, 1, 2, tzinfo=UTC)
    one.look([due], due + 2 * HOUR, paused=False, running=False)
    assert one.made == []
    one.look([due + 3 * HOUR], due + 3.5 * HOUR, paused=False, running=False)
    assert one.made == [due + 3 * HOUR]
