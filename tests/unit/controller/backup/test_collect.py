from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.api.backup import Failure, Selection
from ararat.api.selector import LabelSelector
from ararat.errors import Retryable
from ararat.kube.errors import ApiUnavailable, Forbidden, Invalid
from ararat.kube.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    PVCS,
    PVS,
    SECRETS,
    SERVICE_ACCOUNTS,
    ResourceType,
)
from controller.backup import collect
from controller.backup.collect import Collected, Collector, file_name, in_order

from .samples import of_claim

LISTED = [
    NAMESPACES,
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
    PVS,
    CONFIG_MAPS,
    PVCS,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    DEPLOYMENTS,
]


class Lists:
    """An API that can do nothing but list."""

    def __init__(self, objects: dict[ResourceType, list[dict[str, Any]]]) -> None:
        self.objects = objects
        self.asked: list[tuple[str, str | None]] = []
        #: Raised, one each, in the middle of listing a kind.
        self.errors: dict[str, list[Exception]] = {}

    async def list(
        self, rt: ResourceType, *, namespace: str | None = None, page: int
    ) -> AsyncIterator[dict[str, Any]]:
        self.asked.append((rt.qualified, namespace))
        assert page <= (50 if rt == SECRETS else 500)
        for n, obj in enumerate(self.objects.get(rt, [])):
            if n == 1 and self.errors.get(rt.qualified):
                raise self.errors[rt.qualified].pop(0)
            if namespace in (None, obj["metadata"].get("namespace")):
                yield json.loads(json.dumps(obj))


def obj(name: str, namespace: str | None = None, **more: Any) -> dict[str, Any]:
    labels = more.pop("labels", {})
    metadata = {"name": name, "labels": labels, "managedFields": ["long"], **more.pop("meta", {})}
    if namespace:
        metadata["namespace"] = namespace
    return {"metadata": metadata, **more}


async def run(
    api: Lists,
    spool: Path,
    *,
    selection: Selection | None = None,
    namespaces: Sequence[str] = ("wp",),
    across: bool = False,
    store: Callable[[], Awaitable[None]] | None = None,
    part_bytes: int = 0,
) -> Collected:
    collector = Collector(
        api,  # type: ignore[arg-type]
        spool=spool,
        selection=selection or Selection(),
        namespaces=namespaces,
        across=across,
        store=store,
        part_bytes=part_bytes,
    )
    return await collector.run(in_order(LISTED))


def tree(spool: Path) -> set[str]:
    return {
        str(path.relative_to(spool / "resources")) for path in spool.rglob("*") if path.is_file()
    }


@pytest.fixture
def cluster() -> Lists:
    subject = {"kind": "ServiceAccount", "namespace": "wp", "name": "web"}
    return Lists(
        {
            NAMESPACES: [obj("wp"), obj("shop")],
            CONFIG_MAPS: [obj("a", "wp"), obj("b", "wp"), obj("c", "shop")],
            SECRETS: [obj("s", "wp", data={"password": "aGVtbGln"})],
            SERVICE_ACCOUNTS: [obj("web", "wp")],
            PODS: [obj("web-0", "wp", spec={"volumes": [{"name": "d", **of_claim("data")}]})],
            PVCS: [
                obj("data", "wp", spec={"volumeName": "pv-1"}),
                obj("other", "wp", spec={"volumeName": "pv-2"}),
            ],
            PVS: [obj("pv-1"), obj("pv-2"), obj("pv-3")],
            CLUSTER_ROLE_BINDINGS: [
                obj("b", subjects=[subject], roleRef={"kind": "ClusterRole", "name": "r"}),
                obj("x", subjects=[], roleRef={"kind": "ClusterRole", "name": "x"}),
            ],
            CLUSTER_ROLES: [obj("r"), obj("x")],
        }
    )


