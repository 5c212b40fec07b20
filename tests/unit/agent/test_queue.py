"""Order and bounds of what starts."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from agent.queue import JobKind, Limits, Waiting, order, plan

START = datetime(2026, 1, 1, tzinfo=UTC)
WIDE = Limits(node=100, repository=100)


def job(
    name: str,
    kind: JobKind = JobKind.BACKUP,
    *,
    age: int = 0,
    repository: str = "r",
    subject: str | None = None,
) -> Waiting:
    return Waiting(
        uid=name,
        name=name,
        kind=kind,
        created=START - timedelta(seconds=age),
        repository=repository,
        subject=subject or name,
    )


def names(jobs: Iterable[Waiting]) -> list[str]:
    return [found.name for found in jobs]


def startable(waiting: list[Waiting], running: list[Waiting], limits: Limits) -> list[Waiting]:
    return list(plan(waiting, running, limits).start)


def test_restores_first_then_age_then_name():
    jobs = [
        job("b-young"),
        job("b-old", age=60),
        job("r-young", JobKind.RESTORE),
        job("r-old", JobKind.RESTORE, age=10),
        job("a-young"),
    ]
    assert names(order(jobs)) == ["r-old", "r-young", "b-old", "a-young", "b-young"]
    assert order(jobs) == order(reversed(jobs))


def test_bounded_per_node():
    jobs = [job(f"j{n}", age=10 - n) for n in range(5)]
    assert names(startable(jobs, [], Limits(node=2, repository=9))) == ["j0", "j1"]
    assert names(startable(jobs[1:], jobs[:1], Limits(node=2, repository=9))) == ["j1"]
    assert startable(jobs[2:], jobs[:2], Limits(node=2, repository=9)) == []
    assert startable(jobs[3:], jobs[:3], Limits(node=2, repository=9)) == []


def test_bounded_per_repository_without_holding_up_others():
    jobs = [job("a1", age=9), job("a2", age=8), job("b1", age=7, repository="other")]
    assert names(startable(jobs, [], Limits(node=3, repository=1))) == ["a1", "b1"]


def test_one_job_per_volume_at_once():
    jobs = [job("first", age=5, subject="claim x"), job("second", subject="claim x")]
    assert names(startable(jobs, [], WIDE)) == ["first"]
    assert startable(jobs[1:], jobs[:1], WIDE) == []
