"""Controller and agents are killed at random moments; only the duration may change.

Pods are deleted with force and without grace, which kills their processes at once, as a node that
loses power would. The seed of the moments is printed, so that a failing run can be told again.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ararat.api.names import CONTROLLER_LEASE
from tests.e2e.conftest import Ground, delete_namespace
from tests.e2e.support.install import wait_until_ready
from tests.e2e.support.nodejobs import fills, reads
from tests.e2e.support.podwatch import watch_pods
from tests.e2e.support.replaced import cause_is_told, prove_once
from tests.e2e.support.tools import Object, Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.support.workload import Workload
from tests.e2e.test_round_trip import assert_completed

_KILLS = 4
_FILL = "--large 4 --large-mib 48 --small 1500"
_COMPONENTS = ("agent", "controller")


@pytest.mark.timeout(900)
def test_killing_controller_and_agents_changes_nothing_but_the_duration(
    tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    app = new_workload("kills", fill=_FILL)
    before = app.walks()
    backup, restore = f"{app.namespace}-kept", f"{app.namespace}-back"

    with killing(tools, dice) as killed:
        what = ("--include-namespaces", app.namespace)
        tools.ararat("backup", "create", backup, *what, "--wait", timeout=400.0)
    print("during the backup:", killed)
    wait_until_ready(tools)
    assert_completed(tools, "backup", backup)
    prove_read_once(tools, backup, volumes=app.replicas + 1)

    delete_namespace(tools, app.namespace)
    with watch_pods(tools, app.namespace) as history, killing(tools, dice) as killed:
        arguments = ("--from-backup", backup, "--wait")
        tools.ararat("restore", "create", restore, *arguments, timeout=400.0)
        app.wait_until_running()
    print("during the restore:", killed)
    wait_until_ready(tools)

    app.prove_equal(before)
    assert history.violations() == []
    assert_completed(tools, "restore", restore)
    prove_that_a_leader_is_followed(tools)


def prove_read_once(tools: Tools, backup: str, *, volumes: int) -> None:
    """One job for each volume, and one snapshot, however often somebody began anew."""
    jobs = [job["status"] for job in reads(tools, backup)]
    assert [status["phase"] for status in jobs] == ["Completed"] * volumes
    assert len({status["snapshotID"] for status in jobs}) == volumes


def prove_that_a_leader_is_followed(tools: Tools) -> None:
    """The Lease of a leader that is gone at once runs out after 15 s; then the other one leads."""

    def holder() -> str:
        lease = tools.get("lease", CONTROLLER_LEASE, namespace=tools.namespace)
        return str((lease or {"spec": {}})["spec"].get("holderIdentity") or "")

    first = holder()
    where = ("-n", tools.namespace, "--force", "--grace-period=0", "--wait=false")
    killed = time.monotonic()
    tools.kubectl("delete", "pod", first, *where)
    # 20 s is what users are told; the rest is for a machine with too much to do.
    eventually(lambda: holder() not in ("", first), what="another leader", timeout=120)
    print(f"led by another after {time.monotonic() - killed:.1f} s")
    what = ("--include-namespaces", "default", "--wait")
    tools.ararat("backup", "create", f"after-{first}", *what, timeout=120)


@pytest.mark.timeout(900)
def test_nodes_that_lose_power_while_volumes_are_filled(
    installed: Ground, tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    """Kubelet, agent, sandboxes and gates end at once; the node is started again as it was.

    First where a gate was made and has not started, then where a volume is being filled.
    """
    cluster = installed.cluster
    if cluster is None:
        pytest.fail("this test cuts the power of a node: it needs a cluster of this machine")
    app = new_workload("power", fill=_FILL)
    before = app.walks()
    backup, restore = f"{app.namespace}-kept", f"{app.namespace}-back"
    tools.ararat("backup", "create", backup, "--include-namespaces", app.namespace, "--wait")
    delete_namespace(tools, app.namespace)
    with watch_pods(tools, app.namespace) as history:
        node = cluster.nodes[0]
        made = node.containers()
        with node.holding_starts():
            tools.ararat("restore", "create", restore, "--from-backup", backup)
            eventually(lambda: node.containers() - made, what="a gate to be made", timeout=90)
            node.crash()
        node.boot()
        name = _filling(tools, restore)
        node = next(node for node in cluster.nodes if node.name == name)
        node.crash()
        node.boot()
        tools.ararat("restore", "wait", restore, timeout=400.0)
        app.wait_until_running(timeout=240)
    wait_until_ready(tools)
    app.prove_equal(before)
    assert history.violations(again=True) == []
    assert history.never_started(), "no gate lost its node between being made and being started"
    assert_completed(tools, "restore", restore)
    found = tools.get("restores.ararat.dev", restore, namespace=tools.namespace)
    assert found is not None
    prove_once(tools, restore, claims=set(before))


@pytest.mark.timeout(900)
def test_a_node_that_is_lost_for_good_while_its_volumes_are_filled(
    installed: Ground, tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    """One volume on it can be reached from elsewhere, one went with it; both are filled once.

    Before that, the namespace that is restored into takes its time to go.
    """
    cluster = installed.cluster
    if cluster is None:
        pytest.fail("this test takes a node away: it needs a cluster of this machine")
    app = new_workload("lost", shared=True)
    before = app.walks()
    backup, restore = f"{app.namespace}-kept", f"{app.namespace}-back"
    tools.ararat("backup", "create", backup, "--include-namespaces", app.namespace, "--wait")
    with holding_namespace(tools, app.namespace):
        tools.kubectl("delete", "namespace", app.namespace, "--wait=false")
        tools.ararat("restore", "create", restore, "--from-backup", backup)
        told = cause_is_told(tools, restore, "NamespaceTerminating", words="example.org/hold")
        assert "finalizers remaining" in told
        pods = {"namespace": app.namespace, "selector": "app"}
        eventually(lambda: not tools.items("pods", **pods), what="the old pods to go", timeout=90)
    with watch_pods(tools, app.namespace) as history, contextlib.ExitStack() as frozen:
        for node in cluster.nodes:
            frozen.enter_context(node.freezing("restic", below="/volumes/kubernetes.io~"))
        nodes = all_filling(tools, restore, set(before))
        lost = cluster.node(nodes["files"])
        (part,) = {c for c, name in nodes.items() if name == lost.name} - {"files"}
        try:
            lost.crash()
            tools.kubectl("delete", "node", lost.name)
            # Kubernetes does so by itself a minute later.
            of_it = ("-A", "--field-selector", f"spec.nodeName={lost.name}")
            tools.kubectl("delete", "pods", *of_it, "--force", "--grace-period=0")
            frozen.close()
            cause_is_told(tools, restore, "WrongZone")
            # Nobody but a person knows that this volume does not come back.
            tools.kubectl("delete", "pvc", part, "-n", app.namespace)
            tools.kubectl("delete", "pod", part.removeprefix("data-"), "-n", app.namespace)
            tools.ararat("restore", "wait", restore, timeout=400.0)
            app.wait_until_running(timeout=240)
        finally:
            lost.boot()
            eventually(lost.ready, what="the node to come back", timeout=90)
    wait_until_ready(tools)
    app.prove_equal(before)
    assert history.violations(again=True) == []
    assert_completed(tools, "restore", restore)
    prove_once(tools, restore, claims=set(before))
    gone = {job["spec"]["claim"]["name"] for job in fills(tools, restore) if is_node_gone(job)}
    assert gone == {"files", part}
    again = [job for job in fills(tools, restore) if not is_node_gone(job)]
    # What is in the one volume is partial data of the first job; the other one is a new volume.
    assert {job["spec"]["claim"]["name"] for job in again if "takesOver" in job["spec"]} == {
        "files"
    }


def is_node_gone(job: Object) -> bool:
    return bool(job["status"].get("reason") == "NodeGone")


def all_filling(tools: Tools, restore: str, claims: set[str]) -> dict[str, str]:
    """Claim → node, when all of them are being filled."""

    def writing() -> dict[str, str]:
        found = {
            job["spec"]["claim"]["name"]: job["spec"]["node"]
            for job in fills(tools, restore)
            if job.get("status", {}).get("wrote")
        }
        return found if set(found) == claims else {}

    return eventually(
        writing,
        what="all volumes to be filled",
        timeout=180,
        seen=lambda: tools.kubectl("get", "podvolumerestores", "-n", tools.namespace, "-o", "wide"),
    )


@contextlib.contextmanager
def holding_namespace(tools: Tools, namespace: str) -> Iterator[None]:
    """While the block runs, the namespace cannot go."""
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "held",
            "namespace": namespace,
            "finalizers": ["example.org/hold"],
        },
    }
    tools.apply([held])
    try:
        yield
    finally:
        where = ("-n", namespace, "--type", "merge", "-p", '{"metadata":{"finalizers":null}}')
        tools.kubectl("patch", "configmap", "held", *where)


def _filling(tools: Tools, restore: str) -> str:
    """A node whose agent writes into a volume at this moment."""
    found: list[str] = []

    def writing() -> bool:
        jobs = tools.items("podvolumerestores.ararat.dev", namespace=tools.namespace)
        found[:] = [
            job["spec"]["node"]
            for job in jobs
            if job["spec"]["restore"] == restore
            and job.get("status", {}).get("phase") == "InProgress"
        ]
        return bool(found)

    eventually(writing, what="a volume to be filled", timeout=180, interval=0.1)
    return found[0]


@contextlib.contextmanager
def killing(tools: Tools, dice: random.Random) -> Iterator[list[str]]:
    """Kill a random pod of Ararat's now and then while the block runs; at least one."""
    done = threading.Event()
    killed: list[str] = []

    def work() -> None:
        while len(killed) < _KILLS and not done.wait(dice.uniform(0.5, 4.0)):
            component = dice.choice(_COMPONENTS)
            selector = f"app.kubernetes.io/component={component}"
            pods = tools.items("pods", namespace=tools.namespace, selector=selector)
            running = [
                pod["metadata"]["name"]
                for pod in pods
                if pod["status"].get("phase") == "Running"
                and "deletionTimestamp" not in pod["metadata"]
            ]
            if running:
                name = dice.choice(running)
                where = ("-n", tools.namespace, "--force", "--grace-period=0", "--wait=false")
                tools.kubectl("delete", "pod", name, *where)
                killed.append(name)

    killer = threading.Thread(target=work)
    killer.start()
    try:
        yield killed
    finally:
        done.set()
        killer.join()
    assert killed, "it was over before anything was killed; give the volumes more to hold"
