"""When a schedule has a backup verified."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ararat.api import Backup, BackupVerification, Schedule
from ararat.api.backup import LastVerification
from controller.schedule.verifying import Due, build, last_of, next_due

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


def schedule(*, last: dict[str, Any] | None = None, **spec: Any) -> Schedule:
    return Schedule.parse(
        {
            "metadata": {"name": "nightly", "uid": "u"},
            "spec": {"cron": "@daily", "verify": {"every": "7d"}, **spec},
            "status": {"verification": last} if last else {},
        }
    )


def backup(name: str, days: float, *, phase: str = "Completed", last: Any = None) -> Backup:
    began = (NOW - timedelta(days=days)).isoformat()
    status = {"phase": phase, "startTime": began}
    if last:
        status["verification"] = last
    return Backup.parse({"metadata": {"name": name}, "spec": {}, "status": status})


def result(
    phase: str, days: float, *, passed: float | None = None, ran: float | None = None
) -> dict[str, Any]:
    found: dict[str, Any] = {"phase": phase, "time": (NOW - timedelta(days=days)).isoformat()}
    if passed is not None:
        found["lastPassedTime"] = (NOW - timedelta(days=passed)).isoformat()
    if ran is not None:
        found["lastRunTime"] = (NOW - timedelta(days=ran)).isoformat()
    return found


def asked(
    phase: str = "InProgress", *, days: float | None = None, run: bool = False
) -> BackupVerification:
    status: dict[str, Any] = {"phase": phase}
    if days is not None:
        status["completionTime"] = (NOW - timedelta(days=days)).isoformat()
    spec = {"backup": "b", **({"run": {}} if run else {})}
    raw = {"metadata": {"name": "v"}, "spec": spec, "status": status}
    return BackupVerification.parse(raw)


def due(one: Schedule, *backups: Backup, verifications: Any = ()) -> Due:
    return next_due(one, backups, verifications, now=NOW)


def test_the_first_is_due_as_soon_as_there_is_a_good_backup():
    assert due(schedule()) == Due()
    assert due(schedule(), backup("a", 1, phase="PartiallyFailed")) == Due()
    found = due(schedule(), backup("a", 2), backup("b", 1), backup("c", 0, phase="InProgress"))
    assert found.backup is not None
    assert found.backup.name == "b"


@pytest.mark.parametrize("spec", [{"verify": None}, {"paused": True}])
def test_never_unless_asked_for(spec: dict[str, Any]):
    assert due(schedule(**spec), backup("a", 1)) == Due()


def test_one_at_a_time():
    assert due(schedule(), backup("a", 1), verifications=[asked("New")]) == Due()


def test_the_interval_counts_from_the_last_one_whoever_asked_for_it():
    found = due(schedule(), backup("a", 9, last=result("Passed", 2, passed=2)), backup("b", 1))
    assert (found.backup, found.seconds) == (None, 5 * 86400)
    assert due(schedule(), backup("a", 9, last=result("Passed", 7, passed=7))).backup is not None
    # Also where the backup that was verified is gone, or the verification was cancelled.
    assert due(schedule(last=result("Failed", 6)), backup("b", 1)).seconds == 86400
    cancelled = [asked("Cancelled", days=1)]
    assert due(schedule(), backup("b", 1), verifications=cancelled).seconds == 6 * 86400


def test_what_could_not_be_tried_is_tried_again_soon():
    found = due(schedule(last=result("Inconclusive", 0.125)), backup("b", 1))
    assert found.seconds == 3 * 3600


RUN = {"verify": {"every": "7d", "run": {}}}


@pytest.mark.parametrize(
    ("last", "verifications", "seconds"),
    [
        # Only what started pods counts, whoever asked for it.
        (result("Passed", 1, passed=1), [asked("Passed", days=1)], None),
        (result("Passed", 1, passed=1, ran=3), [], 4 * 86400),
        (result("Passed", 1, passed=1, ran=9), [], None),
        (result("Failed", 2), [asked("Failed", days=2, run=True)], 5 * 86400),
        # What was read meanwhile does not make up for pods that could not be started.
        (
            result("Passed", 0.1, passed=0.1),
            [asked("Inconclusive", days=0.125, run=True), asked("Passed", days=0.1)],
            3 * 3600,
        ),
        (
            result("Passed", 1, passed=1, ran=1),
            [asked("Inconclusive", days=2, run=True), asked("Passed", days=1, run=True)],
            6 * 86400,
        ),
        (result("Inconclusive", 1), [asked("InProgress", run=True)], None),
    ],
)
def test_where_pods_are_to_run(last: Any, verifications: Any, seconds: float | None):
    found = due(schedule(last=last, **RUN), backup("b", 1), verifications=verifications)
    assert found.seconds == seconds
    running = any(not one.status.phase.terminal for one in verifications)
    assert (found.backup is not None) is (seconds is None and not running)
    made = build(schedule(**RUN), backup("b", 1), since=None, namespace="ararat")
    assert made.spec.run is not None


def test_names_are_the_same_for_the_same_moment_only():
    one, b = schedule(), backup("b", 1)
    first = build(one, b, since=None, namespace="ararat").name
    assert first == build(one, b, since=None, namespace="ararat").name
    assert first != build(one, b, since=NOW, namespace="ararat").name


def test_the_last_good_one_is_remembered_when_its_backup_is_gone():
    before = LastVerification.model_validate(result("Passed", 10, passed=10))
    bad = result("Failed", 1)
    found = last_of([backup("b", 1, last=bad), backup("c", 1)], before)
    assert found is not None
    assert (found.phase, found.last_passed_time) == ("Failed", before.last_passed_time)
    assert last_of([backup("c", 1)], None) is None
