"""What to do next about the hooks of one group of pods. Pure.

Problem: a pod that was made quiet must be let go whatever happens: a job fails, somebody cancels,
the controller dies between two lines. And never while the command that makes it quiet may still
be running, or it would be made quiet after it was let go.
Decision: each look at a group derives the next step from four things alone: the state that each
pod's record holds, the phases of the group's jobs, the time since the first pre hook began, and
whether the backup is ending. The record says ``Owed`` before the first pre hook is started and
``Frozen`` after the last one has ended; a controller that finds ``Owed`` and did not write it
itself does not know whether the command still runs: it waits as long as that can be, runs the
post hooks, and begins again.
Limits: where a container has no means to end a command (see execute), "as long as that can be" is
until the pod has been frozen for the longest time allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ararat.api.nodejob import JobPhase

#: How often the hooks of a pod are begun again after a controller died in the middle.
ATTEMPTS = 3


class State(StrEnum):
    """What the record of a pod says."""

    #: Nothing was begun, or what was begun was undone.
    IDLE = "Idle"
    #: A pre hook may have begun: the post hooks are owed.
    OWED = "Owed"
    #: The pre hooks have ended well: the volumes may be read. The post hooks are owed.
    FROZEN = "Frozen"
    #: A pre hook failed: the volumes must not be read. The post hooks are owed.
    BROKEN = "Broken"
    #: The post hooks were run, or cannot be.
    DONE = "Done"

    @property
    def owes(self) -> bool:
        return self in (State.OWED, State.FROZEN, State.BROKEN)


@dataclass(frozen=True)
class Pod:
    """A pod of the group, as it is now."""

    uid: str
    state: State = State.IDLE
    #: A task of this process runs its hooks at this moment.
    busy: bool = False
    #: Seconds since its first pre hook began.
    frozen_for: float = 0.0
    #: For OWED: seconds until a pre hook that somebody began has certainly ended.
    settled_in: float = 0.0
    #: How often its hooks were begun.
    attempts: int = 0
    #: Why its volumes must not be read.
    failure: str = ""


@dataclass(frozen=True)
class Job:
    name: str
    phase: JobPhase
    hold: bool
    cancelled: bool = False


@dataclass(frozen=True)
class Decision:
    #: Pods (by UID) whose pre hooks begin now.
    freeze: tuple[str, ...] = ()
    #: Pods whose post hooks are run now.
    thaw: tuple[str, ...] = ()
    #: Of these: what was begun is undone, and begins again later.
    again: tuple[str, ...] = ()
    #: Jobs that may run.
    release: tuple[str, ...] = ()
    #: Jobs that end as failed before they ran; why is in ``failure``.
    fail: tuple[str, ...] = ()
    failure: str = ""
    #: Jobs that took longer than the pods may be frozen.
    cut: tuple[str, ...] = ()
    #: Nothing is left to do for the hooks of this group.
    done: bool = False
    #: Seconds until time alone changes the answer.
    wait: float | None = None


HOOK_FAILED = "PreHookFailed"
INTERRUPTED = "HookInterrupted"
WINDOW_CLOSED = "HooksAlreadyRun"


def decide(
    pods: Sequence[Pod], jobs: Sequence[Job], *, ending: bool, max_freeze: float
) -> Decision:
    """The next step. ``jobs`` are all jobs of the group, whether the cache shows them or not;
    ``ending``: nothing is read any more (the backup was cancelled, has failed, or is gone)."""
    if ending:
        return _closing(pods, ())
    open_jobs = [job for job in jobs if not job.phase.terminal]
    failure = next((pod.failure for pod in pods if pod.failure), "")
    if any(p.state is State.IDLE and p.attempts >= ATTEMPTS and not p.busy for p in pods):
        failure = failure or INTERRUPTED
    if failure:
        return _closing(pods, open_jobs, failure=failure)
    if any(pod.state is State.DONE for pod in pods):
        # Also met by a job that was deleted and made again after its pods were let go.
        return _closing(pods, open_jobs, failure=WINDOW_CLOSED)
    if all(pod.state is State.IDLE and not pod.busy for pod in pods):
        return _not_begun(pods, jobs, open_jobs)
    return _begun(pods, jobs, open_jobs, max_freeze=max_freeze)


def _not_begun(pods: Sequence[Pod], jobs: Sequence[Job], open_jobs: Sequence[Job]) -> Decision:
    if jobs and not open_jobs:
        return Decision(done=True)  # ended before anything was reserved: nothing is to be frozen
    if all(job.phase is JobPhase.RESERVED or not job.hold for job in open_jobs):
        return Decision(freeze=tuple(pod.uid for pod in pods))
    return Decision()


def _begun(
    pods: Sequence[Pod], jobs: Sequence[Job], open_jobs: Sequence[Job], *, max_freeze: float
) -> Decision:
    frozen = [pod for pod in pods if pod.state is State.FROZEN and not pod.busy]
    owed = [pod for pod in pods if pod.state is State.OWED and not pod.busy]
    undo = tuple(pod.uid for pod in owed if pod.settled_in <= 0)
    unneeded = bool(jobs) and not open_jobs
    if any(pod.frozen_for >= max_freeze for pod in frozen):
        cut = tuple(job.name for job in open_jobs)
        return Decision(thaw=tuple(pod.uid for pod in frozen) + undo, again=undo, cut=cut)
    waits = [max_freeze - pod.frozen_for for pod in frozen]
    waits += [pod.settled_in for pod in owed if pod.settled_in > 0]
    wait = min(waits, default=None)
    if len(frozen) == len(pods) and not unneeded and open_jobs:
        return Decision(release=tuple(job.name for job in open_jobs if job.hold), wait=wait)
    if unneeded or len(frozen) == len(pods):
        # Read, or nothing is left to be read, or there never was anything.
        return Decision(thaw=tuple(pod.uid for pod in frozen) + undo, wait=wait)
    idle = tuple(pod.uid for pod in pods if pod.state is State.IDLE and not pod.busy)
    return Decision(freeze=idle, thaw=undo, again=undo, wait=wait)


def _closing(pods: Sequence[Pod], open_jobs: Sequence[Job], *, failure: str = "") -> Decision:
    """No pod is frozen any more, those that are, are let go, and what is held is not read."""
    owing = [pod for pod in pods if pod.state.owes and not pod.busy]
    settling = [pod for pod in owing if pod.state is State.OWED and pod.settled_in > 0]
    held = tuple(job.name for job in open_jobs if job.hold)
    running = tuple(job.name for job in open_jobs if not job.hold and not job.cancelled)
    return Decision(
        thaw=tuple(pod.uid for pod in owing if pod not in settling),
        fail=held,
        failure=failure if held else "",
        cut=running,
        done=not held and not any(pod.busy or pod.state.owes for pod in pods),
        wait=min((pod.settled_in for pod in settling), default=None),
    )
