"""States of containers, as kubelets report them."""

from __future__ import annotations

from typing import Any

from ararat.api.base import utcnow

#: Made, and never started: what a kubelet says after its node lost power at that moment.
NEVER_STARTED = {
    "terminated": {
        "containerID": "containerd://294a30640265",
        "exitCode": 0,
        "startedAt": None,
        "finishedAt": None,
    }
}


def ended_state(exit_code: int = 0, **more: Any) -> dict[str, Any]:
    """A container that ran, and ended just now."""
    now = utcnow().isoformat()
    return {"terminated": {"exitCode": exit_code, "startedAt": now, "finishedAt": now, **more}}


PASSED = ended_state()
