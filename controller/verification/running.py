"""What the pods of a verification need next, and what becomes of them. Pure.

Problem: a pod that does not start may tell of a bad backup, or of a full cluster, a registry that
is away, a node that went; and a command may fail because the application is still starting.
Decision: everything is derived from the Restore and from what runs in the namespaces. Restored,
then ready, then asked, each tried again until the time for all of it is over. What then counts is
what was seen last: containers that ran and did not get ready, or a command that failed, are a bad
result; a pod that never ran, and data that did not come, are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ararat import gate
from ararat.api import Restore
from ararat.api.restore import RestorePhase
from ararat.api.verification import RunOutcome, VerificationProbe, VerificationRun
from ararat.containers import ended
from ararat.human import plural
from controller.helper_pods import is_helper, trouble

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    restore: Restore | None
    #: Deployments, StatefulSets, ReplicaSets, ReplicationControllers of the copies.
    workloads: Sequence[Raw] = ()
    pods: Sequence[Raw] = ()
    #: The time for all of it is over.
    overdue: bool = False
    #: Number of a probe, and UID of a pod in which it succeeded.
    passed: frozenset[tuple[int, str]] = frozenset()
    #: What the last one that failed said.
    answer: str = ""


@dataclass(frozen=True)
class NeedsRestore:
    pass


@dataclass(frozen=True)
class Holds:
    """Something is under way."""

    why: str


@dataclass(frozen=True)
class NeedsAnswers:
    """By number of the probe and pod."""

    asked: tuple[tuple[int, Raw], ...]


@dataclass(frozen=True)
class Over:
    outcome: RunOutcome
    reason: str
    message: str


Act = NeedsRestore | Holds | NeedsAnswers | Over


def next_act(run: VerificationRun, namespaces: Mapping[str, str], seen: Seen) -> Act:
    """``namespaces``: in the backup to the copy."""
    restore = seen.restore
    if restore is None:
        return _late(run, "its restore was not begun") if seen.overdue else NeedsRestore()
    status = restore.status
    if not status.phase.terminal:
        why = status.message or "its pods are being restored"
        return _late(run, why) if seen.overdue else Holds(why)
    if status.phase is not RestorePhase.COMPLETED:
        first = status.failures[0] if status.failures else None
        why = f"{first.object}: {first.message}" if first else status.message or status.phase.value
        return _untried("RunNotRestored", f"its pods could not be restored: {why}")
    pods = [pod for pod in seen.pods if not is_helper(pod)]
    if not pods and not any(_wanted(workload) for workload in seen.workloads):
        return _untried("NothingToRun", "the backup holds no pod that can run in a copy")
    found = _not_ready(seen.workloads, pods)
    if found is not None:
        why, started = found
        if not seen.overdue:
            return Holds(why)
        if started:
            text = f"its pods were not ready within {run.timeout}: {why}"
            return Over(RunOutcome.FAILED, "PodsNotReady", text)
        return _untried("PodsNotStarted", f"its pods did not start within {run.timeout}: {why}")
    return _ask(run, namespaces, seen, pods)


def _ask(
    run: VerificationRun, namespaces: Mapping[str, str], seen: Seen, pods: Sequence[Raw]
) -> Act:
    left: list[tuple[int, Raw]] = []
    for number, probe in enumerate(run.probes):
        chosen = [pod for pod in pods if _ready(pod) and _meant(probe, namespaces, pod)]
        if not chosen:
            return _untried("ProbeWithoutPods", f"probe {number + 1} means no pod that runs")
        left += [(number, pod) for pod in chosen if (number, uid_of(pod)) not in seen.passed]
    if not left:
        text = f"{plural(len(pods), 'pod')} started"
        text += f", {plural(len(run.probes), 'probe')} succeeded" if run.probes else ""
        return Over(RunOutcome.PASSED, "PodsRan", text)
    if seen.overdue:
        if seen.answer:
            return Over(RunOutcome.FAILED, "ProbeFailed", seen.answer)
        return _late(run, "its pods were ready too late to be asked")
    return NeedsAnswers(tuple(left))


def container_of(probe: VerificationProbe, pod: Raw) -> str:
    """Where a probe runs."""
    return probe.container or str(pod["spec"]["containers"][0]["name"])


def path_of(pod: Raw) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def uid_of(pod: Raw) -> str:
    return str(pod["metadata"]["uid"])


def _meant(probe: VerificationProbe, namespaces: Mapping[str, str], pod: Raw) -> bool:
    metadata = pod["metadata"]
    if probe.namespace and namespaces.get(probe.namespace) != metadata["namespace"]:
        return False
    if probe.label_selector is None:
        return True
    return probe.label_selector.matches(metadata.get("labels") or {})


def _not_ready(workloads: Iterable[Raw], pods: Sequence[Raw]) -> tuple[str, bool] | None:
    """What is not ready, and whether it ran; None: all is. What ran and failed goes first."""
    troubles: list[tuple[str, bool]] = []
    for pod in pods:
        metadata, phase = pod["metadata"], (pod.get("status") or {}).get("phase")
        if metadata.get("deletionTimestamp") or phase == "Succeeded" or _ready(pod):
            continue
        owned = any(owner.get("controller") for owner in metadata.get("ownerReferences") or [])
        if phase == "Failed" and owned:
            continue  # its owner makes another
        troubles.append((f"pod {path_of(pod)}: {_why(pod)}", _started(pod)))
    if troubles:
        return max(troubles, key=lambda found: found[1])
    for workload in workloads:
        metadata, wanted = workload["metadata"], _wanted(workload)
        ready = int((workload.get("status") or {}).get("readyReplicas") or 0)
        if ready < wanted:
            where = f"{workload['kind']} {metadata['namespace']}/{metadata['name']}"
            return f"{where}: {ready} of {plural(wanted, 'pod')} ready", False
    return None


def _wanted(workload: Raw) -> int:
    replicas = workload["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _ready(pod: Raw) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _containers(pod: Raw) -> list[Raw]:
    status = pod.get("status") or {}
    found = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return [container for container in found if container.get("name") != gate.CONTAINER]


def _started(pod: Raw) -> bool:
    """Whether a container of the application's own has run."""
    return any(
        container.get("restartCount")
        or (container.get("lastState") or {}).get("terminated")
        or "running" in (container.get("state") or {})
        or ended(container) is not None
        for container in _containers(pod)
    )


def _why(pod: Raw) -> str:
    for container in _containers(pod):
        state = container.get("state") or {}
        last = (container.get("lastState") or {}).get("terminated") or ended(container)
        if last and last.get("exitCode"):
            text = f"container {container['name']} ended with exit code {last['exitCode']}"
            return f"{text}: {last['message']}" if last.get("message") else text
        waiting = state.get("waiting") or {}
        if waiting.get("reason"):
            return f"container {container['name']}: {waiting.get('message') or waiting['reason']}"
    return trouble(pod)


def _late(run: VerificationRun, why: str) -> Over:
    return _untried("RunTimedOut", f"its pods were not there within {run.timeout}: {why}")


def _untried(reason: str, message: str) -> Over:
    return Over(RunOutcome.UNTRIED, reason, message)
