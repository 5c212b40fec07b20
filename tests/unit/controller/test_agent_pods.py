from __future__ import annotations

from typing import Any

import pytest

from controller.agent_pods import troubles
from controller.context import ready_nodes

CRASHING = {
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}},
    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
}
AGAIN = {**CRASHING, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
NO_IMAGE = {
    "restartCount": 0,
    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
}
RUNS = {"restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
STARTS = {"restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}
FIELD = {"key": "metadata.name", "operator": "In", "values": ["n"]}
MEANT_FOR_N = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [FIELD]}]
        }
    }
}


def agent(*, ready: bool = False, container: Any = None, **more: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}, *more.pop("conditions", [])]
    return {
        "metadata": {"name": "a", **more.pop("metadata", {})},
        "spec": {"nodeName": "n", **more},
        "status": {
            "conditions": conditions,
            "containerStatuses": [container] if container else [],
        },
    }


@pytest.mark.parametrize(
    ("pod", "text"),
    [
        (agent(container=CRASHING), "pod a keeps ending: exit code 137, OOMKilled"),
        (agent(container=AGAIN), "pod a keeps ending: exit code 137, OOMKilled"),
        (agent(container=NO_IMAGE), "pod a: ImagePullBackOff: no such image"),
        (agent(container=RUNS), "pod a runs and says that it is not ready"),
        (agent(container=STARTS), "pod a has not started"),
        (agent(metadata={"deletionTimestamp": "now"}, container=RUNS), "pod a is being ended"),
        (
            agent(
                nodeName="",
                affinity=MEANT_FOR_N,
                conditions=[
                    {"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}
                ],
            ),
            "pod a cannot be scheduled: Insufficient cpu",
        ),
    ],
)
def test_what_its_status_says(pod: dict[str, Any], text: str) -> None:
    assert troubles([pod], {}) == {"n": text}


def test_nothing_is_wrong_where_one_is_ready() -> None:
    pods = [agent(metadata={"deletionTimestamp": "now"}), agent(ready=True)]
    assert troubles(pods, ready_nodes(pods)) == {}
