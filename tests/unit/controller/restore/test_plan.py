from __future__ import annotations

from typing import Any

import pytest

from ararat.api.manifest import Coverage
from ararat.errors import InvalidSpec
from ararat.kube.resources import ResourceType
from controller.restore.existing import Existing
from controller.restore.order import in_order
from controller.restore.plan import Action, Item, Plan
from controller.restore.skips import Skips
from controller.restore.stored import StoredObject
from tests.unit.controller.restore.make import (
    UID,
    claim,
    classes,
    existing,
    live,
    plan,
    pod,
    stored,
    volume,
)

PENDING = "ararat.dev/restore-pending"


def only(made: Plan, resource: str) -> Item:
    found = [item for item in made.items if item.resource == resource]
    assert len(found) == 1, [item.id for item in made.items]
    return found[0]


def body(made: Plan, resource: str) -> dict[str, Any]:
    found = only(made, resource).body
    assert found is not None
    return found


def gated(made: Plan) -> tuple[str, ...]:
    return only(made, "pods").gated


# --- order --------------------------------------------------------------------------------------


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


# --- what never comes back ----------------------------------------------------------------------


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


# --- claims and gates ---------------------------------------------------------------------------


def test_pod_waits_for_the_claim_that_gets_data() -> None:
    made = plan(
        pod(claims={"data": "data-db-0", "cache": "cache-db-0"}, empty=("tmp", "scratch")),
        claim(),
        claim("cache-db-0", volume=None),
        volumes=(volume(), volume(name="scratch", claim_name=None)),
    )
    assert gated(made) == ("data", "scratch")
    pod_body = body(made, "pods")
    assert pod_body["metadata"]["annotations"] == {
        "ararat.dev/gate-restore": "r1",
        "ararat.dev/gate-volumes": "data,scratch",
    }
    assert pod_body["spec"]["initContainers"][0]["name"] == "restore-wait"
    claims = {i.name: i.body or {} for i in made.items if i.resource == "persistentvolumeclaims"}
    assert claims["data-db-0"]["metadata"]["annotations"] == {PENDING: UID}
    assert "annotations" not in claims["cache-db-0"]["metadata"]
    assert body(made, "namespaces")["metadata"]["labels"] == {
        "ararat.dev/restore": "r1",
        "ararat.dev/restore-uid": UID,
        "ararat.dev/restoring": "r1",
    }
    assert made.restoring == {"wp"}
    assert made.warnings == ()


def test_nothing_is_held_where_there_is_no_data() -> None:
    made = plan(pod(claims={"data": "data-db-0"}), claim(), volumes=())
    assert gated(made) == ()
    assert "initContainers" not in body(made, "pods")["spec"]
    assert made.restoring == frozenset()
    assert made.warnings == ("claim wp/data-db-0 comes back empty: the backup has no files for it",)


def test_a_volume_that_no_container_mounts_is_not_waited_for() -> None:
    made = plan(
        pod(claims={"data": "data-db-0"}, containers=[{"name": "app"}]),
        claim(),
        volumes=(volume(),),
    )
    assert gated(made) == ()


def test_claim_shared_by_pods_is_waited_for_by_all() -> None:
    made = plan(
        pod("web-1", claims={"shared": "data"}, owner=("ReplicaSet", "web")),
        pod("web-2", claims={"other": "data"}, owner=("ReplicaSet", "web")),
        claim("data"),
        volumes=(volume("web-1", "shared", claim_name="data"),),
    )
    assert [i.gated for i in made.items if i.resource == "pods"] == [("shared",), ("other",)]


def test_data_that_the_backup_could_not_read_blocks() -> None:
    failed = volume(coverage=Coverage.FAILED, message="disk on fire")
    objects = (pod(claims={"data": "data-db-0"}), claim())
    made = plan(*objects, volumes=(failed,))
    assert gated(made) == ("data",)
    assert body(made, "persistentvolumeclaims")["metadata"]["annotations"] == {PENDING: UID}
    assert len(made.warnings) == 1
    assert "disk on fire" in made.warnings[0]
    allowed = plan(*objects, volumes=(failed,), policy={"allowMissing": True})
    assert gated(allowed) == ()


def test_claim_that_exists_is_left_alone_and_named() -> None:
    made = plan(
        pod(claims={"data": "data-db-0"}),
        claim(),
        volumes=(volume(),),
        here=existing(
            namespaces={"wp": {"metadata": {"name": "wp"}}},
            claims={("wp", "data-db-0"): live(claim())},
        ),
    )
    assert only(made, "persistentvolumeclaims").action is Action.LEAVE
    assert gated(made) == ()
    assert len(made.warnings) == 1
    assert "its data was not restored" in made.warnings[0]


