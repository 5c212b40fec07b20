"""What one target of a verification needs next. Pure.

Problem: a scratch pod waits for a node, is evicted, loses its node; a job ends badly for reasons
that say nothing about the backup; the controller is killed in between.
Decision: everything is derived from the objects with the target's derived names: a pod is made, a
job when it runs, and when the job has ended the pod goes. What was no fault of the backup's is
tried again under a further name, three times in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ararat.api import PodVolumeRestore
from ararat.api.backup import Failure
from controller.helper_pods import trouble

from .targets import Target, judge

ATTEMPTS = 3
#: A scratch pod that does not run after this long will not.
PENDING = timedelta(minutes=10)
#: An agent that has been silent for so long is gone.
SILENT = timedelta(minutes=10)
_AGAIN = frozenset({"PodNotFound", "PodReplaced", "PodTerminating", "PodEnded", "AgentGone"})


@dataclass(frozen=True)
class Ended:
    failure: Failure | None
    #: Of the job that was the last word.
    bytes: int = 0


@dataclass(frozen=True)
class NeedsPod:
    attempt: int


@dataclass(frozen=True)
class NeedsJob:
    attempt: int
    pod: Mapping[str, Any]


@dataclass(frozen=True)
class Waits:
    """Something is under way."""

    attempt: int
    why: str = ""
    job: PodVolumeRestore | None = None


Step = Ended | NeedsPod | NeedsJob | Waits


def next_step(
    target: Target,
    *,
    jobs: list[PodVolumeRestore],
    pods: Mapping[int, Mapping[str, Any]],
    agents: Mapping[str, bool],
    now: datetime,
) -> Step:
    """``jobs``: by attempt. ``pods``: scratch pods there are. ``agents``: node to Ready."""
    attempt = len(jobs)
    if jobs:
        last = jobs[-1]
        if not last.status.phase.terminal:
            return _running(target, last, attempt - 1, agents, now)
        failure = judge(target, last)
        if failure is None or failure.reason not in _AGAIN or attempt >= ATTEMPTS:
            return Ended(failure, last.status.progress.bytes_done)
    pod = pods.get(attempt)
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return NeedsPod(attempt)
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        status = pod["status"]
        why = status.get("message") or status.get("reason") or f"it ended ({phase})"
        return Ended(_failure(target, "ScratchEnded", f"the scratch pod is of no use: {why}"))
    if phase == "Running" and pod["spec"].get("nodeName"):
        return NeedsJob(attempt, pod)
    why = trouble(pod)
    made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    if now - made > PENDING:
        text = f"the scratch pod did not start within {PENDING.seconds // 60} minutes: {why}"
        return Ended(_failure(target, "ScratchPending", text))
    return Waits(attempt, why=f"its scratch pod does not run yet: {why}")


def _running(
    target: Target,
    job: PodVolumeRestore,
    attempt: int,
    agents: Mapping[str, bool],
    now: datetime,
) -> Step:
    node = job.spec.node
    if agents.get(node):
        return Waits(attempt, job=job)
    since = job.status.heartbeat_time or job.metadata.creation_timestamp or now
    text = f"node {node} has no Ready agent"
    if now - since > SILENT:
        return Ended(_failure(target, "NoAgent", f"{text}: the volume was not read"))
    return Waits(attempt, why=text, job=job)


def _failure(target: Target, reason: str, message: str) -> Failure:
    return Failure(object=target.id, reason=reason, message=message)
