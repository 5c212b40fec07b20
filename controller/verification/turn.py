"""Whose turn it is to read, and why a verification is not gone on with."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ararat.api.backup import Failure
from ararat.api.verification import VerificationPhase
from ararat.errors import AraratError

_CACHE_SECONDS = 5.0


class Cancelled(AraratError):
    """Nobody wants the result any more."""

    default_reason = "Cancelled"


class NotNow(AraratError):
    """Something else must end first."""

    def __init__(self, waiting: Failure) -> None:
        super().__init__(waiting.message, reason=waiting.reason)
        self.waiting = waiting


@dataclass
class Turn:
    """Whose turn it is to read; the cache is a moment behind what was begun last."""

    _uid: str = ""
    _since: float = 0.0

    def take(self, uid: str) -> None:
        self._uid, self._since = uid, time.monotonic()

    def of_another(self, known: Iterable[Mapping[str, Any]], uid: str) -> str | None:
        """What the caller waits for."""
        for raw in known:
            phase = (raw.get("status") or {}).get("phase")
            if raw["metadata"]["uid"] != uid and phase == VerificationPhase.IN_PROGRESS.value:
                return f"verification {raw['metadata']['name']}"
        if self._uid not in ("", uid) and time.monotonic() - self._since < _CACHE_SECONDS:
            return "another verification"
        return None
