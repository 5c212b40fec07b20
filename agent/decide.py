"""What to do with a job now: start it, wait and say why, end it, stop it. Pure.

Problem: a job depends on its own spec, on its pod, and, for a Follow, on another job, each of
which changes at any time and is seen late.
Decision: one function looks at all of them as they are and says what follows; it is asked again
after every change. Another says whether a job that runs must stop.
Limits: knows nothing of slots (agent/queue.py) and of the node's disk (agent/mounted.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.api.names import HELPER
from ararat.api.nodejob import JobPhase, PodReference, RestoreMode, Role
from ararat.gate import gate_passed, gate_restarts, gate_running, gate_trouble, is_gated

#: How long a pod may be unknown to this node before its job fails: watches are independent.
UNKNOWN_POD_SECONDS = 30.0

NodeJob = PodVolumeBackup | PodVolumeRestore
Pod = Mapping[str, Any]


def log_fields(job: NodeJob) -> dict[str, str]:
    """What stands in every line of the log about a job."""
    owner = (
        {"backup": job.spec.backup}
        if isinstance(job, PodVolumeBackup)
        else {"restore": job.spec.restore}
    )
    return {
        **owner,
        "job": job.name,
        "namespace": job.spec.pod.namespace,
        "pod": job.spec.pod.name,
        "volume": job.spec.volume,
    }


@dataclass(frozen=True)
class Start:
    """Nothing stands in the way."""


@dataclass(frozen=True)
class Wait:
    """Not yet; the sentence goes into the job's status."""

    message: str


@dataclass(frozen=True)
class End:
    """Over without a run."""

    phase: JobPhase
    reason: str
    message: str


@dataclass(frozen=True)
class Ignore:
    """Nothing is to be done."""


Step = Start | Wait | End | Ignore


class Stop(StrEnum):
    """Why a run is stopped from outside; the value is the reason in the status."""

    CANCELLED = "Cancelled"
    DELETED = "Deleted"
    TAKEN = "Taken"
    POD_TERMINATING = "PodTerminating"
    POD_ENDED = "PodEnded"
    GATE_OPEN = "GateOpen"
    SHUTDOWN = "Shutdown"
    NO_PROGRESS = "NoProgress"


def next_step(
    job: NodeJob,
    pod: Pod | None,
    *,
    seen_seconds: float,
    leader: PodVolumeRestore | None = None,
    leader_lost: bool = False,
) -> Step:
    """For a job that does not run here. ``seen_seconds``: since this agent first saw it.

    ``leader`` is the job that a Follow follows; ``leader_lost``: the API says there is none.
    """
    if job.status.phase.terminal or job.metadata.deletion_timestamp is not None:
        return Ignore()
    if job.spec.cancel:
        return End(JobPhase.CANCELLED, "Cancelled", "Cancelled before it started.")
    name = f"{job.spec.pod.namespace}/{job.spec.pod.name}"
    if pod is None:
        if seen_seconds < UNKNOWN_POD_SECONDS:
            return Wait(f"Pod {name} is not known on this node yet.")
        return End(JobPhase.FAILED, "PodNotFound", f"Pod {name} is not on node {job.spec.node}.")
    ended = _over(job.spec.pod, pod)
    if ended is not None:
        return ended
    if isinstance(job, PodVolumeBackup):
        return _backup_step(name, pod)
    if job.spec.role is Role.ANSWER:
        return _answer_step(job, name, pod)
    if job.spec.role is Role.FOLLOW:
        return _follow_step(job, leader, lost=leader_lost)
    if job.spec.mode is RestoreMode.IN_PLACE:
        return _backup_step(name, pod)  # all it takes is a pod that runs
    if job.spec.mode is RestoreMode.SCRATCH:
        return _scratch_step(job, name, pod)
    return _fill_step(name, pod)


