from __future__ import annotations

import pytest

from controller.restore.gated import read_pod
from controller.restore.turns import order_of_start, waits_for_turn
from tests.containers import PASSED
from tests.unit.controller.restore.make import held_pod, pod, stored


def _objects(policy: str | None, *names: str):
    spec = {} if policy is None else {"podManagementPolicy": policy}
    pods = [pod(name, owner=("StatefulSet", "web")) for name in names]
    return [stored("StatefulSet", "web", api_version="apps/v1", spec=spec), *pods]


@pytest.mark.parametrize("policy", [None, "OrderedReady"])
def test_each_waits_for_the_one_before_it(policy: str | None) -> None:
    found = order_of_start(_objects(policy, "web-10", "web-2", "web-0"))
    assert found == {("wp", "web-2"): "web-0", ("wp", "web-10"): "web-2"}


def test_nobody_waits_in_parallel_or_for_other_owners() -> None:
    assert order_of_start(_objects("Parallel", "web-0", "web-1")) == {}
    others = [pod(f"web-{n}", owner=("ReplicaSet", "web")) for n in range(2)]
    assert order_of_start([*_objects(None), *others]) == {}


def test_only_a_held_and_scheduled_pod_waits() -> None:
    def turn(**more: object) -> str | None:
        raw = held_pod("web-1", **more)  # type: ignore[arg-type]
        raw["metadata"]["annotations"].update(
            {"ararat.dev/gate-after": "web-0", "ararat.dev/gate-volumes": "data,ararat-turn"}
        )
        found = read_pod(raw)
        assert found is not None
        return waits_for_turn(found)

    assert turn() == "web-0"
    assert turn(node="") is None
    assert turn(gate_state=PASSED) is None
