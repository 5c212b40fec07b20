"""What can go wrong with restic, by what the caller can do.

Decision: restic's exit codes and our own server's observations end in these classes
(``exit_codes.py`` holds the table). The last lines that restic wrote are kept in ``tail`` for logs,
with secrets removed; the message itself is one sentence.
"""

from __future__ import annotations

from typing import ClassVar

from ararat.errors import (
    AraratError,
    Cancelled,
    InvalidSpec,
    NotFound,
    Retryable,
    WrongKey,
)


class ResticFailed(AraratError):
    """restic gave up, and nothing more precise is known; ``tail`` is what it wrote last."""

    default_reason: ClassVar[str] = "ResticFailed"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        tail: tuple[str, ...] = (),
        code: int | None = None,
    ) -> None:
        super().__init__(message, reason=reason)
        self.tail = tail
        self.code = code


class NoRepository(ResticFailed, NotFound):
    """There is no repository in the directory (exit code 10). Never a reason to make one."""

    default_reason: ClassVar[str] = "NoRepository"


class RepositoryLocked(ResticFailed, Retryable):
    """Somebody holds a lock that excludes this command (exit code 11)."""

    default_reason: ClassVar[str] = "RepositoryLocked"


class WrongPassword(ResticFailed, WrongKey):
    """No key of the repository opens with this password (exit code 12)."""

    default_reason: ClassVar[str] = "WrongPassword"


class SnapshotNotFound(ResticFailed, NotFound):
    """The repository has no such snapshot."""

    default_reason: ClassVar[str] = "SnapshotNotFound"


class OutOfMemory(ResticFailed, Retryable):
    """The kernel (or Go) ended restic for lack of memory."""

    default_reason: ClassVar[str] = "OutOfMemory"


class ChildKilled(ResticFailed, Retryable):
    """restic was killed by somebody else."""

    default_reason: ClassVar[str] = "Killed"


class ResticCancelled(ResticFailed, Cancelled):
    """restic was asked to end and did."""

    default_reason: ClassVar[str] = "Cancelled"


class ResticMissing(InvalidSpec):
    """There is no restic, or one that is too old; the message says what to install."""

    default_reason: ClassVar[str] = "ResticMissing"


class NotConfinable(InvalidSpec):
    """Confinement was required, and this kernel cannot give it."""

    default_reason: ClassVar[str] = "NotConfinable"
