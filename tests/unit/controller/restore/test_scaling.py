"""Who uses a claim, and whether they can be scaled to zero."""

from __future__ import annotations

from typing import Any

import pytest

from controller.restore.scaling import Workload, scaled_by, use_of

CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "files"}}


def body(
    kind: str, name: str, *, owner: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "wp", "name": name, "uid": f"{kind}-{name}"}
    if owner is not None:
        above = {"kind": owner["kind"], "name": owner["metadata"]["name"]}
        metadata["ownerReferences"] = [
            {**above, "uid": owner["metadata"]["uid"], "controller": True}
        ]
    return {"kind": kind, "metadata": metadata, "spec": spec}


def template(*volumes: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"volumes": list(volumes)}}


DEPLOYMENT = body("Deployment", "web", replicas=2, template=template(CLAIM))
REPLICA_SET = body("ReplicaSet", "web-1", owner=DEPLOYMENT, template=template(CLAIM))
OTHER = body("Deployment", "other", template=template())
ROLLOUT = body("Rollout", "canary")
CANARY = body("ReplicaSet", "canary-1", owner=ROLLOUT, template=template(CLAIM))


def workloads(*bodies: dict[str, Any]) -> list[Workload]:
    resources = {
        "Deployment": "deployments.apps",
        "ReplicaSet": "replicasets.apps",
        "StatefulSet": "statefulsets.apps",
    }
    return [Workload(resources[each["kind"]], each) for each in bodies]


def pod(owner: dict[str, Any] | None, **metadata: Any) -> dict[str, Any]:
    made = body("Pod", "p", owner=owner, volumes=[CLAIM])
    made["metadata"].update(metadata)
    return made


def test_a_deployment_is_scaled_and_not_its_replica_set() -> None:
    found = use_of("files", workloads(DEPLOYMENT, REPLICA_SET, OTHER), [pod(REPLICA_SET)])
    assert [workload.id for workload in found.workloads] == ["Deployment wp/web"]
    assert (found.pods, found.problem) == (("p",), "")


@pytest.mark.parametrize("claim", ["data-db-0", "data-db-11"])
def test_a_stateful_set_uses_what_it_made(claim: str) -> None:
    made = {"metadata": {"name": "data"}}
    found = workloads(body("StatefulSet", "db", volumeClaimTemplates=[made], template=template()))
    assert use_of(claim, found, []).workloads == tuple(found)
    assert found[0].replicas == 1
    for other in ("data-db", "data-db-x", "data-db2-0", "xdata-db-0"):
        assert use_of(other, found, []).workloads == ()


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (None, "belongs to nobody"),
        (body("DaemonSet", "d"), "belongs to DaemonSet d"),
        (body("Job", "j"), "belongs to Job j"),
        (CANARY, "belongs to Rollout canary"),
    ],
)
def test_what_cannot_be_scaled_is_named(owner: dict[str, Any] | None, words: str) -> None:
    known = workloads(DEPLOYMENT, REPLICA_SET, CANARY)
    assert words in use_of("files", known, [pod(owner)]).problem
    # One that is on its way out anyway is only waited for.
    leaving = use_of("files", known, [pod(owner, deletionTimestamp="now")])
    assert (leaving.pods, leaving.problem) == (("p",), "")


def test_our_own_pod_is_nobody() -> None:
    found = use_of("files", [], [pod(None, labels={"ararat.dev/helper": "true"})])
    assert (found.pods, found.problem) == ((), "")


def test_the_mark_on_a_workload() -> None:
    marked = {"metadata": {"annotations": {"ararat.dev/scaled-down": "back 3"}}}
    assert scaled_by(marked) == "back"
    assert scaled_by({"metadata": {}}) == ""
