"""What happens to nodes while a backup runs: a drain, and a rolling update of the agents.

The agents are slowed down for it (a value of the chart), so that twenty small volumes are all under
way when it happens.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.conftest import Ground, Namespaces
from tests.e2e.support import install
from tests.e2e.support.tools import Object, Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.test_round_trip import assert_completed

_VOLUMES = 10
_PODS = 2
_GRACE = 5
_KIB = 640
#: As slow as the chart allows: each volume holds two and a half seconds of a node's bandwidth.
_SLOW = {"concurrency": 2 * _VOLUMES, "bandwidthKiB": 256}


@pytest.fixture
def slow_agents(installed: Ground) -> Iterator[Callable[[], None]]:
    """Agents that take their time; calling it makes them as they were, by a rolling update."""
    install.upgrade(installed.tools, {**(installed.values or {}), "agent": _SLOW})
    install.wait_until_ready(installed.tools)
    done = False

    def back() -> None:
        nonlocal done
        install.upgrade(installed.tools, installed.values or {})
        done = True

    yield back
    if not done:
        back()
    install.wait_until_ready(installed.tools)


@pytest.mark.timeout(900)
def test_a_drain_and_a_rolling_update_while_twenty_volumes_are_read(
    tools: Tools,
    installed: Ground,
    namespaces: Namespaces,
    slow_agents: Callable[[], None],
) -> None:
    namespace = namespaces.new("nodes")
    tools.kubectl("create", "namespace", namespace)
    tools.apply([application(namespace, installed.image)])
    eventually(lambda: ready(tools, namespace), what="both pods", timeout=180)

    fill(tools, namespace)
    drained, kept = f"{namespace}-drained", f"{namespace}-kept"
    what = ("--include-namespaces", namespace)
    tools.ararat("backup", "create", drained, *what)
    all_run(tools, drained)
    drain(tools, namespace, "many-1", backup=drained)

    eventually(lambda: ready(tools, namespace), what="both pods again", timeout=180)
    fill(tools, namespace)
    tools.ararat("backup", "create", kept, *what)
    all_run(tools, kept)
    slow_agents()
    tools.ararat("backup", "wait", kept, timeout=400.0)
    assert_completed(tools, "backup", kept)
    found = jobs(tools, kept)
    assert Counter(job["status"]["phase"] for job in found) == {"Completed": _PODS * _VOLUMES}
    # An orderly end of the agent is no attempt.
    assert {job["status"].get("attempts", 0) for job in found} == {0}
    handed_back = tools.ararat("backup", "logs", kept).stdout.count("Handed back")
    print(f"{handed_back} jobs were handed back")
    assert handed_back


def drain(tools: Tools, namespace: str, pod: str, *, backup: str) -> None:
    """Drain a pod's node in the middle of a backup: its jobs let go, nothing holds it up, and the
    volumes are read through the pod in its place."""
    found = tools.get("pod", pod, namespace=namespace)
    assert found is not None
    node, uid = found["spec"]["nodeName"], found["metadata"]["uid"]
    began = time.monotonic()
    arguments = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s")
    try:
        tools.kubectl("drain", node, *arguments, timeout=150.0)
        seconds = time.monotonic() - began
    finally:
        tools.kubectl("uncordon", node)

    def let_go() -> list[Object]:
        mine = [job for job in jobs(tools, backup) if job["spec"]["pod"]["uid"] == uid]
        return mine if all(job["status"]["phase"] == "Failed" for job in mine) else []

    mine = eventually(let_go, what="the jobs of the drained pod have ended", timeout=60)
    names = {job["metadata"]["name"] for job in mine}
    assert len(mine) == _VOLUMES
    assert {job["status"]["reason"] for job in mine} == {"PodTerminating"}
    ends = sorted(datetime.fromisoformat(job["status"]["completionTime"]) for job in mine)
    print(f"drained in {seconds:.1f} s; jobs ended within {ends[-1] - ends[0]}")
    assert seconds < 90
    tools.ararat("backup", "wait", backup, timeout=400.0)
    assert_completed(tools, "backup", backup)
    again = [job for job in jobs(tools, backup) if job["spec"].get("replaces")]
    assert {job["spec"]["replaces"] for job in again} == names
    assert {job["status"]["phase"] for job in again} == {"Completed"}
    assert uid not in {job["spec"]["pod"]["uid"] for job in again}


def jobs(tools: Tools, backup: str) -> list[Object]:
    found = tools.items("podvolumebackups", namespace=tools.namespace)
    return [job for job in found if job["spec"]["backup"] == backup]


def all_run(tools: Tools, backup: str) -> None:
    def running() -> bool:
        phases = Counter(job.get("status", {}).get("phase") for job in jobs(tools, backup))
        return phases == {"InProgress": _PODS * _VOLUMES}

    eventually(
        running,
        what="all volumes are being read",
        timeout=90,
        interval=0.2,
        seen=lambda: tools.kubectl("get", "podvolumebackups", "-n", tools.namespace),
    )


def fill(tools: Tools, namespace: str) -> None:
    """New data in every volume."""
    script = f"for d in /v/*; do head -c {_KIB}k /dev/urandom > $d/file; done; sync"
    for number in range(_PODS):
        tools.exec(namespace, f"many-{number}", ["sh", "-c", script])


def ready(tools: Tools, namespace: str) -> bool:
    found = tools.get("statefulset", "many", namespace=namespace)
    return found is not None and found["status"].get("readyReplicas") == _PODS


def application(namespace: str, image: str) -> dict[str, Any]:
    """Two pods on two nodes with ten volumes each, one of them a claim of its node."""
    names = [f"v{number}" for number in range(_VOLUMES)]
    labels = {"app": "many"}
    spread = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    claim = {
        "metadata": {"name": names[0]},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "many", "namespace": namespace},
        "spec": {
            "replicas": _PODS,
            "serviceName": "many",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "volumeClaimTemplates": [claim],
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"ararat.dev/backup-volumes": ",".join(names)},
                },
                "spec": {
                    "terminationGracePeriodSeconds": _GRACE,
                    "affinity": {
                        "podAntiAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": [spread]
                        }
                    },
                    "containers": [
                        {
                            "name": "app",
                            "image": image,
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"],
                            "volumeMounts": [
                                {"name": name, "mountPath": f"/v/{name}"} for name in names
                            ],
                        }
                    ],
                    "volumes": [{"name": name, "emptyDir": {}} for name in names[1:]],
                },
            },
        },
    }
