"""What follows from a run that failed. Pure.

Problem: a crashed agent, a killed restic or a store that was away for a minute must not fail a
job; a job that fails for its own reasons must not run for ever.
Decision: ``status.attempts`` counts runs that ended without new stored data. After three of them
the job is Failed, and its message tells what ended each. A busy lock, a cancel, a drain, an API
server that is away are no attempts. What a person must mend (access, key, space, the job itself)
fails at once. Causes are kept as conditions ``Attempt1``…, so that they survive the agent.
Limits: the back-off is held by the agent; one that restarts tries at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ararat.api.base import Condition, ConditionStatus, with_condition
from ararat.api.nodejob import JobPhase, NodeJobStatus
from ararat.errors import (
    AccessDenied,
    AraratError,
    Damaged,
    InvalidSpec,
    NotFound,
    OutOfSpace,
    Retryable,
    WrongKey,
)
from ararat.kube.errors import ApiError

MAX_ATTEMPTS = 3
#: Seconds before the second attempt, and how much longer each further one waits.
FIRST_DELAY = 15.0
_GROWTH = 4.0
_FINAL = (AccessDenied, Damaged, InvalidSpec, NotFound, OutOfSpace, WrongKey)
_PREFIX = "Attempt"
#: Reasons of errors that say nothing about the job: somebody else holds the repository.
BUSY = frozenset(("RepositoryLocked",))


@dataclass(frozen=True)
class Again:
    """The job goes back to New and runs again after ``delay`` seconds."""

    attempts: int
    conditions: list[Condition]
    reason: str
    message: str
    delay: float


@dataclass(frozen=True)
class Final:
    """The job is over."""

    phase: JobPhase
    attempts: int
    conditions: list[Condition]
    reason: str
    message: str


def after_failure(
    status: NodeJobStatus,
    error: AraratError,
    *,
    stored: bool,
    now: datetime,
    first_delay: float = FIRST_DELAY,
) -> Again | Final:
    """``status`` is the job's before this run ended; ``stored``: the run stored new data."""
    if error.reason in BUSY or (isinstance(error, ApiError) and isinstance(error, Retryable)):
        return Again(
            attempts=status.attempts,
            conditions=status.conditions,
            reason=error.reason,
            message=error.message,
            delay=first_delay,
        )
    if isinstance(error, _FINAL):
        return Final(
            phase=JobPhase.FAILED,
            attempts=status.attempts,
            conditions=status.conditions,
            reason=error.reason,
            message=_with_history(error.message, status.conditions),
        )
    return count(
        status,
        reason=error.reason,
        message=error.message,
        stored=stored,
        now=now,
        first_delay=first_delay,
    )


def count(
    status: NodeJobStatus,
    *,
    reason: str,
    message: str,
    stored: bool,
    now: datetime,
    first_delay: float = FIRST_DELAY,
) -> Again | Final:
    """One more attempt is over."""
    # New stored data means that the next run has less to do: the count begins anew.
    before = [] if stored else _history(status.conditions)
    attempts = 1 if stored else status.attempts + 1
    conditions = [c for c in status.conditions if c in before or not c.type.startswith(_PREFIX)]
    conditions = with_condition(
        conditions,
        type=f"{_PREFIX}{attempts}",
        status=ConditionStatus.FALSE,
        reason=reason,
        message=message,
        now=now,
    )
    if attempts >= MAX_ATTEMPTS:
        return Final(
            phase=JobPhase.FAILED,
            attempts=attempts,
            conditions=conditions,
            reason=reason,
            message=_with_history(message, before),
        )
    return Again(
        attempts=attempts,
        conditions=conditions,
        reason=reason,
        message=message,
        delay=first_delay * _GROWTH ** (attempts - 1),
    )


def _history(conditions: list[Condition]) -> list[Condition]:
    return sorted((c for c in conditions if c.type.startswith(_PREFIX)), key=lambda c: c.type)


def _with_history(message: str, conditions: list[Condition]) -> str:
    earlier = [
        f"{condition.type.removeprefix(_PREFIX)}: {condition.reason}: {condition.message}"
        for condition in _history(conditions)
    ]
    if not earlier:
        return message
    return f"{message} Earlier attempts: {' '.join(earlier)}"
