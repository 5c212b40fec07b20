"""Controller and agents are killed at random moments; only the duration may change.

Pods are deleted with force and without grace, which kills their processes at once, as a node that
loses power would. The seed of the moments is printed, so that a failing run can be told again.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import delete_namespace
from tests.e2e.support.install import wait_until_ready
from tests.e2e.support.podwatch import watch_pods
from tests.e2e.support.tools import Tools
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
