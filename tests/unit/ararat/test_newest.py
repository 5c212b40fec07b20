"""Which backup a schedule's name means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ararat.api import Backup
from ararat.errors import InvalidSpec
from ararat.newest import newest_completed

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)


def backup(name: str, *, day: int, phase: str = "Completed", **fields: str) -> Backup:
    return Backup.parse(
        {
            "metadata": {"name": name, "namespace": "ararat"},
            "spec": {"schedule": fields.get("schedule", "nightly")},
            "status": {
                "phase": phase,
                "location": fields.get("location", "main"),
                "startTime": (BEGIN + timedelta(days=day)).isoformat(),
            },
        }
    )


def ours(location: str) -> bool:
    return location != "theirs"


def test_the_newest_completed_one():
    found = [
        backup("partly", day=9, phase="PartiallyFailed"),
        backup("running", day=10, phase="InProgress"),
        backup("going", day=8, phase="Deleting"),
        backup("a-good", day=7),
        backup("z-older", day=6),
        backup("other", day=20, schedule="hourly"),
    ]
    assert newest_completed(found, "nightly", ours=ours).name == "a-good"
    # Another cluster's alone may be meant: that is what it is read for.
    theirs = [backup("b", day=1, location="theirs"), backup("c", day=2, location="theirs")]
    assert newest_completed(theirs, "nightly", ours=ours).name == "c"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "has no Completed backup to restore: see"),
        ([backup("other", day=1, schedule="hourly")], "has no Completed backup to restore: see"),
        ([backup("p", day=1, phase="PartiallyFailed")], "; p, which is PartiallyFailed, can be"),
        ([backup("a", day=1), backup("b", day=2, location="theirs")], "location theirs, which"),
    ],
)
def test_nothing_is_guessed(found, says):
    with pytest.raises(InvalidSpec, match=says):
        newest_completed(found, "nightly", ours=ours)