def must_stop(job: NodeJob | None, pod: Pod | None) -> Stop | None:
    """Whether a job that runs here must stop; both as they are seen now."""
    if job is None or job.metadata.deletion_timestamp is not None:
        return Stop.DELETED
    if job.status.phase.terminal:
        return Stop.TAKEN
    if job.spec.cancel:
        return Stop.CANCELLED
    if pod is None or pod["metadata"].get("uid") != job.spec.pod.uid:
        return Stop.POD_ENDED
    if pod["metadata"].get("deletionTimestamp"):
        return Stop.POD_TERMINATING
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return Stop.POD_ENDED
    in_new_pod = isinstance(job, PodVolumeRestore) and job.spec.mode is RestoreMode.NEW_POD
    if in_new_pod and gate_passed(pod):
        return Stop.GATE_OPEN
    return None


def _over(reference: PodReference, pod: Pod) -> End | None:
    name = f"{reference.namespace}/{reference.name}"
    if pod["metadata"].get("uid") != reference.uid:
        return End(
            JobPhase.FAILED,
            "PodReplaced",
            f"Pod {name} was replaced by a new one of the same name since the job was made.",
        )
    if pod["metadata"].get("deletionTimestamp"):
        return End(JobPhase.FAILED, Stop.POD_TERMINATING, f"Pod {name} is being deleted.")
    phase = pod.get("status", {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        return End(
            JobPhase.FAILED,
            Stop.POD_ENDED,
            f"Pod {name} has ended ({phase}); its volumes are no longer mounted.",
        )
    return None


def _backup_step(name: str, pod: Pod) -> Step:
    if pod.get("status", {}).get("phase") != "Running":
        return Wait(f"Pod {name} does not run yet{_why_pending(pod)}.")
    return Start()


def _scratch_step(job: PodVolumeRestore, name: str, pod: Pod) -> Step:
    """Whatever a job says, a pod of the user's is no scratch."""
    own = (pod["metadata"].get("labels") or {}).get(HELPER) == "true"
    if not own or job.spec.pod.namespace != job.metadata.namespace:
        return End(
            JobPhase.FAILED,
            "NoScratch",
            f"Pod {name} is none of Ararat's own; nothing is written into its volumes.",
        )
    return _backup_step(name, pod)


def _fill_step(name: str, pod: Pod) -> Step:
    if not is_gated(pod):
        return End(
            JobPhase.FAILED,
            "NotGated",
            f"Pod {name} has no gate; nothing is written under a pod that may be running.",
        )
    if gate_passed(pod):
        return End(
            JobPhase.FAILED,
            Stop.GATE_OPEN,
            f"The gate of pod {name} is open already; nothing is written under a running pod.",
        )
    if gate_running(pod):
        return Start()
    trouble = gate_trouble(pod)
    if trouble is not None:
        return Wait(f"The gate of pod {name} cannot start: {trouble}.")
    return Wait(f"Pod {name} has not reached its gate yet{_why_pending(pod)}.")


def _answer_step(job: PodVolumeRestore, name: str, pod: Pod) -> Step:
    """Said, once there is a gate to say it to; the gatekeeper does it."""
    if gate_running(pod) or gate_restarts(pod) or gate_passed(pod):
        return End(JobPhase.COMPLETED, "Answered", job.spec.cause)
    return Wait(f"Pod {name} has not reached its gate yet{_why_pending(pod)}.")


def _follow_step(job: PodVolumeRestore, leader: PodVolumeRestore | None, *, lost: bool) -> Step:
    if leader is None and lost:
        return End(
            JobPhase.FAILED,
            "LeaderGone",
            f"{job.spec.follows}, which was to fill the volume, does not exist any more.",
        )
    if leader is None:
        return Wait(f"Waits for {job.spec.follows}, which fills the volume.")
    phase = leader.status.phase
    if phase is JobPhase.COMPLETED:
        return End(phase, "Followed", f"The volume was filled by {leader.name}.")
    if phase.terminal:
        cause = leader.status.message or leader.status.reason or "no cause given"
        return End(phase, leader.status.reason or "LeaderFailed", f"{leader.name}: {cause}")
    return Wait(f"{leader.name} fills the volume. {leader.status.progress.text}".strip())


def _why_pending(pod: Pod) -> str:
    """What the pod itself says about it, as far as a person can use it."""
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f": {condition.get('message') or condition.get('reason') or 'not scheduled'}"
    statuses = pod.get("status", {}).get("initContainerStatuses") or pod.get("status", {}).get(
        "containerStatuses"
    )
    for status in statuses or []:
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f" ({waiting['reason']})"
    return ""
