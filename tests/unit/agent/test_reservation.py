"""Held jobs: slots for all of a group, or for none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.queue import JobKind, Limits, Plan, Waiting, expired, plan

START = datetime(2026, 1, 1, tzinfo=UTC)


def held(name: str, group: str = "g", *, age: int = 0, subject: str | None = None) -> Waiting:
    return Waiting(
        uid=name,
        name=name,
        kind=JobKind.BACKUP,
        created=START - timedelta(seconds=age),
        repository="r",
        subject=subject or name,
        group=group,
        hold=True,
    )


def reserved(name: str, group: str = "g", **more: object) -> Waiting:
    return replace(held(name, group), reserved=True, **more)  # type: ignore[arg-type]


def released(name: str, group: str = "g") -> Waiting:
    return reserved(name, group, hold=False)


def plain(name: str, *, age: int = 0, subject: str | None = None) -> Waiting:
    return replace(held(name, name, age=age, subject=subject), hold=False)


def restore(name: str) -> Waiting:
    return replace(plain(name), kind=JobKind.RESTORE, group="")


def slots(node: int, repository: int = 99) -> Limits:
    return Limits(node=node, repository=repository)


def decided(found: Plan) -> tuple[list[str], list[str], list[str]]:
    return (
        [job.name for job in found.start],
        [job.name for job in found.reserve],
        [job.name for job in found.hold],
    )


def test_a_group_gets_all_its_slots_or_none():
    group = [held("a"), held("b")]
    assert decided(plan(group, [], slots(2))) == ([], ["a", "b"], [])
    assert decided(plan(group, [plain("x")], slots(2))) == ([], [], ["a", "b"])


def test_a_group_larger_than_the_node_takes_all_of_it():
    group = [held("a"), held("b"), held("c")]
    assert decided(plan(group, [], slots(2))) == ([], ["a", "b", "c"], [])
    assert decided(plan(group, [plain("x")], slots(2))) == ([], [], ["a", "b", "c"])


def test_nothing_behind_a_waiting_group_takes_its_slots():
    waiting = [held("a", age=9), held("b", age=9), plain("younger")]
    assert decided(plan(waiting, [plain("x")], slots(2)))[0] == []
    older = [plain("older", age=99), *waiting]
    assert decided(plan(older, [plain("x")], slots(2)))[0] == ["older"]


def test_restores_do_not_wait_for_a_group():
    waiting = [held("a", age=9), held("b", age=9), restore("r")]
    assert decided(plan(waiting, [plain("x")], slots(2)))[0] == ["r"]


def test_reserved_slots_are_kept():
    waiting = [reserved("a"), reserved("b"), plain("x", age=99), restore("r")]
    assert decided(plan(waiting, [], slots(2))) == ([], [], [])
    assert decided(plan(waiting, [], slots(3)))[0] == ["r"]


def test_released_jobs_run_within_their_reservation():
    waiting = [released("a"), released("b"), released("c"), plain("x", age=99)]
    assert decided(plan(waiting, [], slots(2)))[0] == ["a", "b"]
    running = [released("a"), released("b")]
    assert decided(plan([released("c"), plain("x")], running, slots(2)))[0] == []
    assert decided(plan([released("c"), plain("x")], running[:1], slots(2)))[0] == ["c"]
    # The last of the group runs: the slot it does not need is free again.
    assert decided(plan([plain("x")], [released("c")], slots(2)))[0] == ["x"]


def test_two_groups_never_hold_half_of_what_both_need():
    first, second = [held("a1", "a", age=5), held("a2", "a")], [held("b1", "b"), held("b2", "b")]
    assert decided(plan([*second, *first], [], slots(3)))[1] == ["a1", "a2"]
    # With two half reservations (a member came late) both can go on all the same.
    halves = [released("a1", "a"), released("b1", "b"), held("a2", "a"), held("b2", "b")]
    start, reserve, _ = decided(plan(halves, [], slots(2)))
    assert (start, sorted(reserve)) == (["a1", "b1"], ["a2", "b2"])


def test_a_late_member_shares_or_gets_a_free_slot():
    waiting = [reserved("a"), held("late"), plain("x")]
    assert decided(plan(waiting, [], slots(1))) == ([], ["late"], [])
    assert decided(plan(waiting, [], slots(2))) == ([], ["late"], [])
    assert decided(plan(waiting, [], slots(3))) == (["x"], ["late"], [])


def test_reserved_jobs_come_first_after_a_restart():
    waiting = [plain("interrupted", age=99), restore("r"), reserved("a"), reserved("b")]
    assert decided(plan(waiting, [], slots(2))) == ([], [], [])


def test_a_lower_concurrency_after_a_restart_serves_one_group_after_the_other():
    waiting = [released("a1", "a"), released("a2", "a"), released("b1", "b"), released("b2", "b")]
    assert decided(plan(waiting, [], slots(1)))[0] == ["a1"]
    assert decided(plan(waiting[1:], [waiting[0]], slots(1)))[0] == []


def test_a_volume_that_is_being_read_is_not_promised():
    waiting = [held("a", age=9, subject="claim"), plain("x")]
    assert decided(plan(waiting, [plain("other", subject="claim")], slots(3))) == (
        ["x"],
        [],
        ["a"],
    )
    # And what is promised to one is not begun by another.
    promised = [reserved("a", subject="claim"), plain("x", subject="claim", age=99)]
    assert decided(plan(promised, [], slots(3)))[0] == []


def test_a_repository_has_slots_too():
    waiting = [reserved("a"), plain("x")]
    assert decided(plan(waiting, [], slots(9, repository=1)))[0] == []
    assert decided(plan([held("a"), held("b")], [], slots(9, repository=1)))[1] == ["a", "b"]
    # A group that waits for its repository is not overtaken there, and holds up no other.
    other = replace(plain("y"), repository="other")
    behind = [held("a", age=9), held("b", age=9), plain("x"), other]
    assert decided(plan(behind, [plain("z")], slots(9, repository=2)))[0] == ["y"]


def test_a_job_that_is_released_without_a_reservation_queues_like_any_other():
    waiting = [plain("older", age=9), replace(held("a"), hold=False)]
    assert decided(plan(waiting, [], slots(1)))[0] == ["older"]


def test_what_nobody_comes_for_is_given_back_as_a_group():
    jobs = [reserved("a"), reserved("b"), released("c"), reserved("other", "h"), held("d")]
    assert expired(jobs, {"a": 10.0}, limit=60.0) == []
    late = expired(jobs, {"a": 61.0, "b": 2.0, "c": 99.0}, limit=60.0)
    assert [job.name for job in late] == ["a", "b"]


@pytest.mark.parametrize("node", [1, 2, 3])
@given(data=st.data())
def test_everything_gets_its_turn(node: int, data: Any):
    """Whatever arrives in whatever order, and whenever jobs are released and end."""
    kinds = st.tuples(st.sampled_from(["plain", "restore", "a", "b", "c"]), st.integers(0, 5))
    arrivals = data.draw(st.lists(kinds, min_size=1, max_size=10))
    waiting: dict[str, Waiting] = {}
    running: dict[str, Waiting] = {}
    for number, (kind, age) in enumerate(arrivals):
        name = f"{kind}{number}"
        if kind in "abc":
            waiting[name] = held(name, kind, age=age)
        else:
            waiting[name] = restore(name) if kind == "restore" else plain(name, age=age)
    late = list(waiting.values())[len(waiting) // 2 :] if data.draw(st.booleans()) else []
    for job in late:
        del waiting[job.uid]
    for _ in range(100):
        if late:
            arrived = late.pop()
            waiting[arrived.uid] = arrived
        found = plan(waiting.values(), running.values(), slots(node))
        assert not {job.uid for job in found.start} & {job.uid for job in found.reserve}
        for job in found.start:
            assert not job.hold
            running[job.uid] = waiting.pop(job.uid)
        assert len(running) <= node
        for job in found.reserve:
            waiting[job.uid] = replace(job, reserved=True)
        # The controller releases a pod once every job of it has its slot.
        for job in list(waiting.values()):
            mates = [j for j in (*waiting.values(), *late) if j.group == job.group]
            if job.hold and all(mate.reserved for mate in mates):
                for mate in mates:
                    waiting[mate.uid] = replace(mate, hold=False)
        if running and data.draw(st.booleans()):
            del running[data.draw(st.sampled_from(sorted(running)))]
        elif running and not found.start:
            del running[min(running)]
        if not waiting and not running and not late:
            return
    raise AssertionError(f"never got its turn: {sorted(waiting)}")
