from __future__ import annotations

from typing import Any

import pytest

from ararat.api.manifest import ManifestVolume
from ararat.api.plan import Action
from controller.restore.existing import Existing
from controller.restore.stored import StoredObject
from tests.unit.controller.restore.make import (
    body,
    claim,
    classes,
    existing,
    live,
    only,
    plan,
    stored,
    volume,
)


def persistent_volume(policy: str = "Retain", handle: str = "disk-1") -> StoredObject:
    return stored(
        "PersistentVolume",
        "pv-old",
        namespace=None,
        spec={
            "persistentVolumeReclaimPolicy": policy,
            "claimRef": {"namespace": "wp", "name": "data-db-0", "uid": "old"},
            "csi": {"driver": "csi.example.org", "volumeHandle": handle},
            "storageClassName": "standard",
        },
    )


def here_in(cluster: str = "cluster-a", **fields: Any) -> Existing:
    return existing(cluster_uid=cluster, **fields)


OTHER_DOOR = {
    "pv-x": {
        "metadata": {"name": "pv-x"},
        "spec": {"csi": {"driver": "csi.example.org", "volumeHandle": "disk-1"}},
    }
}


@pytest.mark.parametrize(
    ("policy", "here", "with_data", "reason"),
    [
        ("Retain", here_in(), False, None),
        ("Retain", here_in("cluster-b"), False, "OtherCluster"),
        ("Delete", here_in(), False, "NotRetained"),
        ("Retain", here_in(volumes=OTHER_DOOR), False, "InUse"),
        ("Retain", here_in(), True, "FilledFromFiles"),
    ],
)
def test_a_volume_comes_back_only_where_it_is_safe(
    policy: str, here: Existing, with_data: bool, reason: str | None
) -> None:
    made = plan(
        claim(),
        persistent_volume(policy),
        volumes=(volume(),) if with_data else (),
        here=here,
    )
    item = only(made, "persistentvolumes")
    assert (item.action, item.reason) == ((Action.SKIP, reason) if reason else (Action.CREATE, ""))
    kept = body(made, "persistentvolumeclaims")["spec"].get("volumeName")
    assert kept == (None if reason else "pv-old")
    empties = [w for w in made.warnings if "comes back empty" in w]
    assert bool(empties) is (reason is not None and not with_data)


def storage_class(name: str, provisioner: str) -> StoredObject:
    return stored(
        "StorageClass",
        name,
        plural="storageclasses",
        namespace=None,
        api_version="storage.k8s.io/v1",
        provisioner=provisioner,
    )


@pytest.mark.parametrize(
    ("provisioner", "comes_back", "used"),
    [("csi.example.org", True, "fast"), ("disk.other-cloud.example", False, "standard")],
)
def test_a_class_comes_back_where_its_driver_is(
    provisioner: str, comes_back: bool, used: str
) -> None:
    made = plan(claim(storage_class="fast"), storage_class("fast", provisioner))
    item = only(made, "storageclasses.storage.k8s.io")
    assert (item.action is Action.CREATE) is comes_back
    assert body(made, "persistentvolumeclaims")["spec"]["storageClassName"] == used


def test_class_mapping() -> None:
    made = plan(
        claim(storage_class="old"),
        here=existing(storage_classes=classes("standard", "fast")),
        storageClassMapping={"old": "fast"},
    )
    assert body(made, "persistentvolumeclaims")["spec"]["storageClassName"] == "fast"


def test_disks_of_others_come_back_only_on_request_and_are_then_kept() -> None:
    here = here_in(cluster="cluster-b")
    objects = (persistent_volume("Delete"), claim())
    assert only(plan(*objects, here=here), "persistentvolumes").reason == "OtherCluster"
    made = plan(*objects, here=here, policy={"reuse": True})
    assert body(made, "persistentvolumes")["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert body(made, "persistentvolumeclaims")["spec"]["volumeName"] == "pv-old"
    (planned,) = made.volumes
    assert (str(planned.data), planned.own_volume) == ("OwnVolume", "pv-old")


@pytest.mark.parametrize(
    ("volumes", "here", "reason"),
    [
        # A second door to a live disk is one in whatever cluster, and on nobody's word.
        ((), here_in(volumes=OTHER_DOOR), "InUse"),
        ((), here_in("cluster-b", volumes=OTHER_DOOR), "InUse"),
        ((volume(),), here_in("cluster-b"), "FilledFromFiles"),
    ],
)
def test_what_no_request_brings_back(
    volumes: tuple[ManifestVolume, ...], here: Existing, reason: str
) -> None:
    objects = (persistent_volume(), claim())
    made = plan(*objects, volumes=volumes, here=here, policy={"reuse": True})
    assert only(made, "persistentvolumes").reason == reason
    assert "volumeName" not in body(made, "persistentvolumeclaims")["spec"]


def test_a_disk_that_cannot_be_told_from_others_and_one_whose_claim_stays_out() -> None:
    unknown = persistent_volume()
    spec = {key: value for key, value in unknown.spec.items() if key != "csi"} | {"flocker": {}}
    unknown = StoredObject(unknown.plural, unknown.group, {**unknown.body, "spec": spec})
    made = plan(unknown, claim(), here=here_in(), policy={"reuse": True})
    assert only(made, "persistentvolumes").reason == "UnknownSource"
    made = plan(persistent_volume(), here=here_in(), policy={"reuse": True})
    assert only(made, "persistentvolumes").reason == "ClaimNotRestored"


def test_a_volume_whose_name_is_another_disk_s_stays_out() -> None:
    other = live(persistent_volume(handle="disk-2"))
    here = here_in(volumes={"pv-old": other})
    made = plan(persistent_volume(), claim(), here=here)
    assert only(made, "persistentvolumes").reason == "NameTaken"
    assert "volumeName" not in body(made, "persistentvolumeclaims")["spec"]
