from __future__ import annotations

import pytest

from controller.restore.order import in_order
from controller.restore.skips import Skips
from controller.restore.stored import StoredObject
from tests.unit.controller.restore.make import (
    claim,
    pod,
    stored,
)


def test_order_of_kinds() -> None:
    kinds = [
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "widgets.example.org",
        "deployments.apps",
        "replicasets.apps",
        "controllerrevisions.apps",
        "pods",
        "services",
        "networkpolicies.networking.k8s.io",
        "limitranges",
        "configmaps",
        "secrets",
        "rolebindings.rbac.authorization.k8s.io",
        "serviceaccounts",
        "roles.rbac.authorization.k8s.io",
        "persistentvolumeclaims",
        "persistentvolumes",
        "storageclasses.storage.k8s.io",
        "namespaces",
        "customresourcedefinitions.apiextensions.k8s.io",
    ]
    assert in_order(kinds) == list(reversed(kinds))
    assert in_order(["resourcequotas", "cronjobs.batch"]) == ["cronjobs.batch", "resourcequotas"]


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (stored("Backup", "b", api_version="ararat.dev/v1alpha1"), "OwnKind"),
        (stored("Node", "n", namespace=None), "ClusterOwned"),
        (stored("Event", "e"), "ClusterOwned"),
        (stored("Lease", "l", api_version="coordination.k8s.io/v1"), "ClusterOwned"),
        (stored("ConfigMap", "kube-root-ca.crt"), "ClusterOwned"),
        (stored("Service", "kubernetes", namespace="default"), "ClusterOwned"),
        (
            stored(
                "Secret",
                "app-token-x1y2z",
                type="kubernetes.io/service-account-token",
                annotations={"kubernetes.io/service-account.name": "app"},
            ),
            "ClusterOwned",
        ),
        (stored("Secret", "app-token-x1y2z", type="Opaque"), None),
        (stored("Endpoints", "web", plural="endpoints"), "ClusterOwned"),
        (stored("Endpoints", "external", plural="endpoints"), None),
        (
            stored(
                "ClusterRole",
                "admin",
                namespace=None,
                labels={"kubernetes.io/bootstrapping": "rbac-defaults"},
            ),
            "ClusterOwned",
        ),
        (claim("scratch-db-0", owner=("Pod", "db-0")), "MadeByItsPod"),
        (pod(owner=None), None),
        (pod(owner=("ReplicaSet", "web-5d")), None),
        (pod(owner=("ReplicationController", "web")), None),
        (pod(owner=("StatefulSet", "db")), None),
        (pod(owner=("DaemonSet", "agent")), "MadeByItsOwner"),
        (pod(owner=("Job", "once")), "MadeByItsOwner"),
        (pod(owner=("Database", "pg")), "MadeByItsOwner"),
        (pod(owner=("Node", "n1")), "MirrorPod"),
        (pod(owner=None, annotations={"kubernetes.io/config.mirror": "x"}), "MirrorPod"),
        (pod(phase="Succeeded"), "PodFinished"),
        (pod(phase="Failed"), "PodFinished"),
        (
            stored(
                "Job",
                "once",
                api_version="batch/v1",
                status={"conditions": [{"type": "Complete", "status": "True"}]},
            ),
            "JobFinished",
        ),
        (stored("Job", "running", api_version="batch/v1", status={}), None),
        (
            stored("Job", "c-1", api_version="batch/v1", owner=("CronJob", "c"), status={}),
            "MadeByItsOwner",
        ),
        (stored("ReplicaSet", "old", api_version="apps/v1", spec={"replicas": 0}), None),
    ],
    ids=str,
)
def test_never_restored(obj: StoredObject, reason: str | None) -> None:
    selecting = stored("Service", "web", spec={"selector": {"app": "web"}})
    skip = Skips([selecting]).why(obj)
    assert (skip.reason if skip else None) == reason
