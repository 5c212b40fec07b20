"""What a schedule does at one moment: once, in time, or not at all, and always for a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ararat.api import Schedule
from ararat.cron import timetable
from controller.schedule.due import backup_name, next_step

MADE = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def schedule(*, status: dict[str, object] | None = None, **spec: object) -> Schedule:
    return Schedule.parse(
        {
            "metadata": {
                "name": "nightly",
                "namespace": "ararat",
                "creationTimestamp": MADE.isoformat(),
            },
            "spec": {"cron": "0 2 * * *", **spec},
            "status": status or {},
        }
    )


def known(considered: datetime, **status: object) -> dict[str, object]:
    return {
        "phase": "Enabled",
        "expression": "0 2 * * *",
        "timeZone": "UTC",
        "consideredTime": considered.isoformat(),
        **status,
    }


def step(of: Schedule, now: datetime, *running: str):
    table = timetable(of.spec.cron, zone=of.spec.time_zone, seed="")
    return next_step(of, table, running=list(running), now=now)


def test_a_new_schedule_is_owed_nothing():
    found = step(schedule(), MADE)
    assert (found.run, found.next) == (None, datetime(2026, 5, 2, 2, tzinfo=UTC))


def test_due_is_made_once():
    due = datetime(2026, 5, 2, 2, tzinfo=UTC)
    first = step(schedule(), due + timedelta(seconds=3))
    assert first.run == due == first.considered
    again = step(schedule(status=known(due)), due + timedelta(seconds=4))
    assert again.run is None


def test_missed_is_made_up_for_once_within_the_window():
    late = schedule(status=known(MADE))
    found = step(late, datetime(2026, 5, 5, 9, tzinfo=UTC))
    assert found.run == datetime(2026, 5, 5, 2, tzinfo=UTC)
    assert found.missed == 1  # however many days it was
    too_late = step(late, datetime(2026, 5, 5, 19, tzinfo=UTC))
    assert too_late.run is None
    assert too_late.missed == 1
    assert too_late.message is not None
    assert step(schedule(status=known(too_late.considered)), too_late.considered).message is None


def test_forbid_leaves_out_and_queue_waits():
    due = datetime(2026, 5, 2, 2, tzinfo=UTC)
    left_out = step(schedule(status=known(MADE)), due + HOUR, "nightly-1")
    assert (left_out.run, left_out.considered, left_out.missed) == (None, due, 1)
    assert "nightly-1 still ran" in (left_out.message or "")
    queued = schedule(status=known(MADE), overlap="Queue")
    waits = step(queued, due + HOUR, "nightly-1")
    assert (waits.run, waits.considered, waits.missed) == (None, MADE, 0)
    assert step(queued, due + 2 * HOUR).run == due
    # The controller was killed after it had made the backup and before it had noted that.
    own = step(schedule(status=known(MADE)), due + HOUR, backup_name("nightly", due))
    assert (own.run, own.missed) == (due, 0)


def test_paused_time_is_not_owed():
    paused = step(schedule(status=known(MADE), paused=True), MADE + 100 * HOUR)
    assert (paused.run, paused.next) == (None, None)
    awake = schedule(status=known(MADE, phase="Paused"))
    now = datetime(2026, 5, 5, 3, tzinfo=UTC)
    assert step(awake, now).run is None
    assert step(awake, now).considered == now


def test_a_changed_clock_is_not_owed():
    now = datetime(2026, 5, 5, 3, tzinfo=UTC)
    moved = schedule(status=known(MADE), cron="0 1 * * *")
    assert step(moved, now).run is None
    assert step(schedule(status=known(MADE), timeZone="Asia/Tokyo"), now).run is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60 * 30), min_size=1, max_size=60))
def test_whenever_it_is_looked_at_no_run_is_made_twice(pauses):
    now, considered, made = MADE, MADE, []
    for minutes in pauses:
        now += timedelta(minutes=minutes)
        found = step(schedule(status=known(considered)), now)
        assert found.considered >= considered
        considered = found.considered
        if found.run is not None:
            made.append(found.run)
            assert now - found.run <= timedelta(hours=12)
        assert found.next is not None
        assert found.next > now
    assert made == sorted(set(made))


def test_names():
    assert backup_name("nightly", MADE) == "nightly-20260501120000"
    assert len(backup_name("x" * 253, MADE)) == 253
