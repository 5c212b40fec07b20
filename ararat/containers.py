"""What a kubelet says became of a container. Pure.

Problem: a container that was made and never started, because its node lost power in between, is
reported as terminated with exit code 0, as if it had done its work. Nothing but its missing time of
start tells the two apart. Who takes it for done opens a gate that nobody opened, or counts a hook
that never ran.
Decision: whoever asks whether a container has ended asks here.
Limits: a container that the runtime could not start (exit code 128) counts as ended: that is an
outcome, and a person wants to read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: How times that were never set are written: by kubelets (Go's zero) and by runtimes (the epoch).
_NEVER = ("0001-01-01", "1970-01-01")


def ended(status: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The ``terminated`` state of a container's status; None where it runs, waits or never ran."""
    terminated = ((status or {}).get("state") or {}).get("terminated")
    if not isinstance(terminated, Mapping):
        return None
    started = str(terminated.get("startedAt") or _NEVER[0])
    if terminated.get("exitCode") == 0 and started.startswith(_NEVER):
        return None
    return terminated


def ended_well(status: Mapping[str, Any] | None) -> bool:
    """Whether the container ran and ended with exit code 0."""
    terminated = ended(status)
    return terminated is not None and terminated.get("exitCode") == 0
