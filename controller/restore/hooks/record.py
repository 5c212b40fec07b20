"""What is recorded of the hooks of one restored pod, outside of this process. Pure.

Decision: one Secret per pod in Ararat's namespace, as with a backup's hooks; it belongs to the
Restore and goes with it. It says which hook may have begun *before* that one is started: what was
begun is never begun again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ararat import naming
from ararat.api import Restore
from ararat.api.base import Model
from ararat.api.names import RESTORE_HOOKS_OF
from ararat.api.nodejob import PodReference
from ararat.hooks import pod_id
from controller.hooks import kept
from controller.hooks.results import HookResult, Means, RecordedHook

from .parse import ExecHook


class RestoreHook(RecordedHook):
    """A command that runs once."""

    #: Seconds.
    wait_timeout: float
    wait_for_ready: bool = False

    @classmethod
    def recorded(cls, found: ExecHook, *, patience: float) -> RestoreHook:
        wait = found.wait_timeout if found.wait_timeout is not None else patience
        return cls(
            container=found.hook.container,
            command=list(found.hook.command),
            on_error=found.hook.on_error,
            timeout=found.hook.timeout,
            wait_timeout=wait,
            wait_for_ready=found.wait_for_ready,
        )


class Record(Model):
    """The hooks of one pod."""

    restore: str
    restore_uid: str
    pod: PodReference
    #: Init containers that are waited for first, and for how many seconds.
    init: list[str] = []
    init_timeout: float = 0.0
    hooks: list[RestoreHook] = []
    #: Of each container that a hook runs in, as far as it was asked.
    means: dict[str, Means] = {}
    #: Seconds since 1970: when the wait for what is next began.
    since: float = 0.0
    #: How many hooks have ended, and the one that may have begun.
    ended: int = 0
    running: int | None = None
    results: list[HookResult] = []
    #: Nothing more is done for this pod.
    finished: bool = False
    #: Why it has hooks that cannot be read.
    invalid: str = ""

    @property
    def id(self) -> str:
        return f"{self.pod.namespace}/{self.pod.name}"

    @property
    def next(self) -> RestoreHook | None:
        return self.hooks[self.ended] if self.ended < len(self.hooks) else None

    @property
    def begun(self) -> RestoreHook | None:
        """The hook that may have begun."""
        return self.hooks[self.running] if self.running is not None else None


def reference(pod: Mapping[str, Any]) -> PodReference:
    namespace, _, name = pod_id(pod).partition("/")
    return PodReference(namespace=namespace, name=name, uid=pod["metadata"]["uid"])


def encode(
    record: Record, *, restore: Restore, namespace: str, version: str | None
) -> dict[str, Any]:
    """The Secret. ``version``: the resource version it replaces."""
    pod = record.pod
    unique = (record.restore_uid, pod.uid)
    metadata = {
        "name": naming.object_name("restore-hooks", pod.namespace, pod.name, unique=unique),
        "namespace": namespace,
        "labels": {RESTORE_HOOKS_OF: record.restore_uid},
        "ownerReferences": [restore.owner_reference()],
    }
    return kept.encode(record, metadata, version=version)


def decode(secret: Mapping[str, Any]) -> Record:
    """Raises Damaged: somebody else wrote it."""
    return kept.decode(secret, Record)
