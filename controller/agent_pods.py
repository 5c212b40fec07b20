"""What is wrong with agent pods that are not Ready. Pure.

Problem: "the agent is not ready" sends people to look for what its pod's status says already, and
whoever waits for a restore may not even see Ararat's namespace.
Decision: one clause per node. It does not change from one restart to the next, so that nobody is
told the same thing again every time the kubelet backs off for longer.
Limits: a pod that is not scheduled is known by the node that its DaemonSet made it for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ararat.containers import ended


def troubles(agents: Iterable[Mapping[str, Any]], ready: Mapping[str, bool]) -> dict[str, str]:
    """Node → why its agent is not Ready, where its pod says so."""
    found: dict[str, str] = {}
    for pod in agents:
        node = _node(pod)
        if node and not ready.get(node, False):
            found[node] = _trouble(pod)
    return found


def _trouble(pod: Mapping[str, Any]) -> str:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return f"pod {name} is being ended"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"pod {name} cannot be scheduled: {condition.get('message') or 'no cause given'}"
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        last = (container.get("lastState") or {}).get("terminated") or ended(container)
        if last and (container.get("restartCount") or not waiting):
            why = f", {last['reason']}" if last.get("reason") else ""
            return f"pod {name} keeps ending: exit code {last.get('exitCode')}{why}"
        if waiting.get("message"):
            return f"pod {name}: {waiting.get('reason')}: {waiting['message']}"
        if "running" in (container.get("state") or {}):
            return f"pod {name} runs and says that it is not ready"
    return f"pod {name} has not started"


def _node(pod: Mapping[str, Any]) -> str:
    """Where it runs, or is to run."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or []:
        for field in term.get("matchFields") or []:
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""
