"""Pods that would be one too many."""

from __future__ import annotations

from typing import Any

import pytest

from controller.restore.existing import Existing
from controller.restore.owners import owner_kinds
from controller.restore.stored import StoredObject
from tests.unit.controller.restore.make import (
    UID,
    claim,
    existing,
    live,
    plan,
    pod,
    stored,
    volume,
)


def replica_set(owner: tuple[str, str] | None = ("Deployment", "web")) -> StoredObject:
    return stored("ReplicaSet", "web-5d", api_version="apps/v1", owner=owner, spec={"replicas": 1})


def here(*owners: StoredObject, **metadata: Any) -> Existing:
    return existing(
        owners={
            (obj.group, obj.kind, str(obj.namespace), obj.name): live(obj, **metadata)
            for obj in owners
        }
    )


def stateful_set(replicas: int, **spec: Any) -> StoredObject:
    return stored("StatefulSet", "db", api_version="apps/v1", spec={"replicas": replicas, **spec})


DEPLOYMENT = stored("Deployment", "web", api_version="apps/v1")
PODS = {"web": pod("web-5d-x", owner=("ReplicaSet", "web-5d")), "db": pod("db-0")}


@pytest.mark.parametrize(
    ("app", "owners", "comes"),
    [
        ("web", (), True),
        ("web", (replica_set(),), False),
        ("web", (DEPLOYMENT,), False),
        ("web", (stored("Deployment", "other", api_version="apps/v1"),), True),
        ("db", (), True),
        ("db", (stateful_set(3),), True),
        ("db", (stateful_set(0),), False),
        ("db", (stateful_set(3, ordinals={"start": 1}),), False),
    ],
)
def test_a_pod_is_left_to_an_owner_that_exists(
    app: str, owners: tuple[StoredObject, ...], comes: bool
) -> None:
    made = plan(PODS[app], replica_set(), here=here(*owners))
    item = next(item for item in made.items if item.resource == "pods")
    assert (item.body is not None) is comes
    if not comes:
        assert item.reason == "OwnerExists"
        assert "exists and makes its own" in item.message


def test_the_replica_set_of_a_deployment_that_exists_stays_out_too() -> None:
    made = plan(replica_set(), here=here(DEPLOYMENT))
    assert [item.reason for item in made.items if item.resource == "replicasets.apps"] == [
        "OwnerExists"
    ]


def test_owners_that_this_restore_made_are_no_obstacle() -> None:
    made = plan(
        PODS["web"], replica_set(), here=here(DEPLOYMENT, labels={"ararat.dev/restore-uid": UID})
    )
    assert all(item.body is not None for item in made.items)


def test_owners_are_looked_for_where_the_objects_go() -> None:
    mapped = plan(PODS["web"], here=here(DEPLOYMENT), namespaceMapping={"wp": "copy"})
    assert all(item.body is not None for item in mapped.items)


def test_its_claim_still_comes_back_and_what_lived_with_the_pod_is_named() -> None:
    held = pod(
        "web-5d-x", owner=("ReplicaSet", "web-5d"), claims={"data": "data"}, empty=("cache",)
    )
    cache = volume("web-5d-x", "cache", claim_name=None)
    made = plan(
        held,
        claim("data"),
        volumes=(volume("web-5d-x", claim_name="data"), cache),
        here=here(replica_set()),
    )
    created = next(item for item in made.items if item.resource == "persistentvolumeclaims")
    assert created.body is not None
    assert "ararat.dev/restore-pending" in created.body["metadata"]["annotations"]
    assert len(made.warnings) == 1
    assert "volumes cache were not restored" in made.warnings[0]
    assert "--volumes in-place" in made.warnings[0]


def test_kinds_to_look_for() -> None:
    assert owner_kinds([PODS["web"], PODS["db"], replica_set(), DEPLOYMENT]) == {
        ("apps", "ReplicaSet"),
        ("apps", "StatefulSet"),
        ("apps", "Deployment"),
    }
