"""``restore create --dry-run`` and ``describe`` show the plan that a controller left."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest
import yaml

from ararat.api.plan import KEY, RestorePlan
from tests.component.cli.conftest import Cluster, until

PLAN = RestorePlan.model_validate(
    {
        "backup": "mybackup",
        "dryRun": True,
        "objects": [
            {"resource": "secrets", "namespace": "wp", "name": "s", "action": "Create"},
            {
                "resource": "pods",
                "namespace": "wp",
                "name": "web-0",
                "action": "LeaveAlone",
                "differs": ["spec.containers[web].image"],
            },
        ],
    }
)


def store(cluster: Cluster, name: str) -> None:
    """What the controller writes."""
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps"
    data = {KEY: base64.b64encode(PLAN.pack()).decode()}
    cluster.plane.api.create(path, {"metadata": {"name": f"{name}-plan"}, "binaryData": data})
    status = {
        "phase": "Completed",
        "plan": f"{name}-plan",
        "completionTime": "2026-11-22T12:00:00Z",
    }
    cluster.status("restores", name, **status)


def answer(cluster: Cluster, seen: list[Any], **status: Any) -> threading.Thread:
    """A controller that answers the first dry run it sees."""

    def run() -> None:
        (name,) = until(lambda: cluster.names("restores"))
        seen.append(cluster.get("restores", name))
        if status:
            cluster.status("restores", name, **status)
        else:
            store(cluster, name)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_the_plan_is_printed_and_nothing_stays(cluster: Cluster, form: str) -> None:
    cluster.location()
    cluster.backup()
    seen: list[Any] = []
    thread = answer(cluster, seen)
    done = cluster.ararat("restore", "create", "--from-backup", "mybackup", "--dry-run", "-o", form)
    thread.join()
    assert done.returncode == 0, done.stderr
    assert seen[0]["spec"]["dryRun"] is True
    assert seen[0]["metadata"]["name"].endswith("-dry-run")
    match form:
        case "json":
            assert RestorePlan.model_validate(json.loads(done.stdout)) == PLAN
        case "yaml":
            assert RestorePlan.model_validate(yaml.safe_load(done.stdout)) == PLAN
        case _:
            assert "nothing was done" in done.stdout
            assert "pods wp/web-0: spec.containers[web].image" in done.stdout
    assert cluster.names("restores") == []


def test_a_plan_that_cannot_be_made_is_one_line(cluster: Cluster) -> None:
    cluster.location()
    cluster.backup()
    thread = answer(cluster, [], phase="Failed", message="namespace 'x' is not in the backup")
    done = cluster.ararat("restore", "create", "--from-backup", "mybackup", "--dry-run")
    thread.join()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: namespace 'x' is not in the backup\n"
    assert cluster.names("restores") == []


def test_describe_shows_what_stayed_as_it_was(cluster: Cluster) -> None:
    cluster.create("restores", "r", {"backup": "mybackup"})
    store(cluster, "r")
    done = cluster.ararat("restore", "describe", "r")
    assert done.returncode == 0, done.stderr
    assert "Existing, left alone:\n  - pods wp/web-0: spec.containers[web].image" in done.stdout
