"""The gate: what controller, agent and the waiting container agree on.

Problem: a pod whose volumes are still being filled must not start its containers, and nobody may
be able to open it but the agent that filled them.
Decision: an init container, ``restore-wait``, is put first into the pod. It mounts one small
emptyDir of ours, read-only, and nothing of the user's. The agent of the node writes one file per
volume into that emptyDir, through the kubelet's directory on the host: it says how far the volume
is, and in the end what became of it. The container reads, tells a person, and exits when all are
done.
Limits: ``agent/wait.py`` runs without this package (stdlib only, so that it starts in
milliseconds), and so repeats the names below; a test holds both equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ararat.containers import ended, ended_well

CONTAINER = "restore-wait"
VOLUME = "ararat-gate"
MOUNT_PATH = "/ararat-gate"
COMMAND = ("python3", "-I", "-S", "/usr/local/lib/ararat/wait.py")
#: Listed among a gate's volumes where a pod also waits for its turn: StatefulSets start in order.
TURN = "ararat-turn"
#: The agent says something at least this often while a gate waits.
HEARTBEAT_SECONDS = 10.0
#: After this long without a word from the agent the gate says so in its log.
SILENCE_SECONDS = 60.0


class GatePhase(StrEnum):
    WAITING = "Waiting"
    FILLING = "Filling"
    COMPLETED = "Completed"
    FAILED = "Failed"
    RELEASED = "Released"
    REFUSED = "Refused"

    @property
    def opens(self) -> bool:
        """Whether the gate lets the pod go on for this volume."""
        return self in (GatePhase.COMPLETED, GatePhase.RELEASED)


@dataclass(frozen=True)
class GateAnswer:
    """What the agent says about one volume; the content of its file."""

    restore_uid: str
    volume: str
    phase: GatePhase
    message: str = ""
    bytes_done: int = 0
    total_bytes: int = 0
    files_done: int = 0
    total_files: int = 0
    heartbeat: float = 0.0

    def encode(self) -> bytes:
        fields = {_KEYS[name]: value for name, value in asdict(self).items()}
        return json.dumps(fields, separators=(",", ":")).encode()


_KEYS = {
    "restore_uid": "restoreUID",
    "volume": "volume",
    "phase": "phase",
    "message": "message",
    "bytes_done": "bytesDone",
    "total_bytes": "totalBytes",
    "files_done": "filesDone",
    "total_files": "totalFiles",
    "heartbeat": "heartbeat",
}


def answer_file(volume: str) -> str:
    """Name of the volume's file in the gate's directory."""
    return f"{volume}.json"


def arguments(
    *,
    restore: str,
    restore_uid: str,
    volumes: Iterable[str],
    no_progress_seconds: int = 900,
) -> list[str]:
    """Arguments of the gate's container."""
    return [
        "--restore",
        restore,
        "--restore-uid",
        restore_uid,
        "--volumes",
        ",".join(volumes),
        "--no-progress-seconds",
        str(no_progress_seconds),
    ]


def is_gated(pod: Mapping[str, Any]) -> bool:
    """Whether the pod has our gate among its init containers."""
    containers = pod.get("spec", {}).get("initContainers") or []
    return any(container.get("name") == CONTAINER for container in containers)


def gate_running(pod: Mapping[str, Any]) -> bool:
    """Whether the gate's container runs now: the pod's volumes are mounted, and it waits."""
    return "running" in _gate_state(pod)


def gate_started(pod: Mapping[str, Any]) -> datetime | None:
    """When the gate's container that runs now was started."""
    began = (_gate_state(pod).get("running") or {}).get("startedAt")
    try:
        return datetime.fromisoformat(began) if began else None
    except (TypeError, ValueError):
        return None


def gate_restarts(pod: Mapping[str, Any]) -> bool:
    """Whether the gate ended badly, and the kubelet runs it again: it reads its answers anew."""
    terminated = ended(_gate_status(pod))
    if terminated is not None:
        return bool(terminated.get("exitCode") != 0)
    return bool((_gate_state(pod).get("waiting") or {}).get("reason") == "CrashLoopBackOff")


def gate_passed(pod: Mapping[str, Any]) -> bool:
    """Whether the gate's container ended well: the pod goes on."""
    return ended_well(_gate_status(pod))


def gate_trouble(pod: Mapping[str, Any]) -> str | None:
    """Why the gate's container cannot start, if the kubelet says so (image, limits, …)."""
    waiting = _gate_state(pod).get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if reason in ("", "PodInitializing", "ContainerCreating"):
        return None
    return f"{reason}: {waiting.get('message') or 'no further word from the kubelet'}"


def _gate_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    state = _gate_status(pod).get("state")
    return state if isinstance(state, Mapping) else {}


def _gate_status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = pod.get("status", {}).get("initContainerStatuses") or []
    return next((status for status in statuses if status.get("name") == CONTAINER), {})
