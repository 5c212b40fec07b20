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

from collections.abc import Mapping
from typing import Any

from ararat import naming
from ararat.api.base import Model
from ararat.api.names import HOOKS_OF
from ararat.api.nodejob import PodReference
from controller.hooks import kept
from controller.hooks.results import HookResult, Means, RecordedHook

from .decide import State

#: What is kept of a pod whose hooks were begun again and again.
MOST_RESULTS = 96


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
    metadata = {
        "name": secret_name(record.backup_uid, record.pod),
        "namespace": namespace,
        "labels": {HOOKS_OF: record.backup_uid},
    }
    return kept.encode(record, metadata, version=version)


def decode(secret: Mapping[str, Any]) -> Record:
    """Raises Damaged: somebody else wrote it."""
    return kept.decode(secret, Record)
