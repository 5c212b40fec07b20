"""The local cluster does what the product's tests rely on, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cgroups
from tests.cluster.azurite import Azurite
from tests.cluster.cluster import Cluster
from tests.cluster.images import busybox_image
from tests.cluster.leftovers import leftovers

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    name = f"smoke-{os.getpid()}"
    cluster = Cluster(name)
    link = cluster.network.link
    try:
        cluster.start()
        cluster.load_image(busybox_image())
        apply(cluster, *(found for number in (1, 2) for found in web(number)), service())
        cluster.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s")
        yield cluster
    finally:
        cluster.stop()
    assert leftovers(name, link=link) == []


def apply(cluster: Cluster, *objects: Object) -> None:
    bundle = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(bundle))


def pod(name: str, *, node: int, script: str, **spec: Any) -> Object:
    container = {
        "name": "main",
        "image": busybox_image().reference,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "volumeMounts": spec.pop("mounts", []),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name.split("-", maxsplit=1)[0]}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": f"node-{node}"},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **spec,
        },
    }


def web(number: int) -> list[Object]:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"data-{number}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    script = f"echo page {number} | tee /data/index.html; exec httpd -f -p 8080 -h /data"
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{number}"}}
    mounts = [{"name": "data", "mountPath": "/data"}]
    return [
        claim,
        pod(f"web-{number}", node=number, script=script, mounts=mounts, volumes=[volume]),
    ]


def service() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=3) as response:
        text: str = response.read().decode()
        return text


def shows(url: str, text: str) -> bool:
    try:
        return fetch(url) == text
    except OSError:
        return False


def until(ready: Callable[[], bool], *, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.3)


def test_exec_and_logs_reach_both_nodes(cluster: Cluster) -> None:
    for number in (1, 2):
        assert cluster.kubectl("logs", f"web-{number}") == f"page {number}\n"
        read = cluster.kubectl("exec", f"web-{number}", "--", "cat", "/data/index.html")
        assert read == f"page {number}\n"


def test_a_service_is_reached_from_this_machine_and_by_name_from_pods(cluster: Cluster) -> None:
    address = cluster.api.get("/api/v1/namespaces/default/services/web")["spec"]["clusterIP"]
    # A new service takes kube-proxy a moment.
    until(lambda: shows(f"http://{address}/", "page 1\n"), timeout=20)
    assert {fetch(f"http://{address}/") for _ in range(20)} == {"page 1\n", "page 2\n"}
    request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {} 80 | tail -1"
    seen = {
        cluster.kubectl("exec", "web-1", "--", "sh", "-c", request.format(address))
        for _ in range(12)
    }
    assert seen == {"page 1\n", "page 2\n"}
    config = cluster.kubectl("exec", "web-1", "--", "cat", "/etc/resolv.conf")
    assert f"nameserver {cluster.network.control_plane}" in config


def test_pods_reach_the_api_server_by_its_service(cluster: Cluster) -> None:
    script = "nc -w 3 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo open"
    assert cluster.kubectl("exec", "web-2", "--", "sh", "-c", script) == "open\n"


def test_a_claim_is_a_mount_that_an_agent_sees_below_the_kubelets_directory(
    cluster: Cluster,
) -> None:
    kubelet = {"name": "kubelet", "hostPath": {"path": "/var/lib/kubelet"}}
    shared = {"name": "shared", "hostPath": {"path": "/var/lib/ararat"}}
    mounts = [
        {"name": "kubelet", "mountPath": "/host", "mountPropagation": "HostToContainer"},
        {"name": "shared", "mountPath": "/shared"},
    ]
    agents = [
        pod(
            f"agent-{number}",
            node=number,
            script=f"touch /shared/from-{number}; exec sleep 100000",
            mounts=mounts,
            volumes=[kubelet, shared],
        )
        for number in (1, 2)
    ]
    apply(cluster, *agents)
    cluster.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=agent", "--timeout=60s")
    # The pod whose claim is looked for starts after the agent: its mount has to propagate.
    apply(cluster, *web(2)[:1], *[{**found, "metadata": {"name": "late"}} for found in web(2)[1:]])
    cluster.kubectl("wait", "--for=condition=Ready", "pod", "late", "--timeout=60s")
    uid = cluster.api.get("/api/v1/namespaces/default/pods/late")["metadata"]["uid"]
    seen = cluster.kubectl("exec", "agent-2", "--", "cat", "/proc/self/mountinfo")
    expected = f"/host/pods/{uid}/volumes/kubernetes.io~local-volume/pvc-"
    assert [line for line in seen.splitlines() if line.split()[4].startswith(expected)]
    page = cluster.kubectl("exec", "agent-2", "--", "sh", "-c", f"cat {expected}*/index.html")
    assert page == "page 2\n"
    listed = cluster.kubectl("exec", "agent-1", "--", "ls", "/shared")
    assert listed.split() == ["from-1", "from-2"]


def test_a_deleted_claim_takes_volume_and_directory_with_it(cluster: Cluster) -> None:
    claim, user = web(1)
    claim["metadata"]["name"] = "brief"
    claim["spec"]["storageClassName"] = "ararat-other"
    user["metadata"]["name"] = "brief"
    user["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "brief"
    apply(cluster, claim, user)
    cluster.kubectl("wait", "--for=condition=Ready", "pod", "brief", "--timeout=60s")
    directory = cluster.shared / "volumes" / "ararat-other"
    assert len(list(directory.iterdir())) == 1
    cluster.kubectl("delete", "pod/brief", "pvc/brief")
    until(lambda: not list(directory.iterdir()), timeout=30)


def test_pods_reach_an_azurite_of_this_machine(cluster: Cluster) -> None:
    with Azurite(cluster.gateway_ip) as azurite:
        azurite.create_container("backups")
        script = f"nc -w 3 {azurite.host} {azurite.port} </dev/null && echo open"
        assert cluster.kubectl("exec", "web-1", "--", "sh", "-c", script) == "open\n"


def test_the_api_server_comes_back_with_its_data(cluster: Cluster) -> None:
    cluster.stop_apiserver()
    assert not cluster.api.ready()
    cluster.start_apiserver()
    assert cluster.api.get("/api/v1/namespaces/default/pods/web-1")["status"]["phase"] == "Running"
    assert cluster.kubectl("exec", "web-1", "--", "cat", "/data/index.html") == "page 1\n"


def test_a_stopped_kubelet_makes_its_node_not_ready_and_keeps_its_pods(cluster: Cluster) -> None:
    node = cluster.node("node-2")
    address = cluster.api.get("/api/v1/namespaces/default/pods/web-2")["status"]["podIP"]
    node.kubelet.stop()
    until(lambda: not node.ready(), timeout=60)
    assert fetch(f"http://{address}:8080/") == "page 2\n"
    node.kubelet.start()
    until(node.ready, timeout=60)
    assert cluster.node("node-1").ready()


def test_a_cut_node_is_not_reached_until_it_is_mended(cluster: Cluster) -> None:
    node = cluster.node("node-2")
    address = cluster.api.get("/api/v1/namespaces/default/pods/web-2")["status"]["podIP"]
    node.cut()
    assert not shows(f"http://{address}:8080/", "page 2\n")
    assert node.kubelet.alive
    node.mend()
    until(lambda: shows(f"http://{address}:8080/", "page 2\n"), timeout=30)


def test_a_crashed_node_boots_and_runs_its_pods_again(cluster: Cluster) -> None:
    node = cluster.node("node-2")
    node.crash()
    assert not node.kubelet.alive
    node.boot()
    until(node.ready, timeout=60)

    def answers() -> bool:
        status = cluster.api.get("/api/v1/namespaces/default/pods/web-2")["status"]
        return shows(f"http://{status.get('podIP')}:8080/", "page 2\n")

    until(answers, timeout=90)


def test_a_second_cluster_runs_beside_and_leaves_the_first_alone(cluster: Cluster) -> None:
    with Cluster(f"beside-{os.getpid()}", nodes=1) as other:
        assert other.network.index != cluster.network.index
        other.load_image(busybox_image())
        apply(other, *web(1))
        other.kubectl("wait", "--for=condition=Ready", "pod", "web-1", "--timeout=60s")
        link = other.network.link
    assert leftovers(other.name, link=link) == []
    assert cluster.kubectl("exec", "web-1", "--", "cat", "/data/index.html") == "page 1\n"


def test_a_cluster_of_another_cache_gets_addresses_and_cgroups_of_its_own(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = cgroups.top(cluster.name)
    monkeypatch.setenv("ARARAT_CACHE", str(tmp_path))
    other = Cluster(cluster.name)
    assert other.directory.is_relative_to(tmp_path)
    assert other.network.index != cluster.network.index
    assert cgroups.top(other.name) != mine


def test_a_cluster_dies_with_its_harness_and_down_removes_the_rest() -> None:
    name = f"orphan-{os.getpid()}"
    script = (
        "from tests.cluster.cluster import Cluster\n"
        f"Cluster({name!r}, nodes=1).start()\n"
        "print('up', flush=True)\n"
        "import time; time.sleep(600)\n"
    )
    harness = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"up\n"
    found = Cluster(name)
    assert found.running
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    until(lambda: not found.running, timeout=30)
    link = found.network.link
    down = [sys.executable, "-m", "tests.cluster", "down", "--name", name]
    subprocess.run(down, cwd=ROOT, check=True, capture_output=True)
    assert leftovers(name, link=link) == []
