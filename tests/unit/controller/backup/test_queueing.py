from __future__ import annotations

from typing import Any

import pytest

from ararat.api import Backup
from controller.backup.queueing import blocked_by

from .samples import backup


def running(name: str, *namespaces: str, phase: str = "InProgress", count: int = 0) -> Backup:
    status = {
        "phase": phase,
        "namespaces": list(namespaces),
        "namespaceCount": count or len(namespaces),
    }
    return backup(name, status=status)


@pytest.mark.parametrize(
    ("others", "beginning", "expected"),
    [
        ([], {}, None),
        ([running("a", "wp")], {}, "a"),
        ([running("a", "wp", phase="Finalizing")], {}, "a"),
        ([running("a", "shop")], {}, None),
        ([running("a", "wp", phase="Queued")], {}, None),
        ([running("a", "wp", phase="Completed")], {}, None),
        ([running("a", "wp", phase="Failed")], {}, None),
        ([running("a", "shop"), running("b", "x", "wp")], {}, "b"),
        # Of more than 100 namespaces status names only the first.
        ([running("a", "shop", count=101)], {}, "a"),
        ([running("me", "wp")], {}, None),
        # Begun by this process a moment ago: its status is not in the cache yet.
        ([backup("a")], {"a": {"wp", "x"}}, "a"),
        ([backup("a")], {"a": {"x"}}, None),
    ],
)
def test_who_waits_for_whom(
    others: list[Backup], beginning: dict[str, Any], expected: str | None
) -> None:
    assert blocked_by(backup("me"), ["wp"], others, beginning=beginning) == expected
