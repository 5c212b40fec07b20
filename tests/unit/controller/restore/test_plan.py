from __future__ import annotations

from ararat.api.manifest import Coverage
from ararat.api.plan import Action, unpack
from tests.unit.controller.restore.make import (
    UID,
    body,
    claim,
    existing,
    gated,
    live,
    only,
    plan,
    pod,
    stored,
    volume,
)

PENDING = "ararat.dev/restore-pending"


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
    assert [i.described() for i in again.items] == [i.described() for i in first.items]
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


def test_the_document_holds_names_and_no_content() -> None:
    made = plan(pod(claims={"data": "data-db-0"}), claim(), volumes=(volume(),))
    document = made.document(backup="b1", dry_run=True)
    assert [(o.resource, o.path, str(o.action), o.gate) for o in document.objects] == [
        ("namespaces", "wp", "Create", []),
        ("persistentvolumeclaims", "wp/data-db-0", "Create", []),
        ("pods", "wp/db-0", "Create", ["data"]),
    ]
    (data,) = document.volumes
    assert (data.volume, str(data.data), data.bytes, data.size) == (
        "wp/data-db-0",
        "Files",
        1000,
        "1Gi",
    )
    assert unpack(document.pack()) == document


def test_kinds_that_the_plan_brings() -> None:
    widget = stored("Widget", "w", api_version="example.com/v1")
    metric = stored("Metric", "m", api_version="metrics.example.org/v1beta1")
    crd, service = "apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1"
    made = plan(
        stored("CustomResourceDefinition", "widgets.example.com", namespace=None, api_version=crd),
        stored("APIService", "v1beta1.metrics.example.org", namespace=None, api_version=service),
        includeClusterResources=True,
    )
    assert made.brings(widget.type)
    assert not made.brings(metric.type)  # made last of all
    assert not made.brings(stored("Gadget", "g", api_version="example.com/v1").type)
    assert not plan(widget).brings(widget.type)
