from __future__ import annotations

import base64

import pytest

from ararat import keys
from ararat.cli import checks, keyring, objects, remote, version
from ararat.errors import InvalidSpec, NotFound
from tests.unit.ararat.cli.builders import NOW, available, backup, location

NAMES = ["default", "kube-system", "wp", "wp-test"]


def test_choose_location():
    both = [available("a", default=True), available("b")]
    assert checks.choose_location(both, None).name == "a"
    assert checks.choose_location(both, "b").name == "b"


@pytest.mark.parametrize(
    ("there", "name", "said"),
    [
        ([], None, r"there is no backup location yet: make one with 'ararat location create -n x'"),
        ([], "a", "there is no backup location yet"),
        ([available("a")], "b", r"there is no location 'b' \(there is a\)"),
        (
            [available("a"), available("c")],
            None,
            r"no location is the default one: .*there are a, c",
        ),
        (
            [available("a", default=True), available("c", default=True)],
            None,
            "2 locations are the default one",
        ),
    ],
)
def test_choose_location_refuses(there, name, said):
    with pytest.raises((NotFound, InvalidSpec), match=said):
        checks.choose_location(there, name, flags=" -n x")


def test_unavailable_location_says_why():
    with pytest.raises(
        InvalidSpec, match="location default is Unavailable: container c is missing"
    ):
        checks.check_available(location(phase="Unavailable", message="container c is missing"))
    with pytest.raises(
        InvalidSpec, match="was not looked at yet: wait until 'ararat location get'"
    ):
        checks.check_available(location())
    checks.check_available(available())


@pytest.mark.parametrize(
    ("included", "excluded"), [(["wp"], []), (["wp*"], ["wp-test"]), (["*"], ["kube-*"])]
)
def test_patterns_that_match(included, excluded):
    checks.check_patterns(NAMES, included, excluded)


@pytest.mark.parametrize(
    ("included", "excluded", "said"),
    [
        (["wpp"], [], "no namespace matches 'wpp'; did you mean 'wp'"),
        (["wp", "shop-*"], [], "no namespace matches 'shop-[*]'$"),
        (["wp"], ["w*"], "every namespace that is included is excluded as well"),
    ],
)
def test_patterns_that_select_nothing(included, excluded, said):
    with pytest.raises(InvalidSpec, match=said):
        checks.check_patterns(NAMES, included, excluded)


def test_taken_name():
    said = objects.taken("backup", backup(phase="Completed"), NOW)
    assert said == (
        "there is a backup 'mybackup' already (Completed, made 2m ago): choose another name"
    )


def test_objects_are_sent_without_what_was_not_said():
    assert objects.to_send(backup(spec={"includedNamespaces": ["wp"]}))["spec"] == {
        "includedNamespaces": ["wp"],
        "volumes": {"defaultPolicy": "OptIn", "unmounted": "Skip", "excludeCaches": True},
        "deadlines": {"noProgressSeconds": 900},
        "hooks": {"maxFreezeSeconds": 600},
        "pinned": False,
        "cancel": False,
    }


def pod(name, phase="Running", *, ready=False, deleted=False):
    metadata = {"name": name}
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-22T21:28:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


@pytest.mark.parametrize(
    ("pods", "chosen"),
    [
        ([], None),
        ([pod("a", "Pending")], None),
        ([pod("a", deleted=True, ready=True)], None),
        ([pod("a"), pod("b", ready=True)], "b"),
        ([pod("b"), pod("a")], "a"),
    ],
)
def test_choose_pod(pods, chosen):
    assert remote.choose_pod(pods) == chosen


def secret(text: str) -> dict[str, object]:
    return {"data": {"key": base64.b64encode(text.encode()).decode()}}


def test_master_of():
    master = keys.new_master_key()
    assert keyring.master_of(secret(master.hex())) == master


@pytest.mark.parametrize("broken", [{}, {"data": None}, {"data": {"key": "%"}}, secret("abcdef")])
def test_master_of_never_shows_what_it_found(broken):
    with pytest.raises(InvalidSpec) as caught:
        keyring.master_of(broken)
    assert "abcdef" not in caught.value.message


def test_owned_locations():
    there = [location("b", owner="me"), location("a", owner="me"), location("c", owner="you")]
    assert keyring.owned(there, "me") == ["a", "b"]
    assert keyring.owned(there, "nobody") == []


def deployment(image: str, **labels: str) -> dict[str, object]:
    template = {"spec": {"containers": [{"image": image}]}}
    return {"metadata": {"labels": labels}, "spec": {"template": template}}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], "not installed"),
        ([deployment("x/controller:2", **{"app.kubernetes.io/version": "1.2"})], "1.2"),
        ([deployment("registry:5000/x/controller:2")], "2"),
        ([deployment("x/controller@sha256:abc")], "sha256:abc"),
        ([deployment("x/controller")], "unknown"),
    ],
)
def test_controller_version(there, expected):
    assert version.controller_version(there) == expected
