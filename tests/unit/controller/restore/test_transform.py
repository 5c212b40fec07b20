from __future__ import annotations

import json
from typing import Any

import pytest

from controller.restore.classes import StorageClasses
from controller.restore.stored import StoredObject
from controller.restore.transform import Target, prepare
from controller.restore.workloads import is_automatic_token, merge_account
from tests.unit.controller.restore.make import claim, pod, stored

CLASSES = StorageClasses(existing=frozenset({"standard", "fast"}), default="standard")
COPY = Target(namespaces={"wp": "wp-copy"}, classes=CLASSES)
HERE = Target(classes=CLASSES)


def made(obj: StoredObject, target: Target = HERE, *, keep_volume: bool = False) -> dict[str, Any]:
    before = json.dumps(obj.body, sort_keys=True)
    body = prepare(obj.resource, obj.body, target, keep_volume=keep_volume).body
    assert json.dumps(obj.body, sort_keys=True) == before, "the stored object was changed"
    return body


def test_what_the_old_server_owned_goes() -> None:
    obj = stored("ConfigMap", "settings", labels={"app": "x"}, data={"a": "b"})
    obj.body["metadata"].update(
        {
            "generation": 3,
            "managedFields": [{}],
            "selfLink": "/x",
            "generateName": "settings-",
            "deletionGracePeriodSeconds": 0,
            "finalizers": ["example.org/hold"],
            "ownerReferences": [{"kind": "X"}],
        }
    )
    assert made(obj) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "wp", "labels": {"app": "x"}},
        "data": {"a": "b"},
    }


def test_what_an_earlier_restore_wrote_goes_and_what_users_wrote_stays() -> None:
    obj = stored(
        "ConfigMap",
        "settings",
        labels={"ararat.dev/restore": "old", "ararat.dev/restore-uid": "old"},
        annotations={
            "ararat.dev/restore-pending": "old",
            "ararat.dev/gate-restore": "old",
            "ararat.dev/gate-volumes": "data",
            "ararat.dev/backup-volumes": "data",
        },
    )
    assert made(obj)["metadata"] == {
        "name": "settings",
        "namespace": "wp",
        "annotations": {"ararat.dev/backup-volumes": "data"},
    }


def test_namespace_comes_back_under_its_new_name() -> None:
    obj = stored(
        "Namespace",
        "wp",
        namespace=None,
        labels={"kubernetes.io/metadata.name": "wp", "team": "web", "ararat.dev/restoring": "x"},
        spec={"finalizers": ["kubernetes"]},
        status={"phase": "Active"},
    )
    assert made(obj, COPY) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "wp-copy", "labels": {"team": "web"}},
    }


def test_pod_loses_what_is_decided_anew() -> None:
    obj = pod(
        annotations={"cni.projectcalico.org/podIP": "10.0.0.1", "keep": "me"},
        priority=100,
        preemptionPolicy="PreemptLowerPriority",
        priorityClassName="high",
        overhead={"cpu": "1"},
        ephemeralContainers=[{"name": "debugger"}],
    )
    body = made(obj)
    assert body["metadata"] == {
        "name": "db-0",
        "namespace": "wp",
        "annotations": {"keep": "me"},
    }
    assert body["spec"] == {
        "containers": [{"name": "app", "image": "app:1"}],
        "priorityClassName": "high",
    }
    assert "status" not in body


TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.mark.parametrize(
    ("volume", "mount_path", "stays"),
    [
        ({"name": "kube-api-access-x7k2p", "projected": {}}, TOKEN_PATH, False),
        (
            {"name": "app-token-abc12", "secret": {"secretName": "app-token-abc12"}},
            TOKEN_PATH,
            False,
        ),
        ({"name": "my-token", "projected": {"sources": []}}, "/tokens", True),
        ({"name": "app-token-abc12", "secret": {"secretName": "app-token-abc12"}}, "/mine", True),
        ({"name": "other-token-abc12", "secret": {"secretName": "other-token-abc12"}}, "/o", True),
    ],
)
def test_only_the_mounted_account_token_goes(
    volume: dict[str, Any], mount_path: str, stays: bool
) -> None:
    mounts = [{"name": volume["name"], "mountPath": mount_path}, {"name": "d", "mountPath": "/d"}]
    obj = pod(
        serviceAccountName="app",
        volumes=[{"name": "d", "emptyDir": {}}, volume],
        containers=[{"name": "app", "volumeMounts": mounts}],
        initContainers=[{"name": "init", "volumeMounts": [mounts[0]]}],
    )
    spec = made(obj)["spec"]
    kept = mounts if stays else mounts[1:]
    assert [v["name"] for v in spec["volumes"]] == ["d", *([volume["name"]] if stays else [])]
    assert spec["containers"][0]["volumeMounts"] == kept
    assert spec["initContainers"][0].get("volumeMounts", []) == ([mounts[0]] if stays else [])


