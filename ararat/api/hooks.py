"""Commands in a pod's containers, before and after something happens to it: the fields of a spec.

The names are Velero's, so that the hooks of a spec move over unchanged.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Model

#: Go's way of writing a span of time (``30s``, ``1m30s``), which is Velero's.
TIMEOUT_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


class OnError(StrEnum):
    FAIL = "Fail"
    CONTINUE = "Continue"


class ExecHook(Model):
    """A command to run in a container."""

    container: str | None = Field(
        default=None, description="Container to run it in; the pod's first one where unset."
    )
    command: list[str] = Field(
        min_length=1, description="Program and arguments; no shell reads them."
    )
    on_error: OnError = Field(
        default=OnError.FAIL,
        description="What an error means. Fail: a failure of the backup. Continue: a warning.",
    )
    timeout: str = Field(
        default="30s",
        pattern=TIMEOUT_PATTERN,
        description="How long it may run, as in 30s or 1m30s; then it is ended.",
    )


class HookAction(Model):
    """What one hook does."""

    exec: ExecHook = Field(description="Runs a command in a container of the pod.")
