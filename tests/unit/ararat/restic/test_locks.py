from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.restic.locks import STALE_AFTER, Lock, dead_locks, metadata, owner_of
from ararat.restic.models import LockOwner

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OWNER = LockOwner("cluster", "pod", "2026-11-22T10:00:00Z", "job")


def lock(minutes: float, owner: LockOwner | None = OWNER) -> Lock:
    return Lock("a" * 64, NOW - timedelta(minutes=minutes), owner)


def test_an_owner_goes_through_metadata() -> None:
    assert owner_of(metadata(OWNER)) == OWNER
    assert owner_of({}) is None
    assert owner_of({"other": "x"}) is None
    assert all(key.isidentifier() and value.isascii() for key, value in metadata(OWNER).items())


def test_values_that_azure_would_refuse_are_made_ascii() -> None:
    assert metadata(LockOwner("c", "p", "1", "jöb"))["ararat_job"] == "j?b"


def test_time_alone_kills_only_what_no_live_restic_leaves() -> None:
    for owner in (OWNER, None):
        assert dead_locks([lock(44.9, owner)], now=NOW) == []
        assert len(dead_locks([lock(45.1, owner)], now=NOW)) == 1


@pytest.mark.parametrize(
    ("started", "dead"),
    [
        ("2026-11-22T10:00:01Z", True),
        ("2026-11-22T10:00:00Z", False),
        ("2026-11-22T09:00:00Z", False),
    ],
)
def test_a_later_container_of_the_same_pod_proves_it(started: str, dead: bool) -> None:
    running = LockOwner("cluster", "pod", started, "")
    assert bool(dead_locks([lock(1)], now=NOW, running=[running])) is dead


@pytest.mark.parametrize(
    "running",
    [
        [],
        [LockOwner("cluster", "other-pod", "2026-11-22T11:00:00Z", "")],
        [LockOwner("other", "pod", "2026-11-22T11:00:00Z", "")],
        [LockOwner("cluster", "", "2026-11-22T11:00:00Z", "")],
    ],
)
def test_missing_pods_and_other_clusters_prove_nothing(running: list[LockOwner]) -> None:
    assert dead_locks([lock(20)], now=NOW, running=running) == []
    assert dead_locks([lock(20, None)], now=NOW, running=running) == []


@pytest.mark.parametrize(
    ("running", "dead"),
    [
        (LockOwner("cluster", "next", "2026-11-22T09:00:00Z", "", "boot:1:2"), True),
        (LockOwner("cluster", "pod", "2026-11-22T10:00:00Z", "another", "boot:1:2"), False),
        (LockOwner("cluster", "next", "2026-11-22T11:00:00Z", "", "boot:1:3"), False),
        (LockOwner("cluster", "next", "2026-11-22T11:00:00Z", "", ""), False),
        (LockOwner("other", "next", "2026-11-22T11:00:00Z", "", "boot:1:2"), False),
    ],
    ids=["next agent", "itself", "another lock", "none", "another cluster"],
)
def test_who_holds_the_lock_of_the_node_proves_it(running: LockOwner, dead: bool) -> None:
    held = replace(OWNER, node_lock="boot:1:2")
    assert owner_of(metadata(held)) == held
    assert bool(dead_locks([lock(1, held)], now=NOW, running=[running])) is dead
    # One that was stored by an agent that had none.
    assert dead_locks([lock(1)], now=NOW, running=[replace(running, pod_uid="next")]) == []


@given(st.floats(min_value=-60, max_value=22.5 + 5), st.lists(st.text(max_size=5), max_size=3))
def test_no_live_lock_is_ever_dead(minutes: float, pods: list[str]) -> None:
    """A live restic's newest lock is at most 22.5 minutes old, or it has given up by itself."""
    assert timedelta(minutes=minutes) < STALE_AFTER
    running = [LockOwner("cluster", pod, "2027-01-01", "") for pod in pods if pod != "pod"]
    assert dead_locks([lock(minutes)], now=NOW, running=running) == []
