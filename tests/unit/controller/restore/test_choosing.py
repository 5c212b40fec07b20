from __future__ import annotations

from typing import Any

import pytest

from ararat.api.plan import Action
from ararat.errors import InvalidSpec
from ararat.kube.resources import ResourceType
from controller.restore.plan import Plan
from controller.restore.stored import StoredObject
from tests.unit.controller.restore.make import (
    body,
    claim,
    existing,
    plan,
    pod,
    stored,
)


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
