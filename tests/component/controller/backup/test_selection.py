"""What a selection means to a real API server: its own spellings, versions and scopes."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ararat.api.backup import BackupSpec
from ararat.errors import InvalidSpec
from ararat.kube import KubeClient, KubeObject, ResourceType
from ararat.kube.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from controller.backup.collect import Collector, in_order
from controller.backup.plan import scope_of
from controller.backup.selection import match_resources

from .world import eventually

CRDS = ResourceType(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)


class Ground:
    """Namespaces of one test; all names begin with ``name``."""

    def __init__(self, api: KubeClient, path: Path) -> None:
        self.api, self.path = api, path
        self.name = f"sel-{secrets.token_hex(4)}"
        #: Kinds in the order in which they were listed.
        self.listed: list[str] = []

    async def namespace(self, suffix: str, **labels: str) -> str:
        name = f"{self.name}-{suffix}"
        metadata = {"name": name, "labels": labels}
        await self.api.create(NAMESPACES, {"metadata": metadata})
        return name

    async def create(
        self,
        rt: ResourceType,
        name: str,
        namespace: str | None = None,
        labels: dict[str, str] | None = None,
        **content: Any,
    ) -> KubeObject:
        metadata = {"name": name, "labels": labels or {}}
        body = {"apiVersion": rt.api_version, "kind": rt.kind, "metadata": metadata, **content}
        return await self.api.create(rt, body, namespace=namespace)

    async def collected(self, **spec: Any) -> dict[str, KubeObject]:
        """What a backup would hold, by path without ``resources/`` and ``.json``."""
        asked = BackupSpec.model_validate(spec)
        spool = self.path / secrets.token_hex(4)
        spool.mkdir()
        scope = await scope_of(self.api, asked, own=frozenset())
        resources = match_resources((await self.api.discover()).resources, asked)
        collector = Collector(
            self,  # type: ignore[arg-type]
            spool=spool,
            selection=asked,
            namespaces=scope.namespaces,
            across=scope.across,
        )
        self.listed.clear()
        result = await collector.run(in_order(resources, asked.ordered_resources))
        assert result.failures == []
        root = spool / "resources"
        return {
            str(path.relative_to(root).with_suffix("")): json.loads(path.read_text())
            for path in root.rglob("*.json")
        }

    async def names(self, **spec: Any) -> set[str]:
        """The same, without what the server makes in every namespace."""
        found = await self.collected(**spec)
        made = ("secrets/", "serviceaccounts/", "configmaps/namespaces/kube")
        every = {one.replace(f"{self.name}-", "") for one in found if not one.startswith(made)}
        return {one for one in every if not one.endswith("kube-root-ca.crt")}

    def list(self, rt: ResourceType, **options: Any) -> AsyncIterator[KubeObject]:
        self.listed.append(rt.qualified)
        return self.api.list(rt, **options)


@pytest.fixture
def ground(api: KubeClient, tmp_path: Path) -> Ground:
    return Ground(api, tmp_path)


def settings(*names: str) -> set[str]:
    return {f"configmaps/namespaces/{name}" for name in names}


async def test_namespaces_by_globs_and_labels(ground: Ground) -> None:
    optout = {"ararat.dev/exclude-from-backup": "true"}
    for suffix in ("shop", "shop-test", "wiki"):
        await ground.create(CONFIG_MAPS, "a", await ground.namespace(suffix))
    out = await ground.namespace("shop-out", **optout)
    await ground.create(CONFIG_MAPS, "a", out)
    await ground.create(CONFIG_MAPS, "private", f"{ground.name}-wiki", optout)
    only: dict[str, Any] = {"includedResources": ["cm"]}
    shops = [f"{ground.name}-shop*"]
    # One glob; the namespace that opted out is left out with all that is in it.
    expected = settings("shop/a", "shop-test/a")
    assert await ground.names(includedNamespaces=shops, **only) == expected
    tests = [f"{ground.name}-*-test"]
    both = [f"{ground.name}-wiki", *shops]
    assert await ground.names(
        includedNamespaces=both, excludedNamespaces=tests, **only
    ) == settings("shop/a", "wiki/a")
    # Named, it is an error: the backup would hold nothing of it.
    with pytest.raises(InvalidSpec, match="keeps all of it out of backups"):
        await ground.collected(includedNamespaces=[out], **only)


async def test_kinds_as_kubectl_spells_them(ground: Ground) -> None:
    namespace = await ground.namespace("app")
    labels = {"app": "x"}
    container = {"name": "c", "image": "none"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    await ground.create(DEPLOYMENTS, "web", namespace, spec=spec)
    await ground.create(CONFIG_MAPS, "a", namespace)
    within = {"includedNamespaces": [namespace]}
    words = ["deploy", "deployment", "Deployment", "deployments.apps", "deployments.v1.apps"]
    words += ["deploy.apps", "Deployment.v1.apps", "deployments.app"]
    for word in words:
        found = await ground.names(includedResources=[word], **within)
        assert found == {"deployments.apps/namespaces/app/web"}, word
    rest = await ground.names(excludedResources=["deploy", "ns"], **within)
    assert rest == settings("app/a")


async def test_labels_and_their_alternatives(ground: Ground) -> None:
    namespace = await ground.namespace("app")
    for name, labels in {
        "both": {"app": "web", "tier": "front"},
        "web": {"app": "web"},
        "db": {"app": "db"},
        "none": {},
    }.items():
        await ground.create(CONFIG_MAPS, name, namespace, labels)
    within: dict[str, Any] = {"includedNamespaces": [namespace], "includedResources": ["configmap"]}

    def match(**labels: str) -> dict[str, Any]:
        return {"matchLabels": labels}

    every = await ground.names(labelSelector=match(app="web", tier="front"), **within)
    assert every == settings("app/both")
    either = await ground.names(orLabelSelectors=[match(tier="front"), match(app="db")], **within)
    assert either == settings("app/both", "app/db")
    # The server understands it as we do: asked itself, it says the same.
    asked = ground.api.list(CONFIG_MAPS, namespace=namespace, labels="app in (web, db),!tier")
    theirs = {obj["metadata"]["name"] async for obj in asked}
    ours = await ground.names(
        labelSelector={
            "matchExpressions": [
                {"key": "app", "operator": "In", "values": ["web", "db"]},
                {"key": "tier", "operator": "DoesNotExist"},
            ]
        },
        **within,
    )
    assert ours == settings(*(f"app/{name}" for name in theirs)) != set()


async def test_a_kind_is_stored_in_the_version_that_the_server_prefers(ground: Ground) -> None:
    group = f"{ground.name}.example.com"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": anything}
    versions = [
        {"name": name, "served": True, "storage": name == "v1beta1", "schema": schema}
        for name in ("v1alpha1", "v1beta1", "v1")
    ]
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    spec = {"group": group, "names": names, "scope": "Namespaced", "versions": versions}
    await ground.create(CRDS, f"things.{group}", spec=spec)
    things = ResourceType(group, "v1beta1", "things", "Thing", namespaced=True)

    async def served() -> bool:
        found = (await ground.api.discover()).resources
        return any(one.qualified == things.qualified for one in found)

    await eventually(served, what="the kind is served")
    namespace = await ground.namespace("app")
    await ground.create(things, "one", namespace)
    found = await ground.collected(includedNamespaces=[namespace], includedResources=["thing"])
    (stored,) = (obj for path, obj in found.items() if path.startswith("things."))
    assert stored["apiVersion"] == f"{group}/v1"
    # Its definition comes along: it is needed.
    needed = await ground.collected(includedNamespaces=[namespace])
    path = f"customresourcedefinitions.apiextensions.k8s.io/cluster/things.{group}"
    assert path in needed
    await ground.api.delete(CRDS, f"things.{group}")


async def test_objects_outside_namespaces_are_all_none_or_those_that_are_needed(
    ground: Ground,
) -> None:
    namespace = await ground.namespace("app")
    await ground.create(SERVICE_ACCOUNTS, "robot", namespace)
    for name, account in {"ours": "robot", "theirs": "nobody"}.items():
        full = f"{ground.name}-{name}"
        await ground.create(CLUSTER_ROLES, full, rules=[])
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": full}
        subject = {"kind": "ServiceAccount", "namespace": namespace, "name": account}
        await ground.create(CLUSTER_ROLE_BINDINGS, full, roleRef=role, subjects=[subject])
    rbac = "rbac.authorization.k8s.io/cluster"
    ours = {"namespaces/cluster/app", f"clusterroles.{rbac}/ours"}
    ours |= {f"clusterrolebindings.{rbac}/ours"}
    theirs = {f"clusterroles.{rbac}/theirs", f"clusterrolebindings.{rbac}/theirs"}
    within = {"includedNamespaces": [namespace]}
    assert await ground.names(**within) == ours
    assert await ground.names(includeClusterResources=False, **within) == {"namespaces/cluster/app"}
    every = await ground.names(includeClusterResources=True, **within)
    assert every > ours | theirs


async def test_kinds_are_read_in_the_order_that_is_asked_for(ground: Ground) -> None:
    namespace = await ground.namespace("app")
    await ground.create(SECRETS, "token", namespace)
    kinds: Sequence[str] = ["sts", "secrets", "cronjobs", "cm"]
    await ground.collected(includedNamespaces=[namespace], orderedResources=kinds)
    expected = ["pods", "statefulsets.apps", "secrets", "cronjobs.batch", "configmaps"]
    assert ground.listed[: len(expected)] == expected