NAMESPACED = {
    "configmaps/namespaces/wp/a.json",
    "configmaps/namespaces/wp/b.json",
    "persistentvolumeclaims/namespaces/wp/data.json",
    "persistentvolumeclaims/namespaces/wp/other.json",
    "pods/namespaces/wp/web-0.json",
    "secrets/namespaces/wp/s.json",
    "serviceaccounts/namespaces/wp/web.json",
    "namespaces/cluster/wp.json",
}
NEEDED = {
    "persistentvolumes/cluster/pv-1.json",
    "persistentvolumes/cluster/pv-2.json",
    "clusterrolebindings.rbac.authorization.k8s.io/cluster/b.json",
    "clusterroles.rbac.authorization.k8s.io/cluster/r.json",
}
ALL_CLUSTER = NEEDED | {
    "persistentvolumes/cluster/pv-3.json",
    "clusterrolebindings.rbac.authorization.k8s.io/cluster/x.json",
    "clusterroles.rbac.authorization.k8s.io/cluster/x.json",
}


@pytest.mark.parametrize(
    ("cluster_resources", "expected"),
    [(None, NAMESPACED | NEEDED), (False, NAMESPACED), (True, NAMESPACED | ALL_CLUSTER)],
)
async def test_which_objects_are_stored(
    cluster: Lists, tmp_path: Path, cluster_resources: bool | None, expected: set[str]
) -> None:
    selection = Selection(include_cluster_resources=cluster_resources)
    assert await run(cluster, tmp_path, selection=selection) == Collected(count=len(expected))
    assert tree(tmp_path) == expected


async def test_an_object_is_stored_as_served_and_says_what_it_is(
    cluster: Lists, tmp_path: Path
) -> None:
    await run(cluster, tmp_path)
    stored = json.loads((tmp_path / "resources/secrets/namespaces/wp/s.json").read_text())
    assert stored == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "wp", "labels": {}},
        "data": {"password": "aGVtbGln"},
    }


@pytest.mark.parametrize(("across", "scopes"), [(False, ["a", "b"]), (True, [None])])
async def test_all_namespaces_are_listed_in_one_go(
    cluster: Lists, tmp_path: Path, across: bool, scopes: list[str | None]
) -> None:
    await run(cluster, tmp_path, namespaces=["b", "a"], across=across)
    assert [scope for kind, scope in cluster.asked if kind == "secrets"] == scopes


async def test_with_labels_the_namespace_and_the_claims_of_chosen_pods_come_along(
    tmp_path: Path,
) -> None:
    chosen, volumes = {"app": "web"}, [{"name": "d", **of_claim("data")}]
    api = Lists(
        {
            NAMESPACES: [obj("wp")],
            PODS: [
                obj("web-0", "wp", labels=chosen, spec={"volumes": volumes}),
                obj("db-0", "wp", spec={"volumes": [{"name": "d", **of_claim("db")}]}),
            ],
            PVCS: [obj("data", "wp"), obj("db", "wp"), obj("labelled", "wp", labels=chosen)],
        }
    )
    selection = Selection(label_selector=LabelSelector(match_labels=chosen))
    await run(api, tmp_path, selection=selection)
    assert tree(tmp_path) == {
        "namespaces/cluster/wp.json",
        "pods/namespaces/wp/web-0.json",
        "persistentvolumeclaims/namespaces/wp/data.json",
        "persistentvolumeclaims/namespaces/wp/labelled.json",
    }


@pytest.mark.parametrize("every", [None, True])
async def test_what_is_opted_out_or_terminating_is_in_no_backup(
    tmp_path: Path, every: bool | None
) -> None:
    out = {"ararat.dev/exclude-from-backup": "true"}
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    volumes = [{"name": "d", **of_claim("kept")}, {"name": "e", **of_claim("out")}]
    api = Lists(
        {
            NAMESPACES: [obj("wp", labels=out)],
            CONFIG_MAPS: [obj("a", "wp", labels=out), obj("b", "wp", meta=gone)],
            PODS: [obj("web-0", "wp", spec={"volumes": volumes})],
            PVCS: [
                obj("kept", "wp", spec={"volumeName": "pv-out"}),
                obj("out", "wp", labels=out, spec={"volumeName": "pv-gone"}),
            ],
            PVS: [obj("pv-out", labels=out), obj("pv-gone", meta=gone)],
        }
    )
    await run(api, tmp_path, selection=Selection(include_cluster_resources=every))
    assert tree(tmp_path) == {
        "pods/namespaces/wp/web-0.json",
        "persistentvolumeclaims/namespaces/wp/kept.json",
    }


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "_PAUSES", (0.0, 0.0))