@pytest.mark.parametrize("name", ["restore-wait", "restic-wait"])
def test_gates_of_earlier_restores_go(name: str) -> None:
    obj = pod(
        volumes=[{"name": "ararat-gate", "emptyDir": {}}, {"name": "d", "emptyDir": {}}],
        initContainers=[
            {"name": name, "volumeMounts": [{"name": "ararat-gate", "mountPath": "/g"}]},
            {"name": "migrate"},
        ],
    )
    spec = made(obj)["spec"]
    assert spec["initContainers"] == [{"name": "migrate"}]
    assert spec["volumes"] == [{"name": "d", "emptyDir": {}}]


def test_claim_is_created_unbound() -> None:
    obj = claim(
        annotations={
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
            "volume.beta.kubernetes.io/storage-provisioner": "x",
            "volume.kubernetes.io/storage-provisioner": "x",
            "volume.kubernetes.io/selected-node": "n",
            "keep": "me",
        },
        dataSource={"kind": "VolumeSnapshot", "name": "snap"},
    )
    prepared = prepare(obj.resource, obj.body, HERE)
    assert prepared.body == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-db-0", "namespace": "wp", "annotations": {"keep": "me"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "standard",
        },
    }
    assert prepared.warnings == (
        "was made from VolumeSnapshot 'snap', which is not brought back with it",
    )


def test_claim_may_keep_its_volume() -> None:
    assert made(claim(storage_class="gone"), keep_volume=True)["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "gone",
        "volumeName": "pv-old",
    }


@pytest.mark.parametrize(
    ("spec", "annotations", "mapping", "expected", "warned"),
    [
        ("fast", {}, {}, "fast", False),
        ("fast", {}, {"fast": "standard"}, "standard", False),
        ("gone", {}, {}, "standard", True),
        ("", {}, {}, "", False),
        ("", {}, {"": "fast"}, "fast", False),
        (None, {}, {}, None, False),
        (None, {"volume.beta.kubernetes.io/storage-class": "gone"}, {}, "standard", True),
        (None, {"volume.beta.kubernetes.io/storage-class": "fast"}, {}, "fast", False),
    ],
)
def test_storage_class_of_a_claim(
    spec: str | None,
    annotations: dict[str, str],
    mapping: dict[str, str],
    expected: str | None,
    warned: bool,
) -> None:
    obj = claim(storage_class=spec, annotations=annotations)
    target = Target(
        classes=StorageClasses(
            existing=frozenset({"standard", "fast"}), default="standard", mapping=mapping
        )
    )
    prepared = prepare(obj.resource, obj.body, target)
    assert prepared.body["spec"].get("storageClassName") == expected
    assert "annotations" not in prepared.body["metadata"]
    assert bool(prepared.warnings) is warned


def test_volume_knows_its_claim_by_name_only() -> None:
    obj = stored(
        "PersistentVolume",
        "pv-1",
        namespace=None,
        spec={
            "claimRef": {
                "namespace": "wp",
                "name": "data",
                "uid": "old",
                "resourceVersion": "3",
            },
            "csi": {"driver": "d", "volumeHandle": "h"},
        },
    )
    assert made(obj, COPY)["spec"] == {
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": "wp-copy",
            "name": "data",
        },
        "csi": {"driver": "d", "volumeHandle": "h"},
    }


def service(spec: dict[str, Any], applied: dict[str, Any] | None = None) -> StoredObject:
    annotations = (
        {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": applied})}
        if applied is not None
        else None
    )
    return stored("Service", "web", annotations=annotations, spec=spec)


@pytest.mark.parametrize(
    ("spec", "applied", "expected"),
    [
        (
            {
                "type": "ClusterIP",
                "clusterIP": "10.0.0.7",
                "clusterIPs": ["10.0.0.7"],
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"port": 80}],
            },
            None,
            {"type": "ClusterIP", "ports": [{"port": 80}]},
        ),
        (
            {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]},
            None,
            {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]},
        ),
        (
            {
                "type": "NodePort",
                "healthCheckNodePort": 30002,
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 443, "nodePort": 31999}],
            },
            {"ports": [{"port": 80, "nodePort": 30080}]},
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}, {"port": 443}]},
        ),
        (
            {"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"},
            {"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"},
            {"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"},
        ),
    ],
)
def test_service_keeps_what_was_asked_for(
    spec: dict[str, Any], applied: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    assert made(service(spec, applied))["spec"] == expected


def test_job_is_selected_anew() -> None:
    labels = {"controller-uid": "u", "job-name": "j", "app": "x"}
    obj = stored(
        "Job",
        "j",
        api_version="batch/v1",
        labels=dict(labels),
        spec={
            "selector": {"matchLabels": {"controller-uid": "u"}},
            "template": {"metadata": {"labels": dict(labels)}, "spec": {}},
        },
    )
    body = made(obj)
    assert body["metadata"]["labels"] == {"app": "x"}
    assert body["spec"] == {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {}}}


def test_job_with_its_own_selector_keeps_it() -> None:
    spec = {"manualSelector": True, "selector": {"matchLabels": {"a": "b"}}, "template": {}}
    assert made(stored("Job", "j", api_version="batch/v1", spec=spec))["spec"] == spec


