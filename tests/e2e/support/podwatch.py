"""A record of every state that pods of a namespace went through, and what it says about the gate.

Problem: "no application container ran before its volumes were filled" is a statement about every
moment of a restore, not about its end.
Decision: `kubectl get pods --watch` runs beside the restore and every event is kept. Afterwards the
container states are judged: in each pod that mounts a claim the gate is the first init container,
and nothing else in that pod started before it ended with code 0.
Limits: Kubernetes' timestamps are whole seconds, so "before" is judged to the second; what the
application itself saw at its start is kept by `guard.py`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ararat.containers import ended_well
from tests.e2e.support.tools import Object, Tools

GATE = "restore-wait"


@dataclass
class PodHistory:
    """Every version of every pod that was seen."""

    versions: list[Object] = field(default_factory=list)
    arrivals: list[datetime] = field(default_factory=list)
    """When the watch told each of the first of them, by this machine's clock."""

    def first(self, uid: str, holds: Callable[[Object], bool]) -> datetime:
        """When the watch told of a pod's first version of which that holds."""
        return next(
            arrival
            for version, arrival in zip(self.versions, self.arrivals, strict=False)
            if version["metadata"]["uid"] == uid and holds(version)
        )

    def pods(self) -> dict[str, list[Object]]:
        """The versions of each pod, by UID."""
        found: dict[str, list[Object]] = {}
        for version in self.versions:
            found.setdefault(version["metadata"]["uid"], []).append(version)
        return found

    def violations(self, *, gated: Iterable[str] | None = None, again: bool = False) -> list[str]:
        """What went against the rule, in sentences; empty is good.

        *gated* names the claims that were to be filled; by default all claims count. *again*:
        containers may have been started again, as after a power cut, behind the gate as ever.
        """
        claims = None if gated is None else set(gated)
        found: list[str] = []
        for versions in self.pods().values():
            if _mounts(versions[-1], claims):
                for version in versions:
                    found += _judge(version, again=again)
        return list(dict.fromkeys(found))

    def never_started(self) -> list[str]:
        """Pods whose gate was reported as ended well and had never been started."""
        return [
            version["metadata"]["name"]
            for version in self.versions
            for gate in [_statuses(version, "initContainerStatuses").get(GATE) or {}]
            if (ended := (gate.get("state") or {}).get("terminated")) is not None
            and ended.get("exitCode") == 0
            and not ended.get("startedAt")
        ]

    def timeline(self) -> list[str]:
        """When gates ended and applications started, for people."""
        lines: list[str] = []
        for versions in self.pods().values():
            last = versions[-1]
            gate = _statuses(last, "initContainerStatuses").get(GATE)
            ended = _time(gate, "terminated", "finishedAt")
            for name, status in _statuses(last, "containerStatuses").items():
                started = _time(status, "running", "startedAt")
                lines.append(
                    f"{last['metadata']['name']}: gate ended {_clock(ended)}, "
                    f"{name} started {_clock(started)}, restarts {status['restartCount']}"
                )
        return lines


@contextlib.contextmanager
def watch_pods(tools: Tools, namespace: str) -> Iterator[PodHistory]:
    """Keep every state of the namespace's pods for as long as the block runs."""
    history = PodHistory()
    command = ["kubectl", "get", "pods", "-n", namespace, "--watch", "-o", "json"]
    with subprocess.Popen(
        ["/usr/bin/env", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=tools.environment,
        text=True,
    ) as child:
        reader = threading.Thread(target=_read, args=(child, history))
        reader.start()
        try:
            yield history
            # The watch may be a moment behind: the last word is a listing.
            history.versions += tools.items("pods", namespace=namespace)
        finally:
            child.terminate()
            reader.join()


def _read(child: subprocess.Popen[str], history: PodHistory) -> None:
    assert child.stdout is not None
    decoder = json.JSONDecoder()
    buffer = ""
    for line in child.stdout:
        buffer += line
        if not line.startswith("}"):  # kubectl indents: a bare brace ends an object
            continue
        with contextlib.suppress(ValueError):
            while buffer.strip():
                found, end = decoder.raw_decode(buffer.lstrip())
                buffer = buffer.lstrip()[end:]
                history.versions.append(found)
                history.arrivals.append(datetime.now(UTC))


def _judge(pod: Object, *, again: bool) -> list[str]:
    name = pod["metadata"]["name"]
    first = next((c["name"] for c in pod["spec"].get("initContainers", [])), None)
    if first != GATE:
        return [f"{name}: the first init container is {first}, not {GATE}"]
    gates = _statuses(pod, "initContainerStatuses")
    ended = _time(gates.get(GATE), "terminated", "finishedAt")
    passed = ended_well(gates.get(GATE))
    others = {**gates, **_statuses(pod, "containerStatuses")}
    others.pop(GATE, None)
    found: list[str] = []
    for container, status in others.items():
        restarted = again and (status["restartCount"] or gates.get(GATE, {}).get("restartCount"))
        started = _time(status, "running", "startedAt") if restarted else _started(status)
        if started is None:
            continue
        if not passed or ended is None:
            found.append(f"{name}: {container} started at {started} while {GATE} had not passed")
        elif started < ended:
            found.append(f"{name}: {container} started at {started}, {GATE} ended at {ended}")
        if status["restartCount"] and not again:
            found.append(f"{name}: {container} was restarted {status['restartCount']} times")
    return found


def _mounts(pod: Object, claims: set[str] | None) -> bool:
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    return bool(mounted if claims is None else mounted & claims)


def _statuses(pod: Object, key: str) -> dict[str, Any]:
    return {status["name"]: status for status in pod.get("status", {}).get(key) or []}


def _started(status: Object) -> datetime | None:
    for state in (status.get("lastState") or {}, status.get("state") or {}):
        for kind in ("terminated", "running"):
            if kind in state:
                return _time({"state": state}, kind, "startedAt")
    return None


def _time(status: Object | None, kind: str, key: str) -> datetime | None:
    text = ((status or {}).get("state") or {}).get(kind, {}).get(key)
    return datetime.fromisoformat(text) if text else None


def _clock(moment: datetime | None) -> str:
    return f"{moment:%H:%M:%S}" if moment else "-"
