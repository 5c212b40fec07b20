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
from tests.e2e.support.podwatch import watch_pods
from tests.e2e.support.replaced import prove_once
from tests.e2e.support.tools import Tools
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
    eventually(lambda: holder() not in ("", first), what="another leader", timeout=60)
    print(f"led by another after {time.monotonic() - killed:.1f} s")
    what = ("--include-namespaces", "default", "--wait")
    tools.ararat("backup", "create", f"after-{first}", *what, timeout=120)


@pytest.mark.timeout(900)
def test_a_node_that_loses_power_while_its_volumes_are_filled(
    installed: Ground, tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    """Kubelet, agent, sandboxes and gates end at once; the node is started again as it was."""
    cluster = installed.cluster
    if cluster is None:
        pytest.fail("this test cuts the power of a node: it needs a cluster of this machine")
    app = new_workload("power", fill=_FILL)
    before = app.walks()
    backup, restore = f"{app.namespace}-kept", f"{app.namespace}-back"
    tools.ararat("backup", "create", backup, "--include-namespaces", app.namespace, "--wait")
    delete_namespace(tools, app.namespace)
    with watch_pods(tools, app.namespace) as history:
        tools.ararat("restore", "create", restore, "--from-backup", backup)
        name = _filling(tools, restore)
        node = next(node for node in cluster.nodes if node.name == name)
        node.crash()
        node.boot()
        tools.ararat("restore", "wait", restore, timeout=400.0)
        app.wait_until_running(timeout=240)
    wait_until_ready(tools)
    app.prove_equal(before)
    assert history.violations(again=True) == []
    assert_completed(tools, "restore", restore)
    found = tools.get("restores.ararat.dev", restore, namespace=tools.namespace)
    assert found is not None
    prove_once(tools, restore, claims=set(before))


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
