"""Why a volume that waits does not move. Pure.

Problem: "still waiting" is the worst answer. A pod that cannot be scheduled, a claim that nobody
provisions, an image that cannot be pulled, a node without an agent look the same from outside.
Decision: for each unit that is neither filled nor failed, one cause with a reason and a sentence
that says where to look; the first of its pods that could move decides. Normal delays (a scheduler
at work, a volume being attached) are not causes until they last.
A job that is under way has a cause, too, once it stands still: its agent says so itself, and an
agent that says nothing at all is told of by us.
Limits: for what only Events know (failed mounts, provisioning) the caller passes the last warning.
What a scheduler means is read from its words, which are the same from 1.20 on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from ararat import gate
from ararat.api import PodVolumeRestore
from ararat.api.backup import Failure
from ararat.api.nodejob import STALLED, JobPhase
from ararat.api.restore import CLAIM_GONE

from .claims import class_of
from .gated import GatedPod
from .units import PodVolume, Unit

#: Seconds that each step may take before it is called a cause.
_SCHEDULING = 15.0
#: A scheduler's first word about a new pod is often taken back within a second or two.
_SETTLING = 5.0
_STARTING = 30.0
_PICKING_UP = 45.0
#: Agents write a sign of life into a running job every 30 seconds.
_SILENCE = 50.0
#: A scheduler's words about claims that are bound to volumes it cannot bring to the pod ...
_ELSEWHERE = re.compile(r"volume node affinity conflict|PersistentVolume's node affinity")
#: ... and about claims that are not bound.
_UNBOUND = re.compile(
    r"unbound.*PersistentVolumeClaim|didn't find available persistent volumes"
    r"|did not have enough free storage|persistentvolumeclaim .* not found|storageclass"
)

_GONE = (
    "the claim was deleted before it was filled: when it is made again, by its owner or by you, "
    "its data is restored into it; to give it up: ararat restore release"
)

Warnings = Mapping[tuple[str, str, str], str]


def why_waiting(
    unit: Unit,
    *,
    agents: Mapping[str, bool],
    now: datetime,
    warnings: Warnings | None = None,
    troubles: Mapping[str, str] | None = None,
    quiet: float = 0.0,
) -> Failure | None:
    """The cause; None where nothing is wrong.

    ``agents`` maps nodes with an agent pod to whether it is Ready, ``troubles`` those that are not
    to why. ``warnings`` are the last warning Events by (kind, namespace, name). ``quiet``: seconds
    for which nothing about the unit has changed, not even its job's sign of life.
    """
    if unit.over or unit.missing or unit.failed is not None or unit.word is not None:
        return None
    if unit.gone:
        return Failure(object=unit.id, reason=CLAIM_GONE, message=_GONE)
    said, troubles = warnings or {}, troubles or {}
    if unit.active is not None and unit.active.status.phase is JobPhase.IN_PROGRESS:
        return why_standing(unit, unit.active, agents=agents, troubles=troubles, quiet=quiet)
    if not unit.holders:
        return _no_pod(unit, said)
    causes = [
        cause
        for holder in unit.holders
        if (cause := _of_holder(unit, holder, agents=agents, troubles=troubles, now=now, said=said))
        is not None
    ]
    # As long as one of its pods can move, the unit can.
    return causes[0] if len(causes) == len(unit.holders) else None


def why_job_waits(
    unit: Unit,
    job: PodVolumeRestore,
    *,
    agents: Mapping[str, bool],
    troubles: Mapping[str, str],
    now: datetime,
    quiet: float,
) -> Failure | None:
    """Why a job that was made is not getting on, whether its agent has taken it or not."""
    if job.status.phase is JobPhase.IN_PROGRESS or not agents.get(job.spec.node, False):
        return why_standing(unit, job, agents=agents, troubles=troubles, quiet=quiet)

    def cause(reason: str, message: str) -> Failure:
        return Failure(object=unit.id, reason=reason, message=message)

    return _of_job(job, now=now, cause_of=cause)


def why_standing(
    unit: Unit,
    job: PodVolumeRestore,
    *,
    agents: Mapping[str, bool],
    troubles: Mapping[str, str],
    quiet: float,
) -> Failure | None:
    """Why a job that an agent has taken does not move."""
    node = job.spec.node
    if not agents.get(node, False):
        return Failure(object=unit.id, reason="NoAgent", message=_no_agent(node, agents, troubles))
    if quiet >= _SILENCE:
        last = job.status.heartbeat_time
        since = f" since {last:%H:%M:%S} UTC" if last is not None else ""
        return Failure(
            object=unit.id,
            reason="AgentSilent",
            message=f"the agent on node {node} is ready and has said nothing about node job "
            f"{job.name}{since}: see its log, or delete its pod, and its successor goes on",
        )
    if job.status.reason == STALLED:
        return Failure(
            object=unit.id, reason=STALLED, message=job.status.message or "nothing moves"
        )
    return None


def _no_agent(node: str, agents: Mapping[str, bool], troubles: Mapping[str, str]) -> str:
    known = "is not ready" if node in agents else "does not exist"
    why = f" ({troubles[node]})" if node in troubles else ""
    return (
        f"the agent on node {node} {known}{why}: see kubectl get pods -o wide in Ararat's namespace"
    )


def _no_pod(unit: Unit, said: Warnings) -> Failure:
    def cause(reason: str, message: str) -> Failure:
        return Failure(object=unit.id, reason=reason, message=message)

    refused = said.get(("Namespace", unit.key[1], "FailedCreate"))
    if refused is not None:
        text = f"no pod mounts the claim; pods of its namespace cannot be created: {refused}"
        return cause("PodRefused", text)
    refused = said.get(("Helper", unit.key[1], unit.claim.name if unit.claim else ""))
    if refused is not None:
        text = f"no pod mounts the claim, and Ararat's own cannot be created: {refused}"
        return cause("PodRefused", text)
    last = unit.fills[-1] if unit.fills else None
    if last is not None and last.status.phase.terminal:
        return cause(
            "NoPod",
            f"pod {last.spec.pod.name} that it was being filled through is gone "
            f"({last.status.message or last.status.reason or 'no cause given'}); the next pod that "
            "mounts the claim gets its data",
        )
    return cause("NoPod", "no pod mounts the claim yet: its data is restored as soon as one does")


def _of_holder(
    unit: Unit,
    holder: PodVolume,
    *,
    agents: Mapping[str, bool],
    troubles: Mapping[str, str],
    now: datetime,
    said: Warnings,
) -> Failure | None:
    pod = holder.pod
    where = f"{pod.path}/{holder.volume}"
    age = _age(pod.created, now)

    def cause(reason: str, message: str) -> Failure:
        return Failure(object=where, reason=reason, message=message)

    if not pod.node:
        return _unscheduled(unit, pod, cause_of=cause, age=age, said=said)
    if not agents.get(pod.node, False):
        return cause("NoAgent", _no_agent(pod.node, agents, troubles))
    trouble = gate.gate_trouble(dict(pod.raw))
    if trouble is not None:
        return cause("GateCannotStart", f"the gate of pod {pod.name} cannot start: {trouble}")
    if not gate.gate_running(dict(pod.raw)):
        if age < _STARTING:
            return None
        event = said.get(("Pod", pod.namespace, pod.name))
        text = f": {event}" if event else ", its volumes are being attached or mounted"
        return cause("PodStarting", f"pod {pod.name} has not started on node {pod.node} yet{text}")
    job = next((j for j in reversed(unit.jobs) if holder.is_of(j)), None)
    return _of_job(job, now=now, cause_of=cause)


def _unscheduled(
    unit: Unit,
    pod: GatedPod,
    *,
    cause_of: Callable[[str, str], Failure],
    age: float,
    said: Warnings,
) -> Failure | None:
    if age < _SETTLING:
        return None
    event = None
    if unit.claim is not None:
        event = said.get(("PersistentVolumeClaim", pod.namespace, unit.claim.name))
    for condition in (pod.raw.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            text = condition.get("message") or condition.get("reason") or "no cause given"
            if _ELSEWHERE.search(text) and (unit.raw.get("spec") or {}).get("volumeName"):
                return cause_of("WrongZone", _elsewhere(unit, pod, text))
            if _UNBOUND.search(text) or (
                event and (unit.raw.get("status") or {}).get("phase") == "Pending"
            ):
                return cause_of("ClaimUnbound", _unbound(unit, text, event))
            return cause_of("Unschedulable", f"pod {pod.name} cannot be scheduled: {text}")
    if age < _SCHEDULING:
        return None
    return cause_of("NotScheduled", f"pod {pod.name} has not been scheduled yet")


def _elsewhere(unit: Unit, pod: GatedPod, text: str) -> str:
    name = unit.claim.name if unit.claim is not None else "of the volume"
    return (
        f"the volume of claim {name} is in a zone or on a node where pod {pod.name} cannot run: "
        f"{text}; a storage class that binds late (WaitForFirstConsumer) puts it where the pod is: "
        "see --storage-class-mappings"
    )


def _unbound(unit: Unit, text: str, event: str | None) -> str:
    name = unit.claim.name if unit.claim is not None else "of the volume"
    storage_class = class_of(unit.raw) if unit.raw.get("spec") else None
    named = f"storage class {storage_class!r}" if storage_class else "no storage class"
    return f"claim {name} ({named}) is not bound: {event or text}"


def _of_job(
    job: PodVolumeRestore | None, *, now: datetime, cause_of: Callable[[str, str], Failure]
) -> Failure | None:
    if job is None or job.metadata.creation_timestamp is None:
        return None
    if (now - job.metadata.creation_timestamp).total_seconds() < _PICKING_UP:
        return None
    said = job.status.message or f"the agent on node {job.spec.node} has not taken the job yet"
    return cause_of(job.status.reason or "Queued", said)


def _age(created: str, now: datetime) -> float:
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return 0.0
    return (now - moment).total_seconds()
