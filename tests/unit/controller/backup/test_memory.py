from __future__ import annotations

import time

import pytest

from ararat.api.backup import BackupPhase
from controller.backup.run import Memory


@pytest.mark.parametrize(
    ("written", "shown", "expected"),
    [
        (None, "New", False),
        ("InProgress", "New", True),
        ("InProgress", "Queued", True),
        ("InProgress", "InProgress", False),
        ("Queued", "New", True),
        ("Finalizing", "InProgress", True),
        ("Completed", "Finalizing", True),
        ("Failed", "InProgress", True),
        ("Cancelled", "InProgress", True),
        ("Failed", "Failed", False),
        ("InProgress", "Completed", False),
    ],
)
def test_a_cache_that_lags_is_not_acted_on(
    monkeypatch: pytest.MonkeyPatch, written: str | None, shown: str, expected: bool
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    memory = Memory(phase=BackupPhase(written) if written else None, phase_at=now)
    assert memory.ahead_of(BackupPhase(shown)) is expected
    now += 31  # by then somebody means it
    assert memory.ahead_of(BackupPhase(shown)) is False