@pytest.mark.usefixtures("no_pauses")
async def test_a_listing_that_breaks_off_is_done_again(cluster: Lists, tmp_path: Path) -> None:
    cluster.errors["configmaps"] = [ApiUnavailable("away"), ApiUnavailable("away")]
    assert await run(cluster, tmp_path) == Collected(count=len(NAMESPACED | NEEDED))
    assert tree(tmp_path) == NAMESPACED | NEEDED


def not_allowed() -> Invalid:
    error = Invalid("no listing")
    error.status = 405
    return error


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("errors", "failures", "warnings"),
    [
        (
            [ApiUnavailable("away")] * 3,
            [Failure(object="configmaps", reason="ApiUnavailable", message="away")],
            [],
        ),
        (
            [Forbidden("no")],
            [Failure(object="configmaps", reason="Forbidden", message="no")],
            [],
        ),
        ([not_allowed()], [], ["configmaps: cannot be listed (no listing)"]),
    ],
)
async def test_a_kind_that_cannot_be_listed_is_named_and_costs_nothing_else(
    cluster: Lists,
    tmp_path: Path,
    errors: list[Exception],
    failures: list[Failure],
    warnings: list[str],
) -> None:
    cluster.errors["configmaps"] = errors
    found = await run(cluster, tmp_path)
    assert (found.failures, found.warnings) == (failures, warnings)
    assert tree(tmp_path) >= (NAMESPACED | NEEDED) - {"configmaps/namespaces/wp/b.json"}


async def test_many_objects_are_stored_in_parts_and_none_twice(
    cluster: Lists, tmp_path: Path
) -> None:
    parts: list[set[str]] = []

    async def store() -> None:
        parts.append(tree(tmp_path))

    found = await run(cluster, tmp_path, store=store, part_bytes=3 * 5120)
    parts.append(tree(tmp_path))
    assert found.count == len(NAMESPACED | NEEDED)
    assert [len(part) for part in parts] == [3, 3, 3, 3, 0]
    assert set().union(*parts) == NAMESPACED | NEEDED
    assert sum(map(len, parts)) == len(NAMESPACED | NEEDED)


@pytest.mark.usefixtures("no_pauses")
async def test_a_part_that_cannot_be_stored_is_no_fault_of_the_kind(
    cluster: Lists, tmp_path: Path
) -> None:
    async def store() -> None:
        raise Retryable("the store is away", reason="StoreUnreachable")

    with pytest.raises(Retryable, match="the store is away"):
        await run(cluster, tmp_path, store=store, part_bytes=1)


def test_what_names_needs_comes_before_what_is_needed() -> None:
    assert [r.plural for r in in_order(LISTED)] == [
        "pods",
        "configmaps",
        "persistentvolumeclaims",
        "secrets",
        "serviceaccounts",
        "deployments",
        "clusterrolebindings",
        "namespaces",
        "clusterroles",
        "persistentvolumes",
    ]


def test_wishes_are_met_where_nothing_speaks_against_them() -> None:
    wishes = [
        "persistentvolumes",
        "deployments.apps",
        "secrets",
        "persistentvolumeclaims",
        "no-such-kind",
    ]
    assert [r.plural for r in in_order(LISTED, wishes)] == [
        "pods",
        "deployments",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "serviceaccounts",
        "clusterrolebindings",
        "persistentvolumes",
        "namespaces",
        "clusterroles",
    ]


#: What may be the name of some object: RBAC takes anything but "/" and "%".
_object_names = st.text(min_size=1, max_size=253).filter(
    lambda n: "/" not in n and "%" not in n and "\0" not in n and n.isprintable()
)


@given(_object_names, _object_names)
def test_file_names_fit_and_do_not_collide(one: str, two: str) -> None:
    for name in (one, two):
        file = f"{file_name(name)}.json"
        assert len(file.encode()) <= 255
        assert file == Path(file).name
    assert (file_name(one) == file_name(two)) == (one == two)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("system:node", "system:node"),
        ("a" * 200, "a" * 200),
        ("a" * 201, "a" * 200 + "~"),
        ("ä" * 120, "ä" * 100 + "~"),
        (".", ".~"),
        ("..", "..~"),
    ],
)
def test_file_names(name: str, expected: str) -> None:
    assert file_name(name).startswith(expected)
    assert len(file_name(name)) == len(expected) + (10 if expected.endswith("~") else 0)
