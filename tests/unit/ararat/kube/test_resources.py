from __future__ import annotations

import pytest

from ararat.api import Backup
from ararat.kube import of
from ararat.kube import resources as res
from ararat.kube.resources import ResourceType


def test_addresses():
    assert res.PODS.path() == "/api/v1/pods"
    assert res.PODS.path(namespace="web") == "/api/v1/namespaces/web/pods"
    assert res.PODS.path(namespace="web", name="a", subresource="exec") == (
        "/api/v1/namespaces/web/pods/a/exec"
    )
    assert res.NAMESPACES.path(name="web") == "/api/v1/namespaces/web"
    assert res.CLUSTER_ROLES.path(name="system:node") == (
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"
    )
    # A namespace given for a cluster-scoped kind means nothing.
    assert res.PVS.path(namespace="web", name="pv") == "/api/v1/persistentvolumes/pv"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a%2fb", "../secrets/x"])
def test_names_cannot_lead_elsewhere(name: str):
    with pytest.raises(ValueError, match="not a name"):
        res.PODS.path(namespace="web", name=name)
    with pytest.raises(ValueError, match=r"not a name|needs a namespace"):
        res.PODS.path(namespace=name or "/", name="a")


def test_a_namespaced_object_needs_its_namespace():
    with pytest.raises(ValueError, match="pods a needs a namespace"):
        res.PODS.path(name="a")


def test_our_own_kinds():
    rt = of(Backup)
    assert rt.path(namespace="ararat") == "/apis/ararat.dev/v1alpha1/namespaces/ararat/backups"
    assert (rt.api_version, rt.kind, str(rt)) == (
        "ararat.dev/v1alpha1",
        "Backup",
        "backups.ararat.dev",
    )


def test_what_discovery_knows_does_not_make_another_type():
    found = ResourceType("", "v1", "pods", "Pod", verbs=("get",), short_names=("po",))
    assert found == res.PODS
    assert hash(found) == hash(res.PODS)


def test_constants_are_distinct():
    constants = [value for value in vars(res).values() if isinstance(value, ResourceType)]
    assert len(constants) == len(set(constants)) > 25
