"""What happens to nodes while a backup runs: a drain, and a rolling update of the agents.

The agents are slowed down for it (a value of the chart), so that twenty small volumes are all under
way when it happens.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.conftest import Ground, Namespaces
from tests.e2e.support import install
from tests.e2e.support.nodejobs import reads
from tests.e2e.support.podwatch import watch_pods
from tests.e2e.support.tools import Object, Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.test_round_trip import assert_completed

_VOLUMES = 10
_PODS = 2
_GRACE = 5
#: A second is the promise; the rest is for a machine with too much to do.
_LET_GO = 30
_KIB = 640
_AGENTS = "app.kubernetes.io/component=agent"
#: What an agent may hold that has nothing to do.
_IDLE_MIB = 60
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
    # These agents have had nothing to do yet.
    idle = resident(tools)
    print(f"resident MiB of agents that do nothing: {idle}")
    assert max(idle) < _IDLE_MIB

    fill(tools, namespace)
    drained, kept = f"{namespace}-drained", f"{namespace}-kept"
    what = ("--include-namespaces", namespace)
    tools.ararat("backup", "create", drained, *what)
    all_run(tools, drained)
    drain(tools, namespace, "many-1", backup=drained)

    eventually(lambda: ready(tools, namespace), what="both pods again", timeout=180)
    print(f"resident MiB of agents that have read {_VOLUMES} volumes each: {resident(tools)}")
    fill(tools, namespace)
    tools.ararat("backup", "create", kept, *what)
    all_run(tools, kept)
    slow_agents()
    tools.ararat("backup", "wait", kept, timeout=400.0)
    assert_completed(tools, "backup", kept)
    found = reads(tools, kept)
    assert Counter(job["status"]["phase"] for job in found) == {"Completed": _PODS * _VOLUMES}
    # Whatever kind of volume it is, and wherever the kubelet has it: what the pod wrote was read.
    assert {job["status"]["summary"]["bytesProcessed"] for job in found} == {_KIB << 10}
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
    with watch_pods(tools, namespace) as history:
        try:
            tools.kubectl("drain", node, *arguments, timeout=150.0)
            seconds = time.monotonic() - began
        finally:
            tools.kubectl("uncordon", node)
    terminating = history.first(uid, lambda version: "deletionTimestamp" in version["metadata"])

    def let_go() -> list[Object]:
        mine = [job for job in reads(tools, backup) if job["spec"]["pod"]["uid"] == uid]
        return mine if all(job["status"]["phase"] == "Failed" for job in mine) else []

    mine = eventually(let_go, what="the jobs of the drained pod have ended", timeout=120)
    names = {job["metadata"]["name"] for job in mine}
    assert len(mine) == _VOLUMES
    assert {job["status"]["reason"] for job in mine} == {"PodTerminating"}
    # The agent's own words: a status has whole seconds.
    said = [line for line in log_of_agent(tools, node) if line.get("job") in names]
    print(f"drained in {seconds:.1f} s; after the pod began to terminate")
    for event, meaning in (("job.stop", "told to end"), ("job.let_go", "ended")):
        moments = [line["timestamp"] for line in said if line["event"] == event]
        assert len(moments) == _VOLUMES
        late = sorted((datetime.fromisoformat(m) - terminating).total_seconds() for m in moments)
        print(f"  restics were {meaning} within {late[0]:.2f} to {late[-1]:.2f} s")
        assert late[-1] < _LET_GO
    assert seconds < 90
    tools.ararat("backup", "wait", backup, timeout=400.0)
    assert_completed(tools, "backup", backup)
    again = [job for job in reads(tools, backup) if job["spec"].get("replaces")]
    assert {job["spec"]["replaces"] for job in again} == names
    assert {job["status"]["phase"] for job in again} == {"Completed"}
    assert uid not in {job["spec"]["pod"]["uid"] for job in again}


def log_of_agent(tools: Tools, node: str) -> list[Object]:
    """What the node's agent has said since it started."""
    (pod,) = (
        pod["metadata"]["name"]
        for pod in tools.items("pods", namespace=tools.namespace, selector=_AGENTS)
        if pod["spec"]["nodeName"] == node
    )
    lines = tools.kubectl("logs", pod, "-n", tools.namespace).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def resident(tools: Tools) -> list[float]:
    """MiB of each agent's process, in its container."""
    found = []
    for pod in tools.items("pods", namespace=tools.namespace, selector=_AGENTS):
        if "deletionTimestamp" not in pod["metadata"]:
            name = pod["metadata"]["name"]
            status = tools.exec(tools.namespace, name, ["cat", "/proc/1/status"])
            (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
            found.append(round(int(line.split()[1]) / 1024, 1))
    assert found
    return found


def all_run(tools: Tools, backup: str) -> None:
    def running() -> bool:
        phases = Counter(job.get("status", {}).get("phase") for job in reads(tools, backup))
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
    """Two pods on two nodes with ten volumes each: a claim of its node, one in memory, one of which
    the pod sees a part, a generic ephemeral one, and plain ones."""
    names = [f"v{number}" for number in range(_VOLUMES)]
    memory, part, ephemeral = names[1:4]
    labels = {"app": "many"}
    spread = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": names[0]}, "spec": asked}
    kinds: dict[str, Object] = {
        memory: {"emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        ephemeral: {"ephemeral": {"volumeClaimTemplate": {"spec": asked}}},
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
                                {
                                    "name": name,
                                    "mountPath": f"/v/{name}",
                                    **({"subPath": "some/part"} if name == part else {}),
                                }
                                for name in names
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": name, **kinds.get(name, {"emptyDir": {}})} for name in names[1:]
                    ],
                },
            },
        },
    }
