"""A command as it is recorded, what came of it, and how that is told."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from structlog.typing import FilteringBoundLogger

from ararat.api.base import Model
from ararat.api.hooks import OnError
from ararat.hooks import Hook, When
from controller.runlog import RunLog


class Means(StrEnum):
    """What a container has to end a command that takes too long."""

    #: ``timeout`` of coreutils or busybox.
    TIMEOUT = "Timeout"
    #: A shell with ``sleep`` and ``kill``.
    SHELL = "Shell"
    NONE = "None"


class HookResult(Model):
    """One command, run or tried to."""

    when: When
    container: str
    command: list[str]
    on_error: OnError = OnError.FAIL
    exit_code: int | None = None
    #: Why it counts as failed, in one CamelCase word; empty where it did not fail.
    reason: str = ""
    #: The same in one sentence, without anything that the command printed.
    message: str = ""
    started: float = 0.0
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    #: Not known whether it still runs.
    lost: bool = False

    @property
    def failed(self) -> bool:
        return bool(self.reason)


class RecordedHook(Model):
    container: str
    command: list[str]
    on_error: OnError
    timeout: float

    @classmethod
    def of(cls, hook: Hook) -> RecordedHook:
        return cls(
            container=hook.container,
            command=list(hook.command),
            on_error=hook.on_error,
            timeout=hook.timeout,
        )

    def hook(self) -> Hook:
        return Hook(self.container, tuple(self.command), self.on_error, self.timeout)


def tell(log: RunLog | FilteringBoundLogger, result: HookResult, *, pod: str) -> None:
    """A line for a command that ended. ``pod``: its namespace and name."""
    fields: dict[str, Any] = {
        "pod": pod,
        "container": result.container,
        "seconds": result.seconds,
    }
    if result.exit_code is not None:
        fields["exit_code"] = result.exit_code
    if result.failed:
        fields["message"] = result.message
    say = log.warning if result.failed else log.info
    say(f"{result.when} hook ended", **fields)