def test_pod_that_exists_is_left_alone_and_named() -> None:
    made = plan(
        pod(claims={"data": "data-db-0"}),
        claim(),
        volumes=(volume(),),
        here=existing(
            pods={("wp", "db-0"): live(pod(claims={"data": "data-db-0"}))},
        ),
    )
    assert only(made, "pods").action is Action.LEAVE
    assert only(made, "persistentvolumeclaims").action is Action.SKIP
    assert [f.reason for f in made.failures] == ["PodWaiting"]
    assert "would start on the empty claim" in made.failures[0].message
    assert "volumes data were not restored" in made.warnings[0]


def test_a_resumed_run_plans_the_same() -> None:
    objects = (pod(claims={"data": "data-db-0"}), claim())
    first = plan(*objects, volumes=(volume(),))
    labels = {"ararat.dev/restore-uid": UID}
    again = plan(
        *objects,
        volumes=(volume(),),
        here=existing(
            claims={("wp", "data-db-0"): live(claim(), labels=labels)},
            pods={
                ("wp", "db-0"): live(pod(claims={"data": "data-db-0"}), labels=labels),
                # Its owner has replaced it already.
                ("wp", "db-1"): live(pod("db-1", claims={"data": "data-db-0"})),
            },
        ),
    )
    assert [i.summary() for i in again.items] == [i.summary() for i in first.items]
    assert again.failures == ()


def test_restore_of_objects_only_waits_for_nothing() -> None:
    made = plan(
        pod(claims={"data": "data-db-0"}),
        claim(),
        volumes=(volume(),),
        policy={"mode": "None"},
    )
    assert gated(made) == ()
    assert "annotations" not in body(made, "persistentvolumeclaims")["metadata"]


def test_claim_asks_for_what_its_files_need() -> None:
    made = plan(
        claim(size="1Gi"),
        volumes=(volume(size=5 * 1024**3, capacity="10Gi"),),
    )
    claim_body = body(made, "persistentvolumeclaims")
    assert claim_body["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    assert len(made.warnings) == 1


# --- volumes and classes ------------------------------------------------------------------------


def persistent_volume(policy: str = "Retain", handle: str = "disk-1") -> StoredObject:
    return stored(
        "PersistentVolume",
        "pv-old",
        namespace=None,
        spec={
            "persistentVolumeReclaimPolicy": policy,
            "claimRef": {"namespace": "wp", "name": "data-db-0", "uid": "old"},
            "csi": {"driver": "csi.example.org", "volumeHandle": handle},
            "storageClassName": "standard",
        },
    )


def here_in(cluster: str = "cluster-a", **fields: Any) -> Existing:
    return existing(cluster_uid=cluster, **fields)


OTHER_DOOR = {
    "pv-x": {
        "metadata": {"name": "pv-x"},
        "spec": {"csi": {"driver": "csi.example.org", "volumeHandle": "disk-1"}},
    }
}


@pytest.mark.parametrize(
    ("policy", "here", "with_data", "reason"),
    [
        ("Retain", here_in(), False, None),
        ("Retain", here_in("cluster-b"), False, "OtherCluster"),
        ("Delete", here_in(), False, "NotRetained"),
        ("Retain", here_in(volumes=OTHER_DOOR), False, "InUse"),
        ("Retain", here_in(), True, "FilledFromFiles"),
    ],
)
def test_a_volume_comes_back_only_where_it_is_safe(
    policy: str, here: Existing, with_data: bool, reason: str | None
) -> None:
    made = plan(
        claim(),
        persistent_volume(policy),
        volumes=(volume(),) if with_data else (),
        here=here,
    )
    item = only(made, "persistentvolumes")
    assert (item.action, item.reason) == ((Action.SKIP, reason) if reason else (Action.CREATE, ""))
    kept = body(made, "persistentvolumeclaims")["spec"].get("volumeName")
    assert kept == (None if reason else "pv-old")
    empties = [w for w in made.warnings if "comes back empty" in w]
    assert bool(empties) is (reason is not None and not with_data)


def storage_class(name: str, provisioner: str) -> StoredObject:
    return stored(
        "StorageClass",
        name,
        plural="storageclasses",
        namespace=None,
        api_version="storage.k8s.io/v1",
        provisioner=provisioner,
    )


@pytest.mark.parametrize(
    ("provisioner", "comes_back", "used"),
    [("csi.example.org", True, "fast"), ("disk.other-cloud.example", False, "standard")],
)
def test_a_class_comes_back_where_its_driver_is(
    provisioner: str, comes_back: bool, used: str
) -> None:
    made = plan(claim(storage_class="fast"), storage_class("fast", provisioner))
    item = only(made, "storageclasses.storage.k8s.io")
    assert (item.action is Action.CREATE) is comes_back
    assert body(made, "persistentvolumeclaims")["spec"]["storageClassName"] == used


# --- choosing -----------------------------------------------------------------------------------


def names(made: Plan) -> list[str]:
    return [item.id for item in made.items if item.action is not Action.SKIP]


def config(name: str, namespace: str = "wp", **labels: str) -> StoredObject:
    return stored("ConfigMap", name, namespace=namespace, labels=labels or None, data={})


def test_namespaces_by_pattern_and_under_new_names() -> None:
    made = plan(
        config("a", "wp-1"),
        config("b", "wp-2"),
        config("c", "other"),
        namespaces=("wp-1", "wp-2", "other"),
        includedNamespaces=["wp-*"],
        namespaceMapping={"wp-1": "copy"},
    )
    assert names(made) == [
        "namespaces copy",
        "namespaces wp-2",
        "configmaps copy/a",
        "configmaps wp-2/b",
    ]


def test_namespaces_of_the_cluster_itself_come_back_only_when_named() -> None:
    objects = (config("a"), config("dns", "kube-system"))
    both = ("wp", "kube-system")
    assert names(plan(*objects, namespaces=both)) == ["namespaces wp", "configmaps wp/a"]
    named = plan(*objects, namespaces=both, includedNamespaces=["kube-system"])
    assert names(named) == ["namespaces kube-system", "configmaps kube-system/dns"]


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ({"includedResources": ["configmaps"]}, {"team": "web"}),
        ({"excludedResources": ["namespaces"]}, {}),
    ],
)
def test_the_namespace_comes_along(spec: dict[str, Any], labels: dict[str, str]) -> None:
    namespace = stored("Namespace", "wp", namespace=None, labels={"team": "web"})
    metadata = body(plan(config("a"), namespace, **spec), "namespaces")["metadata"]
    assert {k: v for k, v in metadata["labels"].items() if not k.startswith("ararat")} == labels


