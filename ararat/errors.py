"""Errors, by what the one who meets them can do.

Problem: an error ends up in a condition, an Event, a metric label and a person's terminal, and the
code that catches it has one question: try again, or say so and stop?
Decision: one root; one class per answer; a stable CamelCase ``reason`` (conditions, events,
metrics) and one sentence that names the object and the next step. Libraries' own exceptions are
turned into these at the seam that calls the library (``raise ... from``).
Limits: a message is shown to people as it is, so it never holds a secret.
"""

from __future__ import annotations

from typing import ClassVar


class AraratError(Exception):
    """Root of every error Ararat raises on purpose.

    ``reason`` is CamelCase and stable; ``message`` is one sentence for a person.
    """

    default_reason: ClassVar[str] = "InternalError"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason


class InvalidSpec(AraratError):
    """What was asked for cannot be done as it is written; the user must change it."""

    default_reason = "InvalidSpec"


class NotFound(AraratError):
    """The named thing does not exist, and the store or API that said so is trusted."""

    default_reason = "NotFound"


class Conflict(AraratError):
    """Somebody else got there first; read again, then decide."""

    default_reason = "Conflict"


class AccessDenied(AraratError):
    """Credentials were refused; a person must mend them."""

    default_reason = "AccessDenied"


class WrongKey(AraratError):
    """The master key of this installation does not open what is stored."""

    default_reason = "WrongKey"


class Retryable(AraratError):
    """Nothing is wrong with the request; the same call may go through later."""

    default_reason = "Unavailable"


class OutOfSpace(AraratError):
    """A disk or a store is full; a person must make room."""

    default_reason = "OutOfSpace"


class Damaged(AraratError):
    """Stored data is not what it must be; nothing may be deleted on its account."""

    default_reason = "Damaged"


class Cancelled(AraratError):
    """The work was ended on request; what it had stored stays."""

    default_reason = "Cancelled"
