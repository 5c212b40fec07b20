"""The plan as it is kept: whole where there is room, and what matters where there is not."""

from __future__ import annotations

import random

import pytest

from ararat.api.plan import Action, PlannedObject, RestorePlan, unpack
from ararat.errors import Damaged


def planned(number: int, **fields: object) -> PlannedObject:
    name = f"{random.Random(number).getrandbits(160):x}"
    return PlannedObject(
        resource="configmaps", namespace="wp", name=name, **{"action": Action.CREATE, **fields}
    )


def test_what_must_be_looked_at_is_kept_when_there_is_no_room() -> None:
    differing = planned(0, action=Action.LEAVE, message="exists", differs=["data.a"])
    skipped = planned(1, action=Action.SKIP, message="had ended")
    many = [planned(number) for number in range(2, 5000)]
    plan = RestorePlan(backup="b", objects=[skipped, *many, differing], warnings=["look"])
    packed = plan.pack(20_000)
    assert len(packed) <= 20_000
    kept = unpack(packed)
    assert kept.objects[0] == skipped
    assert kept.objects[-1] == differing
    assert kept.warnings == ["look"]
    assert 0 < len(kept.objects) < 5000
    assert kept.omitted == {"configmaps": 5000 - len(kept.objects)}
    # What stays is the beginning of the order.
    assert kept.objects[1:-1] == many[: len(kept.objects) - 2]


def test_whole_where_there_is_room() -> None:
    plan = RestorePlan(backup="b", objects=[planned(1)], namespaces={"a": "b"})
    assert unpack(plan.pack()) == plan


def test_a_plan_that_is_none() -> None:
    with pytest.raises(Damaged):
        unpack(b"no plan")