def test_kinds_by_any_name_and_claims_of_chosen_pods() -> None:
    objects = (
        pod(claims={"data": "data-db-0"}, labels={"app": "db"}),
        claim(),
        config("a"),
        stored("Deployment", "web", api_version="apps/v1", spec={}),
    )
    served = existing(
        served=[ResourceType("apps", "v1", "deployments", "Deployment", short_names=("deploy",))]
    )
    assert names(plan(*objects, here=served, includedResources=["deploy"])) == [
        "namespaces wp",
        "deployments.apps wp/web",
    ]
    assert names(plan(*objects, labelSelector={"matchLabels": {"app": "db"}})) == [
        "namespaces wp",
        "persistentvolumeclaims wp/data-db-0",
        "pods wp/db-0",
    ]


def test_cluster_objects_come_with_those_that_need_them() -> None:
    objects = (
        pod(priorityClassName="high"),
        config("a", "other"),
        stored(
            "PriorityClass",
            "high",
            plural="priorityclasses",
            namespace=None,
            api_version="scheduling.k8s.io/v1",
        ),
        stored(
            "PriorityClass",
            "low",
            plural="priorityclasses",
            namespace=None,
            api_version="scheduling.k8s.io/v1",
        ),
    )
    both = ("wp", "other")

    def classes_of(**spec: Any) -> list[str]:
        made = plan(*objects, namespaces=both, **spec)
        return [name.split()[1] for name in names(made) if name.startswith("priorityclasses")]

    assert classes_of() == ["high", "low"]
    assert classes_of(includedNamespaces=["wp"]) == ["high"]
    assert classes_of(includedNamespaces=["wp"], includeClusterResources=True) == ["high", "low"]
    assert classes_of(includeClusterResources=False) == []


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"includedNamespaces": ["nope"]}, "NamespaceNotFound"),
        ({"excludedNamespaces": ["*"]}, "NamespaceNotFound"),
        ({"namespaceMapping": {"nope": "x"}}, "NamespaceNotFound"),
        ({"namespaceMapping": {"wp": "Bad_Name"}}, "InvalidName"),
        ({"namespaceMapping": {"wp": "ararat"}}, "InvalidName"),
        ({"namespaceMapping": {"wp": "other"}}, "NamespacesCollide"),
        ({"includedResources": ["wdgets"]}, "UnknownResource"),
        ({"storageClassMapping": {"old": "nope"}}, "StorageClassNotFound"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        plan(config("a"), config("b", "other"), namespaces=("wp", "other"), **spec)
    assert refused.value.reason == reason
    assert refused.value.message


def test_class_mapping() -> None:
    made = plan(
        claim(storage_class="old"),
        here=existing(storage_classes=classes("standard", "fast")),
        storageClassMapping={"old": "fast"},
    )
    assert body(made, "persistentvolumeclaims")["spec"]["storageClassName"] == "fast"


def test_summary_is_plain_data() -> None:
    made = plan(pod(claims={"data": "data-db-0"}), claim(), volumes=(volume(),))
    assert made.summary() == {
        "namespaces": {"wp": "wp"},
        "items": [
            {"resource": "namespaces", "name": "wp", "action": "Create"},
            {
                "resource": "persistentvolumeclaims",
                "namespace": "wp",
                "name": "data-db-0",
                "action": "Create",
            },
            {
                "resource": "pods",
                "namespace": "wp",
                "name": "db-0",
                "action": "Create",
                "gate": ["data"],
            },
        ],
        "warnings": [],
        "failures": [],
    }
