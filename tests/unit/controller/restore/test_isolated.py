"""What comes back where nothing may reach out."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api.plan import Action
from ararat.errors import InvalidSpec
from controller.restore.plan import Plan
from controller.restore.stored import StoredObject

from .make import body, claim, existing, only, plan, pod, stored, volume

ISOLATED: dict[str, Any] = {
    "included_namespaces": ["wp"],
    "namespace_mapping": {"wp": "copy"},
    "include_cluster_resources": False,
    "isolated": True,
}


def made(*objects: StoredObject, **more: Any) -> Plan:
    return plan(*objects, volumes=(volume(),), **{**ISOLATED, **more})


def template(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "app", "image": "app:1"}]
    return {"template": {"metadata": {}, "spec": {"containers": containers, **spec}}}


def test_only_what_pods_need_comes() -> None:
    found = made(
        stored("ConfigMap", "settings"),
        stored("Secret", "password"),
        stored("ServiceAccount", "app"),
        stored("CronJob", "mails", api_version="batch/v1", spec={}),
        stored("Job", "import", api_version="batch/v1", spec={}),
        stored("DaemonSet", "logs", api_version="apps/v1", spec=template()),
        stored("Ingress", "web", plural="ingresses", api_version="networking.k8s.io/v1"),
        stored(
            "NetworkPolicy", "open", plural="networkpolicies", api_version="networking.k8s.io/v1"
        ),
        stored("RoleBinding", "admin", api_version="rbac.authorization.k8s.io/v1"),
        stored("HorizontalPodAutoscaler", "web", api_version="autoscaling/v2"),
        stored("Database", "main", api_version="operators.example/v1"),
    )
    actions = {one.resource: (one.action, one.reason) for one in found.items}
    coming = {resource for resource, (action, _) in actions.items() if action is Action.CREATE}
    assert coming == {"configmaps", "secrets", "serviceaccounts"}
    assert {reason for action, reason in actions.values() if action is Action.SKIP} == {
        "ReachesOut"
    }
    assert {one.namespace for one in found.items if one.namespace} == {"copy"}


def test_a_namespace_is_never_made() -> None:
    """One that nobody closed would be open to the world."""
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    found = made(stored("Namespace", "wp", namespace=None, labels=labels))
    namespace = only(found, "namespaces")
    assert (namespace.action, namespace.name) == (Action.LEAVE, "copy")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"volumes": [{"name": "d", "hostPath": {"path": "/data"}}]}, "hostPath volume d"),
        ({"volumes": [{"name": "d", "nfs": {"server": "s", "path": "/"}}]}, "nfs volume d"),
        (
            {"containers": [{"name": "a", "image": "i", "securityContext": {"privileged": True}}]},
            "container a of its pods is privileged",
        ),
    ],
)
def test_pods_that_use_their_node_stay_out_with_their_owners(
    spec: dict[str, Any], said: str
) -> None:
    found = made(
        stored("Deployment", "web", api_version="apps/v1", spec=template(**spec)),
        stored("ReplicaSet", "web-1", api_version="apps/v1", spec=template(**spec)),
        pod("web-1-x", owner=None, **spec),
    )
    for resource in ("deployments.apps", "replicasets.apps", "pods"):
        assert only(found, resource).action is Action.SKIP
        assert said in only(found, resource).message


def test_what_comes_reaches_nobody() -> None:
    annotations = {
        "post.hook.restore.ararat.dev/command": "/bin/mail",
        "init.hook.restore.velero.io/command": "/bin/load",
        "app": "kept",
    }
    ports = [{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]
    spec: dict[str, Any] = {
        "containers": [{"name": "app", "image": "app:1", "ports": ports}],
        "priorityClassName": "high",
        "priority": 1000000,
    }
    described = template(**spec)
    described["template"]["metadata"]["annotations"] = dict(annotations)
    service = {
        "type": "LoadBalancer",
        "externalIPs": ["192.0.2.1"],
        "loadBalancerIP": "192.0.2.2",
        "externalTrafficPolicy": "Local",
        "ports": [{"port": 80, "nodePort": 30080}],
        "selector": {"app": "web"},
    }
    found = made(
        pod("web", owner=None, annotations=annotations, **spec),
        stored("Deployment", "web", api_version="apps/v1", spec=described),
        stored("Service", "web", annotations={"dns": "example.org"}, spec=service),
        preserve_node_ports=True,
    )
    for content in (body(found, "pods"), body(found, "deployments.apps")["spec"]["template"]):
        assert content["metadata"]["annotations"] == {"app": "kept"}
        assert not {"priorityClassName", "priority"} & set(content["spec"])
        assert content["spec"]["containers"][0]["ports"] == [{"containerPort": 80}]
    made_service = body(found, "services")
    assert made_service["spec"] == {
        "type": "ClusterIP",
        "ports": [{"port": 80}],
        "selector": {"app": "web"},
    }
    assert "annotations" not in made_service["metadata"]


@pytest.mark.parametrize("storage_class", ["", "lies-about"])
def test_a_claim_gets_a_new_disk_and_nobody_elses(storage_class: str) -> None:
    """A disk without a class, or one made by hand, may be what the original waits for."""
    lying = {
        "metadata": {"name": "lying"},
        "spec": {"storageClassName": "lies-about"},
        "status": {"phase": "Available"},
    }
    wanted = {"matchLabels": {"disk": "mine"}}
    found = made(
        claim(storage_class=storage_class, selector=wanted),
        pod(claims={"data": "data-db-0"}),
        here=existing(volumes={"lying": lying}),
    )
    spec = body(found, "persistentvolumeclaims")["spec"]
    assert "selector" not in spec
    assert "volumeName" not in spec
    assert spec.get("storageClassName") in (None, "standard")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"namespace_mapping": {}}, "namespace wp must be mapped"),
        ({"include_cluster_resources": None}, "includeClusterResources must be false"),
        ({"policy": {"reuse": True}}, "volumes come back as new ones only"),
        ({"existing_resource_policy": "Update"}, "existingResourcePolicy must be None"),
    ],
)
def test_an_isolated_restore_that_would_not_be(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        made(stored("ConfigMap", "settings"), **spec)
