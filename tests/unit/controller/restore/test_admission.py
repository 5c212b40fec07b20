from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.restore.admission import ALLOWED, Verdict, claims_to_read, mutate, validate
from controller.restore.gate import add_gate
from tests.unit.controller.restore.make import GATE, UID, live_claim, pod_spec

PENDING = live_claim()
READY = live_claim(pending=None)
OTHERS = live_claim(pending="another-restore")


def pod(claims: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    spec = pod_spec(claims=claims or {"data": "data-db-0"})
    return {"metadata": {"generateName": "web-", **metadata}, "spec": spec}


def held(**metadata: Any) -> dict[str, Any]:
    made = pod(**metadata)
    add_gate(made, ["data"], GATE)
    return made


def applied(body: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    made = copy.deepcopy(body)
    for step in verdict.patch:
        assert step["op"] == "add"
        *parents, last = str(step["path"]).strip("/").split("/")
        place = made
        for part in parents:
            place = place[part]
        place[last] = step["value"]
    return made


def test_a_pod_on_a_pending_claim_is_held() -> None:
    verdict = mutate(pod(), {"data-db-0": PENDING}, GATE)
    assert verdict.allowed
    assert applied(pod(), verdict) == held()
    assert validate(held(), {"data-db-0": PENDING}) == ALLOWED


@pytest.mark.parametrize(
    ("body", "claims"),
    [
        (pod(), {"data-db-0": READY}),
        (held(), {"data-db-0": PENDING}),
        (held(), {"data-db-0": READY}),
        ({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}}, {}),
    ],
)
def test_others_pass_as_they_are(body: dict[str, Any], claims: dict[str, Any]) -> None:
    assert mutate(body, claims, GATE) is ALLOWED
    assert validate(body, claims) is ALLOWED


def test_volumes_that_the_restore_itself_waits_for_stay_waited_for() -> None:
    body = pod()
    add_gate(body, ["scratch"], GATE)
    verdict = mutate(body, {"data-db-0": PENDING}, GATE)
    annotations = applied(body, verdict)["metadata"]["annotations"]
    assert annotations["ararat.dev/gate-volumes"] == "data,scratch"


def test_a_copied_pod_with_an_old_gate_gets_the_right_one() -> None:
    body = pod()
    add_gate(body, ["old"], GATE.__class__(image="i", restore="r0", restore_uid="old"))
    made = applied(body, mutate(body, {"data-db-0": PENDING}, GATE))
    assert [c["name"] for c in made["spec"]["initContainers"]] == ["restore-wait"]
    assert made["metadata"]["labels"]["ararat.dev/restore-uid"] == UID
    assert made["metadata"]["annotations"]["ararat.dev/gate-volumes"] == "data"


def test_a_volume_that_no_container_mounts_holds_nobody() -> None:
    body = pod()
    body["spec"]["containers"][0]["volumeMounts"] = []
    assert mutate(body, {"data-db-0": PENDING}, None) is ALLOWED


@pytest.mark.parametrize("decide", [lambda p, c: mutate(p, c, GATE), validate])
@pytest.mark.parametrize(
    ("body", "claims", "words"),
    [
        (
            pod({"a": "one", "b": "two"}),
            {"one": PENDING, "two": OTHERS},
            "several restores",
        ),
        (pod(), {"data-db-0": None}, "does not exist"),
    ],
)
def test_refusals(decide: Any, body: dict[str, Any], claims: dict[str, Any], words: str) -> None:
    verdict = decide(body, claims)
    assert not verdict.allowed
    assert words in verdict.message


def test_a_pod_of_the_restore_may_wait_for_its_claim() -> None:
    assert mutate(held(), {"data-db-0": None}, None) is ALLOWED


def broken(change: Any) -> dict[str, Any]:
    body = held()
    change(body, body["spec"]["initContainers"][0])
    return body


@pytest.mark.parametrize(
    "body",
    [
        pod(),
        broken(lambda _p, gate: gate.update(command=["true"])),
        broken(lambda _p, gate: gate.update(args=[])),
        broken(lambda _p, gate: gate.update(restartPolicy="Always")),
        broken(lambda _p, gate: gate.update(volumeMounts=[])),
        broken(lambda pod, _g: pod["metadata"].pop("labels")),
        broken(lambda pod, _g: pod["metadata"]["annotations"].clear()),
        broken(
            lambda pod, _g: pod["spec"]["initContainers"].insert(
                0,
                {"name": "early", "volumeMounts": [{"name": "data", "mountPath": "/d"}]},
            )
        ),
        broken(
            lambda pod, _g: pod["spec"].update(
                volumes=[v for v in pod["spec"]["volumes"] if v["name"] != "ararat-gate"]
                + [{"name": "ararat-gate", "hostPath": {"path": "/mine"}}]
            )
        ),
    ],
)
def test_pods_that_others_altered_are_refused(body: dict[str, Any]) -> None:
    assert not validate(body, {"data-db-0": PENDING}).allowed


def test_an_init_container_that_sees_nothing_pending_may_stand_first() -> None:
    body = held()
    body["spec"]["initContainers"].insert(0, {"name": "mesh"})
    assert validate(body, {"data-db-0": PENDING}) is ALLOWED


def test_claims_that_must_be_read() -> None:
    assert claims_to_read(pod({"a": "one", "b": "two", "c": "one"})) == ["one", "two"]
