"""When a repository is pruned and checked, what that waits for, and what never happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ararat.api.repository import (
    Maintenance,
    MaintenanceAction,
    MaintenanceRun,
    RepositoryPhase,
)
from ararat.errors import InvalidSpec
from controller.maintenance.planner import PARTS, Ending, Plan, Run, Situation, decide, overdue

MADE = datetime(2026, 5, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PLAN = Plan()


def situation(**state: Any) -> Situation:
    return Situation(phase=RepositoryPhase.READY, maintenance=Maintenance(**state), made=MADE)


def failed(reason: str, when: datetime, **state: Any) -> Situation:
    last = MaintenanceRun(
        action=MaintenanceAction.PRUNE, completion_time=when, good=False, reason=reason
    )
    return situation(last=last, failures=state.pop("failures", 1), **state)


def test_a_month_of_a_quiet_repository():
    """Every byte is read once in thirty days, and it is pruned once a week."""
    state = Maintenance()
    now, read, prunes = MADE, [], 0
    while now < MADE + 31 * DAY:
        now += HOUR
        run = decide(Situation(RepositoryPhase.READY, state, MADE), PLAN, now=now).run
        if run is None:
            continue
        if run.action is MaintenanceAction.CHECK:
            read.append(run.data_subset)
            state = state.model_copy(
                update={"last_check_time": now, "data_subset": run.data_subset}
            )
        else:
            prunes += 1
            state = state.model_copy(update={"last_prune_time": now})
    assert sorted(read[:PARTS]) == list(range(1, PARTS + 1))
    assert prunes == 4


def test_much_unused_is_pruned_earlier_but_not_for_ever():
    state: dict[str, Any] = {
        "last_prune_time": MADE,
        "last_check_time": MADE + 2 * DAY,
        "size_bytes": 1000,
        "used_bytes": 900,
    }
    assert decide(situation(**state), PLAN, now=MADE + 2 * DAY).run == Run(MaintenanceAction.PRUNE)
    state["used_bytes"] = 901
    assert decide(situation(**state), PLAN, now=MADE + 2 * DAY).run is None
    # What was dropped and stays for a day is not unused once more.
    state.update(used_bytes=500, dropped_bytes=480)
    assert decide(situation(**state), PLAN, now=MADE + 2 * DAY).run is None
    state.update(dropped_bytes=0)
    assert decide(situation(**state), PLAN, now=MADE + 23 * HOUR).run is None


def test_dropped_packs_are_removed_a_day_later_without_repacking():
    state = {"last_prune_time": MADE, "dropped_since": MADE, "last_check_time": MADE + DAY}
    assert decide(situation(**state), PLAN, now=MADE + 24 * HOUR).run is None
    found = decide(situation(**state), PLAN, now=MADE + 25 * HOUR).run
    assert found == Run(MaintenanceAction.PRUNE, max_repack_size="0")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"holders": ["job"]}, "1 node job"),
        ({"waiting": ["nightly"]}, "backup nightly"),
        ({"deleting": True}, "a deletion"),
        ({"ending": Ending(job="prune-1"), "others": 2}, "the end of job prune-1, which gave way"),
        (
            {"ending": Ending(job="prune-1", node="n1", until=MADE)},
            "the end of job prune-1, which gave way: node n1 does not end its pod, which counts as "
            f"gone from {MADE:%Y-%m-%d %H:%M} UTC on; remove the node if it is dead",
        ),
        ({"others": 2}, "maintenance of 2 other repositories"),
    ],
)
def test_what_it_waits_for(change, says):
    found = decide(replace(situation(), **change), PLAN, now=MADE + 9 * DAY)
    assert (found.run, found.waits_for) == (None, says)


def test_a_damaged_repository_is_checked_and_never_pruned():
    broken = replace(situation(dropped_since=MADE), phase=RepositoryPhase.DAMAGED)
    found = decide(broken, PLAN, now=MADE + 30 * DAY).run
    assert found is not None
    assert found.action is MaintenanceAction.CHECK


def test_failures_are_tried_again_later_and_later():
    now = MADE + 10 * DAY
    for failures, pause in ((1, 0.5), (2, 1), (3, 2), (9, 24), (90, 24)):
        one = failed("OutOfMemory", now, failures=failures)
        assert decide(one, PLAN, now=now + pause * HOUR - timedelta(seconds=1)).run is None
        assert decide(one, PLAN, now=now + pause * HOUR).run is not None


EMERGENCY = Run(MaintenanceAction.PRUNE, max_repack_size="0", at_once=True)


def test_a_full_store_is_freed_without_writing():
    assert decide(failed("StoreFull", MADE), PLAN, now=MADE + HOUR).run == EMERGENCY
    # A node's own disk that is full is no reason to remove packs before their time.
    assert decide(failed("DiskFull", MADE), PLAN, now=MADE + HOUR).run is None
    full = replace(situation(last_prune_time=MADE), full=True)
    assert decide(full, PLAN, now=MADE + timedelta(minutes=59)).run is None
    assert decide(full, PLAN, now=MADE + HOUR).run == EMERGENCY
    damaged = replace(full, phase=RepositoryPhase.DAMAGED)
    assert decide(damaged, PLAN, now=MADE + HOUR).run is None


def test_overdue():
    assert not overdue(Maintenance(), MADE, PLAN, now=MADE + 2 * DAY)
    assert overdue(Maintenance(), MADE, PLAN, now=MADE + 2 * DAY + HOUR)
    fresh = Maintenance(last_check_time=MADE + 14 * DAY)
    assert overdue(fresh, MADE, PLAN, now=MADE + 14 * DAY + HOUR)


def test_environment():
    assert Plan.from_environment({}) == PLAN
    with pytest.raises(InvalidSpec, match="ARARAT_MAINTENANCE_WINDOW"):
        Plan.from_environment({"ARARAT_MAINTENANCE_WINDOW": "soon"})
    with pytest.raises(InvalidSpec, match="ARARAT_MAINTENANCE_AT_ONCE"):
        Plan.from_environment({"ARARAT_MAINTENANCE_AT_ONCE": "0"})
