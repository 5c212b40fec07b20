from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.restore.json_patch import CannotPatch
from controller.restore.strategic_merge import strategic_merge

POD = {
    "spec": {
        "containers": [
            {"name": "a", "image": "a:1", "ports": [{"containerPort": 80, "name": "http"}]},
            {"name": "b", "image": "b:1", "env": [{"name": "X", "value": "1"}]},
        ],
        "tolerations": [{"key": "x"}],
        "nodeSelector": {"zone": "a"},
    }
}


def patched(patch: dict[str, Any], *, resource: str = "pods") -> dict[str, Any]:
    before = copy.deepcopy(POD)
    result: dict[str, Any] = strategic_merge(resource, POD, {"spec": patch})["spec"]
    assert before == POD
    return result


def test_items_are_merged_by_their_key() -> None:
    made = patched(
        {"containers": [{"name": "b", "image": "b:2", "env": [{"name": "Y", "value": "2"}]}]}
    )
    assert [c["image"] for c in made["containers"]] == ["a:1", "b:2"]
    assert [e["name"] for e in made["containers"][1]["env"]] == ["X", "Y"]
    port = {"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "UDP"}]}]}
    assert patched(port)["containers"][0]["ports"] == [
        {"containerPort": 80, "name": "http", "protocol": "UDP"}
    ]


def test_new_items_are_added_and_others_removed_on_request() -> None:
    patch = {"containers": [{"name": "c", "image": "c:1"}, {"name": "a", "$patch": "delete"}]}
    assert [c["name"] for c in patched(patch)["containers"]] == ["b", "c"]
    whole = {"containers": [{"$patch": "replace"}, {"name": "c", "image": "c:1"}]}
    assert [c["name"] for c in patched(whole)["containers"]] == ["c"]


def test_lists_without_a_key_and_plain_values_are_replaced() -> None:
    made = patched({"tolerations": [{"key": "y"}], "nodeSelector": {"disk": "ssd"}})
    assert made["tolerations"] == [{"key": "y"}]
    assert made["nodeSelector"] == {"zone": "a", "disk": "ssd"}
    assert "tolerations" not in patched({"tolerations": None})


def test_directives_of_maps() -> None:
    assert patched({"nodeSelector": {"$patch": "replace", "disk": "ssd"}})["nodeSelector"] == {
        "disk": "ssd"
    }
    assert "nodeSelector" not in patched({"nodeSelector": {"$patch": "delete"}})
    assert patched({"nodeSelector": {"$retainKeys": ["disk"], "disk": "ssd"}})["nodeSelector"] == {
        "disk": "ssd"
    }


def test_finalizers_are_a_set() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    added = strategic_merge("configmaps", target, {"metadata": {"finalizers": ["b", "c"]}})
    assert added["metadata"]["finalizers"] == ["a", "b", "c"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge("configmaps", target, patch)["metadata"]["finalizers"] == ["b"]


def test_ports_of_a_service_are_told_apart_by_their_number() -> None:
    service = {"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 443}]}}
    patch = {"spec": {"ports": [{"port": 80, "nodePort": 30080}]}}
    assert strategic_merge("services", service, patch)["spec"]["ports"] == [
        {"port": 80, "name": "http", "nodePort": 30080},
        {"port": 443},
    ]


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"containers": [{"image": "x"}]}, "spec.containers: an item of the patch has no name"),
        ({"nodeSelector": {"$patch": "swap"}}, "$patch: swap"),
        ({"$rename": {}}, "$rename is no directive"),
    ],
)
def test_what_does_not_fit(patch: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotPatch) as failed:
        patched(patch)
    assert said in failed.value.message
