from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.restore.differences import differences, update
from controller.restore.transform import Target, prepare
from tests.unit.controller.restore.make import claim, pod, stored


def deployment(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "web", "image": "web:1"}, {"name": "side", "image": "side:1"}]
    return dict(
        stored(
            "Deployment",
            "web",
            api_version="apps/v1",
            spec={
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": containers}},
                **spec,
            },
            status={"replicas": 2},
        ).body
    )


def test_what_the_server_and_we_add_is_no_difference() -> None:
    body = stored("ConfigMap", "c", data={"a": "1"}).body
    wanted = prepare("configmaps", body, Target()).body
    present = stored("ConfigMap", "c", labels={"ararat.dev/restore-uid": "x"}, data={"a": "1"}).body
    assert differences("configmaps", present, wanted) == []
    changed = stored("ConfigMap", "c", labels={"new": "x"}, data={"a": "2", "b": "3"}).body
    assert differences("configmaps", changed, wanted) == ["data.a", "data.b", "metadata.labels"]


def test_list_items_are_named() -> None:
    present = deployment()
    present["spec"]["template"]["spec"]["containers"][1]["image"] = "side:2"
    present["spec"]["replicas"] = 0
    assert differences("deployments.apps", present, deployment()) == [
        "spec.replicas",
        "spec.template.spec.containers[side].image",
    ]


def test_noise_is_left_out() -> None:
    present = deployment(paused=None, strategy={})
    present["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "7"}
    present["status"] = {"replicas": 9}
    assert differences("deployments.apps", present, deployment()) == []
    service = {"ports": [{"port": 80}], "type": "ClusterIP"}
    newer = {**service, "internalTrafficPolicy": "Cluster", "clusterIP": "10.0.0.9"}
    one = stored("Service", "s", spec=service).body
    assert differences("services", stored("Service", "s", spec=newer).body, one) == []
    kept = claim().body
    other = claim(volume="pv-new").body
    assert differences("persistentvolumeclaims", other, kept) == []


def test_what_a_newer_server_fills_in_is_no_difference_and_no_update() -> None:
    """Found in a cluster sixteen releases newer (``make versions``)."""
    filled = {
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "manualSelector": False,
        "updateStrategy": {"rollingUpdate": {"maxSurge": 0}},
        "requiresRepublish": False,
    }
    assert differences("statefulsets.apps", deployment(**filled), deployment()) == []
    assert update("statefulsets.apps", deployment(**filled), deployment()) is None
    deleting = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}
    assert differences("statefulsets.apps", deployment(**deleting), deployment()) == [
        "spec.persistentVolumeClaimRetentionPolicy"
    ]


@pytest.mark.parametrize(
    ("left", "right"),
    [({"replicas": 0}, {}), ({"paused": False}, {"paused": True}), ({"minReadySeconds": 0}, {})],
)
def test_what_only_looks_like_noise(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert differences("deployments.apps", deployment(**left), deployment(**right))


def test_an_empty_text_is_a_value_in_data() -> None:
    present = stored("Secret", "s", data={"a": "", "b": "eA=="}).body
    wanted = stored("Secret", "s", data={"b": "eA=="}).body
    assert differences("secrets", present, wanted) == ["data.a"]


def test_an_allocated_node_port_is_no_difference() -> None:
    present = stored("Service", "s", spec={"ports": [{"port": 80, "nodePort": 31000}]}).body
    wanted = stored("Service", "s", spec={"ports": [{"port": 80}]}).body
    asking = stored("Service", "s", spec={"ports": [{"port": 80, "nodePort": 32000}]}).body
    assert differences("services", present, wanted) == []
    assert differences("services", present, asking) == ["spec.ports[0].nodePort"]


# --- updates ------------------------------------------------------------------------------------


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def test_an_update_leads_to_the_backup_s_content() -> None:
    present = deployment(revisionHistoryLimit=3, minReadySeconds=5)
    present["spec"]["template"]["spec"]["containers"][0]["image"] = "web:9"
    present["metadata"]["labels"] = {"theirs": "stays", "app": "old"}
    wanted = deployment(progressDeadlineSeconds=60)
    wanted["metadata"]["labels"] = {"app": "new"}
    patch = update("deployments.apps", present, wanted)
    assert patch is not None
    assert patch["metadata"] == {"labels": {"app": "new"}, "resourceVersion": "17"}
    assert patch["spec"]["minReadySeconds"] is None
    made = merged(copy.deepcopy(present), patch)
    assert made["spec"] == wanted["spec"]
    assert made["metadata"]["labels"] == {"theirs": "stays", "app": "new"}
    assert made["status"] == present["status"]


@pytest.mark.parametrize(
    ("resource", "present", "wanted"),
    [
        ("pods", pod().body, pod(labels={"a": "b"}).body),
        ("deployments.apps", deployment(), deployment(strategy={})),
    ],
)
def test_nothing_to_patch(resource: str, present: Any, wanted: Any) -> None:
    assert update(resource, present, wanted) is None


def test_a_namespace_gets_labels_and_keeps_what_it_is() -> None:
    present = stored("Namespace", "wp", namespace=None, spec={"finalizers": ["kubernetes"]}).body
    wanted = stored("Namespace", "wp", namespace=None, labels={"team": "a"}).body
    assert update("namespaces", present, wanted) == {
        "metadata": {"labels": {"team": "a"}, "resourceVersion": "17"}
    }


def test_a_claim_keeps_its_volume() -> None:
    patch = update("persistentvolumeclaims", claim(size="1Gi").body, claim(size="2Gi").body)
    assert patch is not None
    assert patch["spec"] == {"resources": {"requests": {"storage": "2Gi"}}}
