"""A pod that swaps directories for links all the time is not led anywhere, nor leads anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Namespaces
from tests.e2e.support.nodejobs import fills
from tests.e2e.support.tools import Object, Outcome, Tools
from tests.e2e.support.waiting import eventually

_SECRET = "another pod's secret"
_FILES = 300
#: Names and contents, also of what is new.
_LOOK = "cd /data && find . -type f | sort | xargs sha256sum && find . -printf '%y %p\\n' | sort"
_FILL = (
    f'cd /data && for n in $(seq 0 {_FILES - 1}); do echo "{_SECRET}" > f$n; done && '
    "chmod 600 f* && touch -d 2001-01-01 f* . && touch /tmp/ready && exec sleep infinity"
)


@pytest.mark.timeout(600)
def test_a_pod_that_swaps_directories_for_links(
    tools: Tools, namespaces: Namespaces, installed: Any
) -> None:
    """Where its links lead there is another pod's volume, with files of the same names."""
    name = namespaces.new("hostile")
    tools.kubectl("create", "namespace", name)
    tools.apply([_neighbour(name, installed.image)])
    _ready(tools, name, "neighbour", "test -e /tmp/ready")
    outside = _on_the_node(tools, name, "neighbour")
    tools.apply(_swapper(name, installed.image, outside))
    _ready(tools, name, "swapper", "test -L /data/link")
    _prove_that_it_leads_there(tools, name, outside)
    before = tools.exec(name, "neighbour", ["sh", "-c", _LOOK])

    what = ("--include-namespaces", name, "--include-resources", "pods,persistentvolumeclaims")
    tools.ararat("backup", "create", f"{name}-calm", *what, "--wait")
    tools.exec(name, "swapper", ["touch", "/tmp/swap"])
    wild = [f"{name}-wild-{number}" for number in range(2)]
    for backup in wild:  # what stands where is not what it was a moment ago: some cannot be read
        tools.ararat("backup", "create", backup, *what, "--wait", check=False)
    for number in range(2):
        # Nothing of it is there any more, so that all of it is written.
        tools.exec(name, "swapper", ["sh", "-c", "find /data -type f -delete"])
        _tried(tools, f"{name}-into-{number}", name, f"{name}-calm")
    swaps = int(tools.exec(name, "swapper", ["sh", "-c", "rm /tmp/swap; cat /tmp/swaps"]))
    print(f"{swaps} swaps")
    assert swaps > 1000

    assert tools.exec(name, "neighbour", ["sh", "-c", _LOOK]) == before
    # What was backed up meanwhile: some of the pod's own files, and nothing else.
    for number, backup in enumerate(wild):
        tools.exec(name, "swapper", ["sh", "-c", "rm -rf /data/d /data/link"])
        found = tools.get("backups.ararat.dev", backup, namespace=tools.namespace)
        assert found is not None
        assert found["status"]["phase"] in ("Completed", "PartiallyFailed"), found["status"]
        _looked_at(tools, f"{name}-look-{number}", name, backup)
        read = "find /data -type f | xargs -r cat | sort | uniq -c"
        words = tools.exec(name, "swapper", ["sh", "-c", read])
        print(backup, words)
        assert _SECRET not in words
        assert set(words.split()[1:]) <= {"the", "pod's", "own"}


def _create(tools: Tools, restore: str, name: str, backup: str, *more: str) -> Outcome:
    where = ("--volumes", "in-place", "--include", f"{name}/data", "--delete-extra", "--yes")
    arguments = ("--from-backup", backup, *where, *more)
    return tools.ararat("restore", "create", restore, *arguments, check=False)


def _looked_at(tools: Tools, restore: str, name: str, backup: str) -> None:
    """All of it comes back, but for a link whose target was gone when it was to be read."""
    if _create(tools, restore, name, backup, "--wait").code != 0:
        (job,) = fills(tools, restore)
        message = job["status"]["message"]
        assert "1 file could not be restored, the first: /d: symlink  /" in message, job["status"]


def _tried(tools: Tools, restore: str, name: str, backup: str) -> None:
    """Once at least; what could not be restored is tried again in a minute, which is too long."""
    assert _create(tools, restore, name, backup).code == 0

    def tried() -> bool:
        statuses = [job.get("status", {}) for job in fills(tools, restore)]
        return any(s.get("attempts") or s.get("completionTime") for s in statuses)

    eventually(tried, what=f"{restore} is tried", timeout=120)
    tools.ararat("restore", "cancel", restore, check=False)
    tools.ararat("restore", "wait", restore, check=False)


def _ready(tools: Tools, name: str, pod: str, test: str) -> None:
    tools.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "-n", name, "--timeout=90s")
    look = ["sh", "-c", f"{test} && echo yes || true"]
    eventually(lambda: tools.exec(name, pod, look), what=f"{pod} is ready", timeout=120)


def _on_the_node(tools: Tools, name: str, pod: str) -> str:
    """Where the kubelet keeps its volume."""
    found = tools.get("pod", pod, namespace=name)
    agents = tools.get("daemonset", "ararat-agent", namespace=tools.namespace)
    assert found is not None
    assert agents is not None
    (kubelet,) = [
        volume["hostPath"]["path"]
        for volume in agents["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "kubelet"
    ]
    return f"{kubelet}/pods/{found['metadata']['uid']}/volumes/kubernetes.io~empty-dir/data"


def _prove_that_it_leads_there(tools: Tools, name: str, outside: str) -> None:
    """For an agent that would follow it."""
    found = tools.get("pod", "swapper", namespace=name)
    assert found is not None
    (agent,) = [
        pod["metadata"]["name"]
        for pod in tools.items("pods", namespace=tools.namespace)
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "agent"
        and pod["spec"]["nodeName"] == found["spec"]["nodeName"]
    ]
    program = f"import os; print(len(os.listdir({outside!r})))"
    assert tools.exec(tools.namespace, agent, ["python3", "-c", program]).strip() == str(_FILES)


def _neighbour(name: str, image: str) -> Object:
    return _pod(name, "neighbour", image, ["sh", "-c", _FILL], volumes={"data": {"emptyDir": {}}})


def _swapper(name: str, image: str, outside: str) -> list[Object]:
    script = Path(__file__).with_name("support").joinpath("swapper.py").read_text()
    size = {"resources": {"requests": {"storage": "1Gi"}}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": name},
        "spec": {"accessModes": ["ReadWriteOnce"], **size},
    }
    pod = _pod(
        name,
        "swapper",
        image,
        ["python3", "-c", script, "/data", outside, str(_FILES)],
        volumes={"data": {"persistentVolumeClaim": {"claimName": "data"}}},
    )
    pod["metadata"]["annotations"] = {"ararat.dev/backup-volumes": "data"}
    beside = {
        "labelSelector": {"matchLabels": {"app": "neighbour"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    pod["spec"]["affinity"] = {
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}
    }
    return [claim, pod]


def _pod(
    name: str, pod: str, image: str, command: list[str], *, volumes: dict[str, Object]
) -> Object:
    container = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [{"name": volume, "mountPath": f"/{volume}"} for volume in volumes],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod, "namespace": name, "labels": {"app": pod}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": volume, **source} for volume, source in volumes.items()],
        },
    }
