"""The pod that the chart gives to maintenance jobs: valid, with the agent's rights and no more."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest

from ararat.api import Repository
from ararat.api.base import Meta
from ararat.api.nodejob import RepositoryReference
from ararat.api.repository import (
    MaintenanceAction,
    RepositoryKind,
    RepositorySpec,
    RepositoryStatus,
)
from ararat.maintenance import MaintenanceTask
from controller.maintenance.jobs import build_job, read_template
from controller.maintenance.planner import Plan
from tests.component.chart.test_chart import AZURE, CASES, mounts, one, pod_of, render

REPOSITORY = Repository(
    metadata=Meta(name="main-wp", uid="u-1"),
    spec=RepositorySpec(location="main", kind=RepositoryKind.VOLUMES, namespace="wp"),
    status=RepositoryStatus(),
)
TASK = MaintenanceTask(
    action=MaintenanceAction.PRUNE,
    repository=RepositoryReference(
        location="main",
        location_id="l-1",
        directory="repositories/volumes/wp/1",
        key_id="",
        password_secret="s",
    ),
)


def job(objects: list[dict[str, Any]], tmp_path: Any) -> dict[str, Any]:
    path = tmp_path / "pod.json"
    path.write_text(one(objects, "ConfigMap", "-maintenance")["data"]["pod.json"])
    template = read_template(path)
    assert template is not None
    return build_job(template, REPOSITORY, TASK, name="prune", namespace="ararat")


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_job_fits_kubernetes_schemas(values, tmp_path):
    built = job(render(values), tmp_path)
    kubernetes_validate.validate(built, "1.37", strict=True)


def test_pod_has_the_agents_account_and_no_privilege(tmp_path):
    objects = render(AZURE)
    spec = job(objects, tmp_path)["spec"]["template"]["spec"]
    agent, container, _ = pod_of(one(objects, "DaemonSet"))
    assert spec["serviceAccountName"] == agent["serviceAccountName"]
    (own,) = spec["containers"]
    assert own["image"] == container["image"]
    assert own["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert set(mounts(own)) == {"/cache", "/tmp"}
    environment = {e["name"]: e for e in own["env"]}
    assert json.loads(environment["ARARAT_MAINTENANCE_TASK"]["value"])["action"] == "Prune"


def test_values_reach_the_controller():
    values = {
        "maintenance": {
            "pruneEvery": "3d",
            "unusedPercent": 25,
            "checkEvery": "12h",
            "window": "90m",
            "concurrency": 5,
        }
    }
    _, container, environment = pod_of(one(render(values), "Deployment"))
    plan = Plan.from_environment(environment)
    assert plan.prune_every.days == 3
    assert (plan.unused_percent, plan.at_once) == (25, 5)
    assert plan.check_every.total_seconds() == 12 * 3600
    assert plan.window.total_seconds() == 5400
    assert environment["ARARAT_MAINTENANCE_TEMPLATE"].startswith("/etc/ararat/maintenance/")
    assert "/etc/ararat/maintenance" in mounts(container)


def test_off_means_off():
    objects = render({"maintenance": {"enabled": False}})
    assert not [o for o in objects if o["kind"] == "ConfigMap"]
    _, container, environment = pod_of(one(objects, "Deployment"))
    assert "ARARAT_MAINTENANCE_TEMPLATE" not in environment
    assert "/etc/ararat/maintenance" not in mounts(container)
