"""Commands in a pod's containers, before and after something happens to it: the fields of a spec.

The names are Velero's, so that the hooks of a spec move over unchanged.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from .base import Model
from .selector import LabelSelector

#: Go's way of writing a span of time (``30s``, ``1m30s``), which is Velero's.
TIMEOUT_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


class OnError(StrEnum):
    FAIL = "Fail"
    CONTINUE = "Continue"


class Command(Model):
    """A command to run in a container."""

    container: str | None = Field(
        default=None, description="Container to run it in; the pod's first one where unset."
    )
    command: list[str] = Field(
        min_length=1, description="Program and arguments; no shell reads them."
    )


class ExecHook(Command):
    """A command of a backup."""

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


class PodSelection(Model):
    """Pods that hooks of a spec are for. Hooks named in a pod's annotations replace them."""

    name: str = Field(default="", description="What logs call it.")
    included_namespaces: list[str] = Field(
        default=[], description="Namespaces, globs allowed; empty means all."
    )
    excluded_namespaces: list[str] = Field(default=[], description="Namespaces to leave out.")
    included_resources: list[str] = Field(
        default=[], description="Only pods have hooks: `pods`, or empty."
    )
    excluded_resources: list[str] = Field(default=[], description="Kinds to leave out.")
    label_selector: LabelSelector | None = Field(
        default=None, description="Only pods with these labels."
    )


class ExecRestoreHook(Command):
    """A command of a restore, in a restored pod."""

    on_error: OnError = Field(
        default=OnError.FAIL,
        description="What an error means. Fail: a failure of the restore, and the pod's further "
        "commands are not run. Continue: a warning.",
    )
    exec_timeout: str = Field(
        default="30s",
        pattern=TIMEOUT_PATTERN,
        description="How long it may run, as in 30s or 1m30s; then it is ended.",
    )
    wait_timeout: str | None = Field(
        default=None,
        pattern=TIMEOUT_PATTERN,
        description="How long its container is waited for, from when the pod's volumes are "
        "filled; gate.noProgressSeconds where unset.",
    )
    wait_for_ready: bool = Field(
        default=False, description="Wait until the container is ready, not only running."
    )


class InitRestoreHook(Model):
    """Containers that run after the pod's volumes were filled, before its own."""

    init_containers: list[dict[str, Any]] = Field(
        min_length=1, description="As in a pod's spec, each with name and image at least."
    )
    timeout: str = Field(
        default="",
        pattern=f"^$|{TIMEOUT_PATTERN}",
        description="How long they are waited for, from when the pod's volumes are filled; "
        "gate.noProgressSeconds where unset, 0s: they are not waited for.",
    )


class RestoreHookAction(Model):
    """What one hook does: a command, or init containers."""

    exec: ExecRestoreHook | None = Field(
        default=None, description="Runs a command in a container of the pod."
    )
    init: InitRestoreHook | None = Field(
        default=None, description="Puts init containers into the pod, before its own."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.exec is None) == (self.init is None):
            raise ValueError("a hook is either exec or init")
        return self


class RestoreHookResource(PodSelection):
    """Hooks for the restored pods that it selects, by their namespaces in this cluster."""

    post_hooks: list[RestoreHookAction] = Field(
        default=[], description="Init containers, and commands that run one after the other."
    )


class RestoreHooks(Model):
    skip: bool = Field(
        default=False, description="No hooks at all, neither these nor those of annotations."
    )
    resources: list[RestoreHookResource] = Field(
        default=[], description="Hooks for pods that do not name their own in annotations."
    )
