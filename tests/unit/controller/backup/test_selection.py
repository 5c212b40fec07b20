from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.api.backup import Selection
from ararat.api.selector import LabelSelector
from ararat.errors import InvalidSpec
from ararat.kinds import known_kinds, meant_by, spellings
from ararat.kube.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    PODS,
    PVCS,
    PVS,
    ROLE_BINDINGS,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    ResourceType,
)
from controller.backup.selection import (
    NeedsCollector,
    left_out,
    match_namespaces,
    match_resources,
    selects,
    wanted,
)

EXISTING = ["default", "kube-system", "shop", "shop-test", "wp", "ararat"]
OWN = frozenset({"ararat"})


def select(**fields: Any) -> Selection:
    return Selection(**fields)


@pytest.mark.parametrize(
    ("included", "excluded", "expected"),
    [
        ([], [], ["default", "kube-system", "shop", "shop-test", "wp"]),
        (["*"], [], ["default", "kube-system", "shop", "shop-test", "wp"]),
        (["wp"], [], ["wp"]),
        (["shop*", "wp"], [], ["shop", "shop-test", "wp"]),
        (["shop*"], ["*-test"], ["shop"]),
        ([], ["kube-*", "default", "nothing"], ["shop", "shop-test", "wp"]),
        (["w?"], [], ["wp"]),
    ],
)
def test_namespaces(included: list[str], excluded: list[str], expected: list[str]) -> None:
    selection = select(included_namespaces=included, excluded_namespaces=excluded)
    assert match_namespaces(EXISTING, selection, never=OWN) == expected


@pytest.mark.parametrize(
    ("included", "excluded", "message"),
    [
        (["wp", "wq"], [], "includedNamespaces: 'wq' matches no namespace"),
        (["x*"], [], "includedNamespaces: 'x*' matches no namespace"),
        # Its own is never meant, not even by name.
        (["ararat"], [], "includedNamespaces: 'ararat' matches no namespace"),
        (["wp"], ["w*"], "no namespace is left after excludedNamespaces"),
        ([], ["*"], "no namespace is left after excludedNamespaces"),
    ],
)
def test_namespaces_that_are_not_there(
    included: list[str], excluded: list[str], message: str
) -> None:
    selection = select(included_namespaces=included, excluded_namespaces=excluded)
    with pytest.raises(InvalidSpec) as caught:
        match_namespaces(EXISTING, selection, never=OWN)
    assert (caught.value.reason, caught.value.message) == ("NamespaceNotFound", message)


def kind(plural: str, group: str = "", *short: str, verbs: tuple[str, ...] = ("list",)) -> Any:
    singular = plural.removesuffix("s")
    return ResourceType(
        group, "v1", plural, singular.capitalize(), True, verbs, tuple(short), singular
    )


AVAILABLE = [
    kind("pods", "", "po"),
    kind("events", "", "ev"),
    kind("deployments", "apps", "deploy"),
    kind("jobs", "batch"),
    kind("ingresses", "extensions", "ing"),
    kind("ingresses", "networking.k8s.io", "ing"),
    kind("bindings", verbs=("create",)),
]
ALL = ["pods", "deployments.apps", "jobs.batch", "ingresses.networking.k8s.io"]


def test_spellings() -> None:
    deployments = ResourceType(
        "apps", "v1", "deployments", "Deployment", True, ("list",), ("deploy",), "deployment"
    )
    assert spellings(deployments) == {
        "deployments",
        "deployment",
        "deploy",
        "deployments.apps",
        "deployment.apps",
        "deploy.apps",
    }


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("deployments.v1.apps", ["deployments.apps"]),
        ("deploy.v1.apps", ["deployments.apps"]),
        ("Deployment.v1beta2.apps", ["deployments.apps"]),
        ("deployments.v1.batch", []),
        ("pods.v1.", ["pods"]),
        ("ingresses.v1.", []),  # none without a group
        ("ing.networking", ["ingresses.networking.k8s.io"]),
        ("ingresses.v1.networking", ["ingresses.networking.k8s.io"]),
        ("ing", ["ingresses.extensions", "ingresses.networking.k8s.io"]),
        ("ingresses.k8s.io", []),
        ("deploymen", []),
        ("all", []),  # not what it sounds like
        ("things.v1.example.com", ["things.v1.example.com"]),
        ("things", ["things.v1.example.com"]),
    ],
)
def test_words_for_kinds_as_kubectl_takes_them(word: str, expected: list[str]) -> None:
    known = known_kinds([*AVAILABLE, kind("things", "v1.example.com")])
    assert sorted(meant_by(known, word)) == expected


