"""What a restore owes by name, and what that means for a claim that is not there."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api.nodejob import Answer, JobPhase, Role
from ararat.api.plan import Action, ClaimData, PlannedObject, PlannedVolume, RestorePlan
from ararat.api.restore import ReleaseAction
from controller.restore.data import index
from controller.restore.gated import read_pods
from controller.restore.helpers import is_lonely
from controller.restore.jobs import decide, find_strays
from controller.restore.owed import planned_claims, still_owed
from controller.restore.progress import sum_volumes
from controller.restore.units import Unit, find_units
from controller.restore.waiting import why_waiting
from tests.unit.controller.restore.make import (
    NOW,
    UID,
    held_pod,
    job,
    live_claim,
    manifest,
    restore,
    volume,
)

_CLAIM = "wp/data-db-0"


def planned(name: str, data: ClaimData, **claim: Any) -> RestorePlan:
    objects = [
        PlannedObject(
            resource="persistentvolumeclaims",
            namespace="wp",
            name=name.partition("/")[2],
            **{"action": Action.CREATE, **claim},
        )
    ]
    return RestorePlan(objects=objects, volumes=[PlannedVolume(volume=name, data=data)])


@pytest.mark.parametrize(
    ("plan", "owed"),
    [
        (planned(_CLAIM, ClaimData.FILES), True),
        (planned(_CLAIM, ClaimData.FILES, outcome="Created"), True),
        (planned(_CLAIM, ClaimData.MISSING), True),
        (planned(_CLAIM, ClaimData.EMPTY), False),
        (planned(_CLAIM, ClaimData.OWN_VOLUME), False),
        (planned(_CLAIM, ClaimData.FILES, outcome="LeftAlone"), False),
        (planned(_CLAIM, ClaimData.FILES, outcome="Failed"), False),
        (planned(_CLAIM, ClaimData.FILES, action=Action.SKIP), False),
        (planned("wp/db-0/scratch", ClaimData.FILES), False),
        # Objects that did not find room in the stored plan were simply created.
        (RestorePlan(volumes=[PlannedVolume(volume=_CLAIM, data=ClaimData.FILES)]), True),
    ],
)
def test_what_the_plan_owes(plan: RestorePlan, *, owed: bool) -> None:
    assert planned_claims(plan) == ({_CLAIM} if owed else set())


def test_what_was_filled_once_is_owed_no_more() -> None:
    owed = frozenset({_CLAIM})
    assert still_owed(owed, [job("j1", phase=JobPhase.IN_PROGRESS)]) == owed
    assert still_owed(owed, [job("j1", phase=JobPhase.COMPLETED, role=Role.FOLLOW)]) == owed
    told = job("j1", phase=JobPhase.COMPLETED, role=Role.ANSWER, answer=Answer.FAILED)
    assert still_owed(owed, [told]) == owed
    other = job("j1", phase=JobPhase.COMPLETED, claim_name="other")
    assert still_owed(owed, [other]) == owed
    # Whatever UID the claim had then.
    assert still_owed(owed, [job("j1", phase=JobPhase.COMPLETED, claim_uid="gone")]) == set()


def without_claim(
    *pods: dict[str, Any], jobs: tuple[Any, ...] = (), released: tuple[Any, ...] = ()
) -> Unit:
    (unit,) = find_units(
        restore_uid=UID,
        claims=[],
        pods=read_pods(pods, UID),
        jobs=jobs,
        data=index(manifest(volume())),
        sources={"wp": "wp"},
        released=released,
        owed=frozenset({_CLAIM}),
    )
    return unit


def test_nothing_is_written_while_the_claim_is_not_there() -> None:
    unit = without_claim(held_pod())
    assert unit.gone
    assert [holder.pod.name for holder in unit.holders] == ["db-0"]
    decision = decide([unit], restore=restore(), retry=True)
    assert (decision.create, decision.release, decision.let_go) == ([], [], [])
    assert not is_lonely(without_claim())
    volumes = sum_volumes([unit], restore=restore(), overdue={})
    assert volumes.open == (_CLAIM,)
    cause = why_waiting(unit, agents={"node-1": True}, now=NOW)
    assert cause is not None
    assert (cause.object, cause.reason) == (_CLAIM, "ClaimGone")


def test_a_claim_that_is_there_again_is_a_unit_of_its_own() -> None:
    first = job("j1", claim_uid="gone", phase=JobPhase.IN_PROGRESS, wrote=True)
    (unit,) = find_units(
        restore_uid=UID,
        claims=[live_claim(uid="new")],
        pods=read_pods([held_pod()], UID),
        jobs=[first],
        data=index(manifest(volume())),
        sources={"wp": "wp"},
        owed=frozenset({_CLAIM}),
    )
    assert not unit.gone
    assert unit.jobs == ()
    strays = find_strays([unit], [first])
    assert strays == [first]
    waits = decide([unit], restore=restore(), strays=strays)
    assert waits.abandon == []
    lost = decide([unit], restore=restore(), strays=strays, gone_nodes=frozenset({"node-1"}))
    assert lost.abandon == [first]


def test_a_claim_that_is_not_there_can_be_given_up() -> None:
    policy = restore(released=[{"volume": _CLAIM, "action": "Start"}])
    unit = without_claim(released=tuple(policy.spec.released))
    assert (unit.word, unit.let_go) == (ReleaseAction.START, True)
    assert decide([unit], restore=policy).let_go == []
    volumes = sum_volumes([unit], restore=policy, overdue={})
    assert volumes.settled
    assert [failure.reason for failure in volumes.failures] == ["Released"]
