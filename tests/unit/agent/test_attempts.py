"""How often a job is tried, and what it says in the end."""

from datetime import UTC, datetime

import pytest

from agent.attempts import MAX_ATTEMPTS, Again, Final, after_failure, count
from ararat.api.nodejob import JobPhase, NodeJobStatus
from ararat.blob.errors import StoreUnreachable
from ararat.errors import AccessDenied, AraratError, InvalidSpec, OutOfSpace, WrongKey
from ararat.restic.errors import ChildKilled, NoRepository, RepositoryLocked

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def fail(status: NodeJobStatus, error: AraratError, *, stored: bool = False):
    return after_failure(status, error, stored=stored, now=NOW)


def after(outcome: Again | Final) -> NodeJobStatus:
    return NodeJobStatus(attempts=outcome.attempts, conditions=outcome.conditions)


def test_three_attempts_and_their_history():
    status = NodeJobStatus()
    delays = []
    for cause in ("no route", "timed out"):
        outcome = fail(status, StoreUnreachable(f"The store is away: {cause}."))
        assert isinstance(outcome, Again)
        delays.append(outcome.delay)
        status = after(outcome)
    assert delays == sorted(delays)
    final = fail(status, ChildKilled("restic was killed."))
    assert isinstance(final, Final)
    assert final.phase is JobPhase.FAILED
    assert final.attempts == MAX_ATTEMPTS
    assert final.reason == "Killed"
    assert "no route" in final.message
    assert "timed out" in final.message
    assert final.message.startswith("restic was killed.")


def test_new_stored_data_starts_the_count_anew():
    status = NodeJobStatus()
    for _ in range(10):
        outcome = fail(status, StoreUnreachable("away"), stored=True)
        assert isinstance(outcome, Again)
        assert outcome.attempts == 1
        assert [condition.type for condition in outcome.conditions] == ["Attempt1"]
        status = after(outcome)


def test_a_busy_lock_is_no_attempt():
    status = NodeJobStatus(attempts=2)
    outcome = fail(status, RepositoryLocked("locked"))
    assert isinstance(outcome, Again)
    assert outcome.attempts == 2
    assert outcome.conditions == []


@pytest.mark.parametrize(
    "error",
    [
        AccessDenied("a"),
        WrongKey("a"),
        OutOfSpace("a"),
        InvalidSpec("a"),
        NoRepository("a"),
    ],
)
def test_what_a_person_must_mend_fails_at_once(error: AraratError):
    outcome = fail(NodeJobStatus(), error)
    assert isinstance(outcome, Final)
    assert outcome.reason == error.reason
    assert outcome.message == "a"


def test_other_conditions_stay():
    from ararat.api.base import Condition, ConditionStatus

    other = Condition(
        type="Verified", status=ConditionStatus.TRUE, reason="Yes", last_transition_time=NOW
    )
    status = NodeJobStatus(conditions=[other])
    outcome = count(status, reason="X", message="x.", stored=False, now=NOW)
    assert [c.type for c in outcome.conditions] == ["Verified", "Attempt1"]
