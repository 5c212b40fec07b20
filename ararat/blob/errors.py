"""What can go wrong between Ararat and a store, by what the caller can do.

Decision: an outage is never a missing blob. A container (or a location's directory) that cannot be
found is a Retryable of its own, because taking it for "nothing stored" is how backups get lost.
"""

from __future__ import annotations

from typing import ClassVar

from ararat.errors import Retryable


class StoreUnreachable(Retryable):
    """No answer, or none that makes sense: network, DNS, TLS, server errors, time-outs."""

    default_reason: ClassVar[str] = "StoreUnreachable"


class StoreThrottled(Retryable):
    """The store asks for fewer requests; ``retry_after`` is in seconds where it said when."""

    default_reason: ClassVar[str] = "StoreThrottled"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ContainerNotFound(Retryable):
    """The container or directory of the location is not there: an outage until proven otherwise."""

    default_reason: ClassVar[str] = "ContainerNotFound"
