"""A backup's life on a real cluster: by the clock, expired, deleted, pruned, checked, restored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Ground, delete_namespace
from tests.e2e.support import install
from tests.e2e.support.tools import CommandFailed, Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.support.workload import Workload

_LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.mark.timeout(1500)
def test_by_the_clock_and_to_its_end(tools: Tools, new_workload: Callable[..., Workload]) -> None:
    app = new_workload("life", replicas=1)
    name = f"{app.namespace}-often"
    what = ("--include-namespaces", app.namespace)
    rules = ("--keep-last", "1", "--overlap", "Queue")
    tools.ararat("schedule", "create", name, "--cron", "* * * * *", *what, *rules)
    eventually(lambda: completed(tools, name), what="a backup is made", timeout=180)
    prove_that_a_job_outlives_its_pod(tools, app)
    before = app.walks()
    by_hand = f"{app.namespace}-hand"
    tools.ararat("backup", "create", by_hand, *what, "--wait")
    tools.ararat("backup", "delete", by_hand, "--yes")
    assert tools.get("backups.ararat.dev", by_hand, namespace=tools.namespace) is None
    tools.ararat("schedule", "pause", name)
    eventually(lambda: not running(tools, name), what="the last one has ended", timeout=120)
    # Run after run by the clock, for a month, is `test_a_month`'s.
    tools.ararat("backup", "create", f"{name}-now", "--from-schedule", name, "--wait")
    newest = {f"{name}-now"}
    eventually(
        lambda: completed(tools, name) == newest, what="those before it have expired", timeout=180
    )
    shown = tools.ararat("schedule", "retention", name, "--dry-run").stdout
    assert "DELETE" not in shown
    assert "last" in shown

    kept = f"{app.namespace}-kept"
    tools.ararat("backup", "create", kept, "--from-schedule", name, "--wait")
    tools.ararat("backup", "pin", kept)

    repository = next(
        found["metadata"]["name"]
        for found in tools.items("repositories", namespace=tools.namespace)
        if found["spec"].get("namespace") == app.namespace
    )
    make_due(tools, repository)
    eventually(
        lambda: maintained(tools, repository),
        what="the repository is pruned and checked",
        timeout=420,
        seen=lambda: tools.kubectl(
            "get", "repositories,jobs,pods", "-n", tools.namespace, "-o", "wide"
        ),
    )

    delete_namespace(tools, app.namespace)
    back = f"{kept}-back"
    tools.ararat("restore", "create", back, "--from-schedule", name, "--wait")
    restore = tools.get("restores.ararat.dev", back, namespace=tools.namespace)
    assert restore is not None
    assert restore["status"]["backup"] == kept
    app.wait_until_running()
    app.prove_equal(before)
    tools.ararat("schedule", "delete", name, "--yes")
    tools.ararat("backup", "delete", kept, "--yes")


def prove_that_a_job_outlives_its_pod(tools: Tools, app: Workload) -> None:
    """Maintenance that gives way is deleted in the foreground, and is over when its Job is gone:
    so a real garbage collector keeps the Job for as long as its pod is there."""
    name, seconds = "gives-way", 4
    container = {
        "name": "stubborn",
        "image": app.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": seconds,
        "containers": [container],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": app.namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    tools.apply([job])

    def pods() -> list[dict[str, Any]]:
        return tools.items("pods", namespace=app.namespace, selector=f"job-name={name}")

    def runs() -> bool:
        return [found["status"].get("phase") for found in pods()] == ["Running"]

    eventually(runs, what="the Job's pod to run", timeout=90)
    how = ("--cascade=foreground", "--wait=false")
    tools.kubectl("delete", "job", name, "-n", app.namespace, *how)
    ending: list[bool] = []

    def gone() -> bool:
        if (found := tools.get("job", name, namespace=app.namespace)) is not None:
            ending.append("deletionTimestamp" in found["metadata"])
            return False
        assert pods() == [], "the Job went before its pod"
        return True

    eventually(gone, what="the Job to go", timeout=90, interval=0.2)
    assert ending
    assert all(ending)


@pytest.fixture
def running_allowed(installed: Ground) -> Iterator[Callable[[], None]]:
    """Calling it lets verifications start pods; it is taken back in the end."""
    before = installed.values or {}

    def allow() -> None:
        install.upgrade(installed.tools, {**before, "verification": {"run": {"enabled": True}}})
        deployment = "deployment/ararat-controller"
        where = ("-n", installed.tools.namespace, "--timeout=180s")
        installed.tools.kubectl("rollout", "status", deployment, *where, timeout=190)

    yield allow
    install.upgrade(installed.tools, before)
    install.wait_until_ready(installed.tools)


@pytest.mark.timeout(900)
def test_a_backup_is_read_whole_and_its_pods_start_apart(
    tools: Tools,
    new_workload: Callable[..., Workload],
    running_allowed: Callable[[], None],
) -> None:
    """Scratch pods and copies on real nodes; nothing of them is left, nothing else was touched."""
    app = new_workload("verify", replicas=1)
    name = f"{app.namespace}-read"
    tools.ararat("backup", "create", name, "--include-namespaces", app.namespace, "--wait")
    done = tools.ararat("backup", "verify", name, "--wait").stdout
    assert "all is as promised" in done
    backup = tools.get("backups.ararat.dev", name, namespace=tools.namespace)
    assert backup is not None
    assert backup["status"]["verification"]["phase"] == "Passed"
    assert tools.ararat("backup", "get", name).stdout.count("Passed") == 1

    with pytest.raises(CommandFailed, match=r"verification\.run\.enabled"):
        tools.ararat("backup", "verify", name, "--run")
    running_allowed()
    before, uids = app.walks(), pod_uids(tools, app.namespace)
    # Containers that find an empty volume refuse to run; the probe sees that it is theirs.
    probe = ("--probe", 'test -n "$(ls -A /data)" && test ! -e /data/of-the-original')
    touch = ("exec", "-n", app.namespace, "deployment/files", "--", "touch")
    tools.kubectl(*touch, "/data/of-the-original")
    done = tools.ararat("backup", "verify", name, "--run", *probe, "--wait", timeout=600).stdout
    assert "2 pods started, 1 probe succeeded" in done
    tools.kubectl(
        "exec", "-n", app.namespace, "deployment/files", "--", "rm", "/data/of-the-original"
    )
    assert pod_uids(tools, app.namespace) == uids
    after = app.walks()
    assert set(after) == set(before)

    copy = f"verify-{app.namespace}-"

    def gone() -> bool:
        pods = tools.items("pods", namespace=tools.namespace)
        helpers = ["ararat.dev/helper" in (pod["metadata"].get("labels") or {}) for pod in pods]
        copies = tools.items("namespaces", selector="ararat.dev/verification-uid")
        volumes = [
            volume["metadata"]["name"]
            for volume in tools.items("persistentvolumes")
            if volume["spec"].get("claimRef", {}).get("namespace", "").startswith(copy)
        ]
        return not any(helpers) and not copies and not volumes

    eventually(gone, what="scratch pods, copies and their volumes are gone", timeout=120)
    jobs = tools.items("podvolumerestores", namespace=tools.namespace)
    # Those of other tests' restores stay for an hour.
    assert [job for job in jobs if job["spec"]["mode"] == "Scratch"] == []
    assert [job for job in jobs if name in job["metadata"]["name"]] == []
    tools.ararat("backup", "delete", name, "--yes")


def pod_uids(tools: Tools, namespace: str) -> set[str]:
    pods = tools.items("pods", namespace=namespace, selector="app")
    return {pod["metadata"]["uid"] for pod in pods}


def mine(tools: Tools, schedule: str) -> list[dict[str, Any]]:
    found = tools.items("backups.ararat.dev", namespace=tools.namespace)
    return [backup for backup in found if backup["spec"].get("schedule") == schedule]


def completed(tools: Tools, schedule: str) -> set[str]:
    return {
        backup["metadata"]["name"]
        for backup in mine(tools, schedule)
        if backup.get("status", {}).get("phase") == "Completed"
    }


def running(tools: Tools, schedule: str) -> list[str]:
    ended = ("Completed", "PartiallyFailed", "Failed", "Cancelled", "Deleting")
    return [
        backup["metadata"]["name"]
        for backup in mine(tools, schedule)
        if backup.get("status", {}).get("phase") not in ended
    ]


def make_due(tools: Tools, repository: str) -> None:
    """As if it had been pruned and checked long ago: nobody waits for a week here."""

    def write() -> bool:
        found = tools.get("repositories.ararat.dev", repository, namespace=tools.namespace)
        assert found is not None
        status = found.setdefault("status", {}).setdefault("maintenance", {})
        status |= {"lastPruneTime": _LONG_AGO, "lastCheckTime": _LONG_AGO}
        path = found["metadata"].get("selfLink") or (
            f"/apis/ararat.dev/v1alpha1/namespaces/{tools.namespace}/repositories/{repository}"
        )
        try:
            tools.kubectl("replace", "--raw", f"{path}/status", "-f", "-", stdin=json.dumps(found))
        except CommandFailed:
            return False  # the controller wrote in between
        return True

    eventually(write, what="the repository's status is written", timeout=180)


def maintained(tools: Tools, repository: str) -> bool:
    found = tools.get("repositories.ararat.dev", repository, namespace=tools.namespace)
    assert found is not None
    state = found["status"]["maintenance"]
    assert state.get("failures", 0) == 0, state
    return (
        state["lastPruneTime"] != _LONG_AGO
        and state["lastCheckTime"] != _LONG_AGO
        and state.get("running") is None
    )
