"""What is recorded of the hooks of one pod, outside of this process. Pure.

Problem: whoever goes on after a crash must know whose post hooks are owed, and the commands
themselves: by then the pod's annotations may be others.
Decision: one Secret per pod, in Ararat's own namespace: commands and what they print may hold
passwords, and ten thousand pods do not fit into one object. It is written before the first pre
hook starts, when the last one has ended, and when the pod was let go, each time only if it is
still as it was read. It has no owner: it must outlive a Backup that somebody tears out.
Limits: at most 32 hooks for each pod, and of each the last 4 KiB of either stream.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ararat import naming
from ararat.api.base import Model
from ararat.api.hooks import OnError
from ararat.api.names import HOOKS_OF
from ararat.api.nodejob import PodReference
from ararat.errors import Damaged
from ararat.hooks import Hook, When

from .decide import State

#: What is kept of a pod whose hooks were begun again and again.
MOST_RESULTS = 96
_KEY = "record"


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


class Record(Model):
    """The hooks of one pod."""

    backup: str
    backup_uid: str
    pod: PodReference
    #: UID of a pod that took its name while its pre hooks ran: they may have met that one.
    also: str = ""
    group: str
    state: State = State.IDLE
    pre: list[RecordedHook] = []
    post: list[RecordedHook] = []
    #: Of each container that a hook runs in.
    means: dict[str, Means] = {}
    attempts: int = 0
    max_freeze: float = 600.0
    #: Seconds since 1970: when the first pre hook began, and when the last post hook had ended.
    frozen_at: float | None = None
    thawed_at: float | None = None
    results: list[HookResult] = []
    #: Why the pod's volumes must not be read or do not count, and the same in one sentence.
    failure: str = ""
    message: str = ""
    #: Node jobs that were not done when the pod had to be let go: what they bring does not count.
    cut: list[str] = []

    @property
    def id(self) -> str:
        return f"{self.pod.namespace}/{self.pod.name}"

    @property
    def longest_pre(self) -> float:
        """Seconds that the pre hooks may take, if there is a way to end them."""
        return sum(hook.timeout for hook in self.pre)

    @property
    def endless(self) -> bool:
        """Whether a pre hook runs where nothing could end it."""
        return any(self.means.get(hook.container, Means.NONE) is Means.NONE for hook in self.pre)

    @property
    def frozen_seconds(self) -> float | None:
        if self.frozen_at is None or self.thawed_at is None:
            return None
        return max(0.0, self.thawed_at - self.frozen_at)


def secret_name(backup_uid: str, pod: PodReference) -> str:
    return naming.object_name("hooks", pod.namespace, pod.name, unique=(backup_uid, pod.uid))


def encode(record: Record, *, namespace: str, version: str | None) -> dict[str, Any]:
    """The Secret. ``version``: the resource version it replaces."""
    metadata: dict[str, Any] = {
        "name": secret_name(record.backup_uid, record.pod),
        "namespace": namespace,
        "labels": {HOOKS_OF: record.backup_uid},
    }
    if version is not None:
        metadata["resourceVersion"] = version
    data = gzip.compress(json.dumps(record.to_dict(), ensure_ascii=False).encode(), mtime=0)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {_KEY: base64.b64encode(data).decode()},
    }


def decode(secret: Mapping[str, Any]) -> Record:
    """Raises Damaged: somebody else wrote it."""
    name = secret["metadata"]["name"]
    try:
        data = base64.b64decode(secret["data"][_KEY], validate=True)
        return Record.model_validate_json(gzip.decompress(data))
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error) as exc:
        raise Damaged(f"Secret {name} is not the record of a pod's hooks any more") from exc
