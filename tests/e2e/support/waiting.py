"""Waiting for a condition, never for a time.

Every wait has a deadline, and a wait that fails says what it waited for and what it saw last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NeverHappened(AssertionError):
    """A condition did not come true in time."""


def eventually(
    look: Callable[[], T | None],
    *,
    what: str,
    timeout: float,
    interval: float = 1.0,
    seen: Callable[[], object] | None = None,
) -> T:
    """The first truthy answer of *look*; *seen* says how things stand when none comes."""
    deadline = time.monotonic() + timeout
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            state = f"; at the end: {seen()}" if seen is not None else ""
            raise NeverHappened(f"waited {timeout:.0f} s for {what}{state}")
        time.sleep(interval)
