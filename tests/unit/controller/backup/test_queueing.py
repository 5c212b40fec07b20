from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ararat.api import Backup
from controller.backup.queueing import Turn, turn_of

from .samples import backup


def other(
    name: str, *namespaces: str, phase: str = "InProgress", count: int = 0, at: int = 0
) -> Backup:
    status = {
        "phase": phase,
        "namespaces": list(namespaces),
        "namespaceCount": count or len(namespaces),
    }
    return asked_for(backup(name, status=status), at)


def queued(name: str, *namespaces: str, at: int) -> Backup:
    return other(name, *namespaces, phase="Queued", at=at)


def asked_for(one: Backup, at: int) -> Backup:
    moment = datetime(2026, 1, 1, second=at, tzinfo=UTC)
    metadata = one.metadata.model_copy(update={"creation_timestamp": moment})
    return one.model_copy(update={"metadata": metadata})


@pytest.mark.parametrize(
    ("others", "beginning", "expected"),
    [
        ([], {}, None),
        ([other("a", "wp")], {}, (1, "a")),
        ([other("a", "wp", phase="Finalizing")], {}, (1, "a")),
        ([other("a", "shop")], {}, None),
        ([other("a", "wp", phase="Completed")], {}, None),
        ([other("a", "wp", phase="Failed")], {}, None),
        ([other("a", "shop"), other("b", "x", "wp")], {}, (1, "b")),
        # Of more than 100 namespaces status names only the first.
        ([other("a", "shop", count=101)], {}, (1, "a")),
        ([other("me", "wp")], {}, None),
        # Begun by this process a moment ago: its status is not in the cache yet.
        ([backup("a")], {"a": {"wp", "x"}}, (1, "a")),
        ([backup("a")], {"a": {"x"}}, None),
        # In the order in which they were asked for; by name where the second is the same.
        ([queued("a", "wp", at=9)], {}, (2, "a")),
        ([queued("a", "wp", at=11)], {}, None),
        ([queued("a", "wp", at=10), queued("z", "wp", at=10)], {}, (2, "a")),
        ([queued("b", "wp", at=9), queued("a", "wp", at=8), other("r", "wp")], {}, (3, "r")),
        ([queued("b", "wp", at=9), queued("a", "wp", at=8)], {}, (3, "a")),
        # It waits for namespaces that this one does not mean.
        ([queued("a", "shop", at=9)], {}, None),
        # It has begun, and the cache does not show it yet: it runs.
        ([queued("a", "wp", at=9)], {"a": {"wp"}}, (1, "a")),
    ],
)
def test_who_waits_for_whom(
    others: list[Backup], beginning: dict[str, Any], expected: tuple[int, str] | None
) -> None:
    found = turn_of(asked_for(backup("me"), 10), ["wp"], others, beginning=beginning)
    assert found == (Turn(*expected) if expected else None)


def test_nobody_waits_for_each_other() -> None:
    """Whatever is queued: somebody is next."""
    places = [["x"], ["y"], ["x", "y"], ["y", "z"], ["z"]]
    waiting = [queued(f"b{n}", *namespaces, at=n % 3) for n, namespaces in enumerate(places)]
    while waiting:
        turns = {
            one.name: turn_of(one, one.status.namespaces, waiting, beginning={}) for one in waiting
        }
        free = [one for one in waiting if turns[one.name] is None]
        assert free
        waiting = [one for one in waiting if one not in free]


def test_what_people_read() -> None:
    tail = "waits for backup nightly, which means some of the same namespaces"
    assert Turn(1, "nightly").message == f"next: {tail}"
    assert Turn(3, "nightly").message == f"number 3 in the queue: {tail}"
