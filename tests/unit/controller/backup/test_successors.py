"""Which pod a volume is read through after its pod went away, and who is not waited for."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api.nodejob import ClaimReference, PodReference
from controller.backup.successors import MOST, Nobody, Scene, Through, Wait, successor
from controller.backup.volumes import PlannedVolume

from .samples import EMPTY_DIR, of_claim, planned, pod

DATA = ClaimReference(name="data-0", uid="claim-1")
SET = {"owner_kind": "StatefulSet", "owner_name": "web", "ordinal": "0"}
DEPLOYED = {"owner_kind": "Deployment", "owner_name": "web", "ordinal": ""}


def lost(volume: str = "data", **more: Any) -> PlannedVolume:
    """Of a pod that is gone."""
    values = {"pod": PodReference(namespace="wp", name="web-0", uid="old"), "claim": DATA, **more}
    return planned(volume, **values)


def scratch(**more: Any) -> PlannedVolume:
    return lost("tmp", claim=None, volume_type="emptyDir", **more)


def of_set(**more: Any) -> dict[str, Any]:
    values = {"volumes": {"data": of_claim("data-0"), "tmp": EMPTY_DIR}, **more}
    return pod("web-0", owner=("StatefulSet", "web"), **values)


def deployed(name: str, **more: Any) -> dict[str, Any]:
    labels = {"pod-template-hash": "abc"}
    owner = ("ReplicaSet", "web-abc")
    return pod(name, owner=owner, labels=labels, volumes={"tmp": EMPTY_DIR}, **more)


def replicas(number: int) -> dict[str, Any]:
    return {"spec": {"replicas": number}}


def scene(*pods: dict[str, Any], owner: dict[str, Any] | None = None, **more: Any) -> Scene:
    values: dict[str, Any] = {"planned": frozenset({"old"}), "taken": {}, **more}
    return Scene(pods=pods, owner=owner, **values)


def decide(
    volume: PlannedVolume, found: Scene, *, tried: int = 0, waited: float = 1.0
) -> Through | Wait | Nobody:
    return successor(volume, found, tried=tried, waited=waited, patience=600.0)


def test_a_claim_is_read_through_whoever_mounts_it_under_whatever_name() -> None:
    other = pod("other", volumes={"store": of_claim("data-0")})
    assert decide(lost(), scene(other)) == Through(other, "store")


@pytest.mark.parametrize(
    "there",
    [
        of_set(phase="Pending"),
        of_set(terminating=True),
        of_set(unused=("data", "tmp")),
        pod("web-0", volumes={"data": of_claim("data-1")}, owner=("StatefulSet", "web")),
    ],
    ids=["pending", "terminating", "not mounted", "another claim"],
)
def test_its_owner_gets_the_time_to_make_it_anew(there: dict[str, Any]) -> None:
    volume = lost(**SET)
    assert decide(volume, scene(there, owner=replicas(1))) == Wait()
    late = decide(volume, scene(there, owner=replicas(1)), waited=600.0)
    assert isinstance(late, Nobody)
    assert "within 600 s" in late.why


def test_a_node_with_an_agent_is_preferred() -> None:
    pods = [
        pod(name, node=node, volumes={"data": of_claim("data-0")})
        for name, node in (("a", "n1"), ("b", "n2"))
    ]
    found = decide(lost(), scene(*pods, agent_nodes=frozenset({"n2"})))
    assert found == Through(pods[1], "data")


def test_a_slot_of_a_stateful_set_is_the_pod_of_the_same_name() -> None:
    volume, owner = scratch(**SET), replicas(2)
    new, sibling = of_set(), pod("web-1", owner=("StatefulSet", "web"), volumes={"tmp": EMPTY_DIR})
    assert decide(volume, scene(sibling, owner=owner)) == Wait()
    assert decide(volume, scene(sibling, new, owner=owner)) == Through(new, "tmp")


def test_a_slot_of_a_deployment_is_a_new_pod_that_stands_in_for_no_other() -> None:
    volume, owner = scratch(**DEPLOYED), replicas(3)
    known, new, taken = deployed("web-a"), deployed("web-b"), deployed("web-c")
    uid = {p["metadata"]["name"]: p["metadata"]["uid"] for p in (known, new, taken)}
    there: dict[str, Any] = {
        "planned": frozenset({"old", uid["web-a"]}),
        "taken": {uid["web-c"]: "another"},
        "owner": owner,
    }
    assert decide(volume, scene(known, taken, new, **there)) == Through(new, "tmp")
    assert isinstance(decide(volume, scene(known, taken, deployed("web-d"), **there)), Through)
    # The pod that stands in for it already, for another of its volumes.
    there["taken"] = {uid["web-c"]: "old"}
    assert decide(volume, scene(known, taken, **there)) == Through(taken, "tmp")


@pytest.mark.parametrize(
    ("volume", "found", "why"),
    [
        (lost(), scene(), "nobody makes such a pod anew"),
        (lost(**SET), scene(owner=None), "StatefulSet web is gone"),
        (lost(**SET), scene(owner=replicas(0)), "StatefulSet web was scaled to 0"),
        (
            scratch(**DEPLOYED),
            scene(deployed("a"), owner=replicas(1), planned=frozenset({"uid-wp-a"})),
            "Deployment web wants 1",
        ),
        (
            lost(owner_kind="Job", owner_name="once"),
            scene(owner={"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
            "Job once has ended",
        ),
        (lost(volume_type="hostPath", claim=None, **SET), scene(of_set()), "does not move"),
    ],
)
def test_nobody_is_waited_for_where_nobody_will_come(
    volume: PlannedVolume, found: Scene, why: str
) -> None:
    decision = decide(volume, found)
    assert isinstance(decision, Nobody)
    assert why in decision.why


def test_what_an_operator_wants_is_not_known() -> None:
    volume = lost(owner_kind="Postgres", owner_name="pg")
    assert decide(volume, scene()) == Wait()
    assert isinstance(decide(volume, scene(), waited=601.0), Nobody)


def test_an_end_is_in_sight() -> None:
    decision = decide(lost(**SET), scene(of_set(), owner=replicas(1)), tried=MOST)
    assert isinstance(decision, Nobody)
    assert f"{MOST} further pods" in decision.why