@pytest.mark.parametrize(
    ("included", "excluded", "expected"),
    [
        ([], [], ALL),
        (["*"], [], ALL),
        (["*", "pods"], [], ALL),
        (["po", "Deploy", "jobs.batch"], [], ["pods", "deployments.apps", "jobs.batch"]),
        ([], ["job"], ["pods", "deployments.apps", "ingresses.networking.k8s.io"]),
        (["pods", "jobs"], ["jobs"], ["pods"]),
        (["ing"], [], ["ingresses.networking.k8s.io"]),
        ([], ["events"], ALL),
        ([], ["*"], []),
    ],
)
def test_kinds(included: list[str], excluded: list[str], expected: list[str]) -> None:
    selection = select(included_resources=included, excluded_resources=excluded)
    assert [r.qualified for r in match_resources(AVAILABLE, selection)] == expected


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        (
            {"included_resources": ["pdos"]},
            "UnknownResource",
            "includedResources: the cluster has no kind called 'pdos'",
        ),
        (
            {"excluded_resources": ["secret"]},
            "UnknownResource",
            "excludedResources: the cluster has no kind called 'secret'",
        ),
        (
            {"included_resources": ["pods", "ev"]},
            "NeverStored",
            "includedResources: 'ev' is never stored: it describes the moment, or the cluster "
            "makes it anew",
        ),
    ],
)
def test_kinds_that_cannot_be_had(fields: dict[str, Any], reason: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        match_resources(AVAILABLE, select(**fields))
    assert (caught.value.reason, caught.value.message) == (reason, message)


def selector(labels: dict[str, str] | None = None, *needs: tuple[str, str, list[str]]) -> Any:
    return LabelSelector.model_validate(
        {
            "matchLabels": labels or {},
            "matchExpressions": [{"key": k, "operator": o, "values": v} for k, o, v in needs],
        }
    )


@pytest.mark.parametrize(
    ("rule", "labels", "expected"),
    [
        (selector(), {}, True),
        (selector({"app": "db"}), {"app": "db", "x": "y"}, True),
        (selector({"app": "db"}), {"app": "web"}, False),
        (selector({"app": ""}), {}, False),
        (selector(None, ("app", "In", ["db", "web"])), {"app": "web"}, True),
        (selector(None, ("app", "In", ["db"])), {}, False),
        (selector(None, ("app", "NotIn", ["db"])), {}, True),
        (selector(None, ("app", "NotIn", ["db"])), {"app": "db"}, False),
        (selector(None, ("app", "Exists", [])), {"app": ""}, True),
        (selector(None, ("app", "Exists", [])), {}, False),
        (selector(None, ("app", "DoesNotExist", [])), {}, True),
        (selector(None, ("app", "DoesNotExist", [])), {"app": "x"}, False),
        (selector({"a": "1"}, ("b", "Exists", [])), {"a": "1"}, False),
    ],
)
def test_label_selectors(rule: LabelSelector, labels: dict[str, str], expected: bool) -> None:
    assert rule.matches(labels) is expected


def test_one_of_several_selectors_is_enough() -> None:
    selection = select(or_label_selectors=[selector({"app": "a"}), selector({"app": "b"})])
    assert [selects(selection, {"app": app}) for app in "abc"] == [True, True, False]


def test_two_ways_to_select_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        select(label_selector=selector(), or_label_selectors=[selector()])


OUT = {"ararat.dev/exclude-from-backup": "true"}


@pytest.mark.parametrize(
    ("metadata", "is_wanted", "is_left_out"),
    [
        ({"labels": {"app": "a"}}, True, False),
        ({"labels": {"app": "b"}}, False, False),
        ({}, False, False),
        ({"labels": None}, False, False),
        ({"labels": {"app": "a", **OUT}}, False, True),
        ({"labels": {"app": "a", "ararat.dev/exclude-from-backup": "false"}}, True, False),
        ({"labels": {"app": "a"}, "deletionTimestamp": "now"}, False, True),
    ],
)
def test_objects(metadata: dict[str, Any], is_wanted: bool, is_left_out: bool) -> None:
    selection = select(label_selector=selector({"app": "a"}))
    assert wanted(selection, {"metadata": metadata}) is is_wanted
    assert left_out({"metadata": metadata}) is is_left_out


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


def test_what_chosen_objects_need_outside_their_namespaces() -> None:
    collector = NeedsCollector()
    collector.add(PVCS, {"spec": {"volumeName": "pv-1", "storageClassName": "fast"}})
    collector.add(PVCS, {"spec": {}})
    collector.add(PODS, {"spec": {"priorityClassName": "high", "runtimeClassName": "kata"}})
    collector.add(SERVICE_ACCOUNTS, {"metadata": {"namespace": "wp", "name": "sa"}})
    collector.add(ROLE_BINDINGS, {"roleRef": {"kind": "ClusterRole", "name": "edit"}})
    collector.add(ROLE_BINDINGS, {"roleRef": {"kind": "Role", "name": "local"}})
    collector.add(kind("volumesnapshots", "snapshot.storage.k8s.io"), named("s"))
    collector.add(kind("widgets", "example.com"), named("w"))
    collector.add(DEPLOYMENTS, named("d"))
    needs = collector.needs()
    subject = {"kind": "ServiceAccount", "namespace": "wp", "name": "sa"}
    chosen = [
        (resource.plural, obj["metadata"]["name"])
        for resource, obj in [
            (PVS, named("pv-1")),
            (PVS, named("pv-2")),
            (STORAGE_CLASSES, named("fast")),
            (STORAGE_CLASSES, named("slow")),
            (CLUSTER_ROLES, named("edit")),
            (CLUSTER_ROLES, named("local")),
            (CRDS, named("widgets.example.com")),
            (CRDS, named("volumesnapshots.snapshot.storage.k8s.io")),
            (CRDS, named("gadgets.example.com")),
            (CLUSTER_ROLE_BINDINGS, named("mine", subjects=[subject])),
            (CLUSTER_ROLE_BINDINGS, named("others", subjects=[{**subject, "namespace": "x"}])),
            (CLUSTER_ROLE_BINDINGS, named("user", subjects=[{**subject, "kind": "User"}])),
            (CLUSTER_ROLE_BINDINGS, named("nobody", subjects=None)),
            (EVENTS, named("pv-1")),
        ]
        if needs.includes(resource, obj)
    ]
    assert chosen == [
        ("persistentvolumes", "pv-1"),
        ("storageclasses", "fast"),
        ("clusterroles", "edit"),
        ("customresourcedefinitions", "widgets.example.com"),
        ("customresourcedefinitions", "volumesnapshots.snapshot.storage.k8s.io"),
        ("clusterrolebindings", "mine"),
    ]


_words = st.text("abc-*?[]!", min_size=1, max_size=4)


@given(st.lists(_words, max_size=4), st.lists(_words, max_size=4), st.lists(_words, max_size=3))
def test_a_selection_of_namespaces_is_never_empty_nor_invented(
    existing: list[str], included: list[str], excluded: list[str]
) -> None:
    selection = select(included_namespaces=included, excluded_namespaces=excluded)
    try:
        found = match_namespaces(existing, selection, never=frozenset({"a"}))
    except InvalidSpec:
        return
    assert found
    assert found == sorted(found)
    assert set(found) <= set(existing) - {"a"}