def test_stateful_set_templates_follow_the_classes() -> None:
    def templates(*names: str | None) -> list[dict[str, Any]]:
        return [
            {"metadata": {"name": "data"}, "spec": {} if n is None else {"storageClassName": n}}
            for n in names
        ]

    obj = stored(
        "StatefulSet",
        "db",
        api_version="apps/v1",
        spec={"volumeClaimTemplates": templates("gone", "fast", None)},
    )
    prepared = prepare(obj.resource, obj.body, HERE)
    assert prepared.body["spec"]["volumeClaimTemplates"] == templates("standard", "fast", None)
    assert len(prepared.warnings) == 1


def test_bindings_follow_the_namespace() -> None:
    subjects = [
        {"kind": "ServiceAccount", "name": "app", "namespace": "wp"},
        {"kind": "ServiceAccount", "name": "app", "namespace": "other"},
        {"kind": "Group", "name": "system:serviceaccounts:wp"},
        {"kind": "User", "name": "system:serviceaccount:wp:app"},
        {"kind": "User", "name": "alice"},
    ]
    obj = stored(
        "ClusterRoleBinding",
        "b",
        namespace=None,
        api_version="rbac.authorization.k8s.io/v1",
        subjects=subjects,
    )
    assert made(obj, COPY)["subjects"] == [
        {"kind": "ServiceAccount", "name": "app", "namespace": "wp-copy"},
        {"kind": "ServiceAccount", "name": "app", "namespace": "other"},
        {"kind": "Group", "name": "system:serviceaccounts:wp-copy"},
        {"kind": "User", "name": "system:serviceaccount:wp-copy:app"},
        {"kind": "User", "name": "alice"},
    ]


def test_callers_of_services_and_policies_follow_the_namespace() -> None:
    webhook = stored(
        "ValidatingWebhookConfiguration",
        "w",
        namespace=None,
        api_version="admissionregistration.k8s.io/v1",
        webhooks=[{"clientConfig": {"service": {"namespace": "wp", "name": "s"}}}],
    )
    body = made(webhook, COPY)
    assert body["webhooks"][0]["clientConfig"]["service"]["namespace"] == "wp-copy"
    policy = stored(
        "NetworkPolicy",
        "p",
        plural="networkpolicies",
        api_version="networking.k8s.io/v1",
        spec={
            "ingress": [
                {
                    "from": [
                        {
                            "namespaceSelector": {
                                "matchLabels": {"kubernetes.io/metadata.name": "wp"}
                            }
                        }
                    ]
                }
            ]
        },
    )
    selector = made(policy, COPY)["spec"]["ingress"][0]["from"][0]["namespaceSelector"]
    assert selector == {"matchLabels": {"kubernetes.io/metadata.name": "wp-copy"}}


def test_token_secret_of_the_user_is_filled_anew() -> None:
    obj = stored(
        "Secret",
        "ci-token",
        annotations={
            "kubernetes.io/service-account.name": "ci",
            "kubernetes.io/service-account.uid": "old",
        },
        type="kubernetes.io/service-account-token",
        data={"token": "x", "ca.crt": "x", "namespace": "x", "extra": "y"},
    )
    body = made(obj)
    assert body["data"] == {"extra": "y"}
    assert body["metadata"]["annotations"] == {"kubernetes.io/service-account.name": "ci"}
    assert not is_automatic_token(obj)


def test_account_forgets_automatic_tokens() -> None:
    obj = stored(
        "ServiceAccount",
        "app",
        secrets=[{"name": "app-token-x1y2z"}, {"name": "mine"}],
        imagePullSecrets=[{"name": "app-dockercfg-x1y2z"}],
    )
    body = made(obj)
    assert body["secrets"] == [{"name": "mine"}]
    assert "imagePullSecrets" not in body


def test_account_that_exists_gets_what_it_lacks() -> None:
    have = {"metadata": {"annotations": {"a": "1"}}, "imagePullSecrets": [{"name": "theirs"}]}
    want = {
        "metadata": {"annotations": {"a": "2", "b": "3"}, "labels": {"x": "y"}},
        "imagePullSecrets": [{"name": "theirs"}, {"name": "registry"}],
    }
    assert merge_account(have, want) == {
        "imagePullSecrets": [{"name": "theirs"}, {"name": "registry"}],
        "metadata": {"labels": {"x": "y"}, "annotations": {"b": "3"}},
    }
    assert merge_account(want, want) is None


def test_second_default_class_is_not_made() -> None:
    obj = stored(
        "StorageClass",
        "fast",
        plural="storageclasses",
        namespace=None,
        api_version="storage.k8s.io/v1",
        annotations={"storageclass.kubernetes.io/is-default-class": "true"},
        provisioner="p",
    )
    assert "annotations" not in made(obj)["metadata"]
    alone = Target(classes=StorageClasses(default=None))
    assert made(obj, alone)["metadata"]["annotations"]
