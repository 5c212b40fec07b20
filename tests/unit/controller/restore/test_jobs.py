"""What becomes of node jobs, in every situation that pods can get into."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ararat.api import PodVolumeRestore
from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.nodejob import Answer, JobPhase, RepositoryReference, Role
from controller.restore.data import index
from controller.restore.gated import read_pods
from controller.restore.jobs import Decision, build_job, decide
from controller.restore.units import Unit, find_units
from tests.containers import NEVER_STARTED, PASSED
from tests.unit.controller.restore.make import (
    DIRECTORY,
    NOW,
    UID,
    held_pod,
    job,
    live_claim,
    manifest,
    restore,
    volume,
)

LATER = NOW + timedelta(minutes=1)


def units(
    pods: list[dict[str, Any]],
    jobs: list[PodVolumeRestore] | None = None,
    *,
    claims: list[dict[str, Any]] | None = None,
    volumes: tuple[ManifestVolume, ...] = (),
) -> list[Unit]:
    return find_units(
        restore_uid=UID,
        claims=[live_claim()] if claims is None else claims,
        pods=read_pods(pods, UID),
        jobs=jobs or [],
        data=index(manifest(*(volumes or (volume(),)))),
        sources={"wp": "wp"},
    )


def decided(
    pods: list[dict[str, Any]], jobs: list[PodVolumeRestore] | None = None, **more: Any
) -> Decision:
    nodes = {key: more.pop(key) for key in ("gone_nodes", "agentless") if key in more}
    return decide(units(pods, jobs, **more), restore=restore(), **nodes)


def shown(decision: Decision) -> dict[str, list[Any]]:
    """Only what is to be done, in few words."""
    words: dict[str, list[Any]] = {
        "create": [
            (p.holder.pod.name, p.role.value, p.follows is not None) for p in decision.create
        ],
        "cancel": [j.name for j in decision.cancel],
        "let go": [u.id for u in decision.let_go],
        "abandon": [j.name for j in decision.abandon],
        "release": [u.id for u in decision.release],
    }
    return {key: value for key, value in words.items() if value}


FIRST = held_pod("web-1", created="2026-11-22T11:58:00Z")
SECOND = held_pod("web-2", created="2026-11-22T11:59:00Z", node="node-2")
UNSCHEDULED = held_pod("web-0", created="2026-11-22T11:57:00Z", node="")


@pytest.mark.parametrize(
    ("pods", "jobs", "expected"),
    [
        pytest.param([], [], {}, id="no pod yet"),
        pytest.param([UNSCHEDULED], [], {}, id="pod not scheduled"),
        pytest.param([FIRST], [], {"create": [("web-1", "Fill", False)]}, id="first"),
        pytest.param(
            [SECOND, FIRST],
            [],
            {"create": [("web-1", "Fill", False), ("web-2", "Follow", True)]},
            id="oldest fills, others follow",
        ),
        pytest.param(
            [UNSCHEDULED, FIRST],
            [],
            {"create": [("web-1", "Fill", False)]},
            id="oldest scheduled fills",
        ),
        pytest.param(
            [FIRST],
            [job("j1", pod_name="web-1", phase=JobPhase.IN_PROGRESS)],
            {},
            id="under way",
        ),
        pytest.param(
            [FIRST, SECOND],
            [job("j1", pod_name="web-1", phase=JobPhase.IN_PROGRESS)],
            {"create": [("web-2", "Follow", True)]},
            id="joined while under way",
        ),
        pytest.param(
            [FIRST],
            [job("j1", pod_name="web-1", phase=JobPhase.COMPLETED)],
            {"release": ["wp/data-db-0"]},
            id="filled",
        ),
        pytest.param(
            [SECOND],
            [job("j1", pod_name="web-1", phase=JobPhase.COMPLETED)],
            {"create": [("web-2", "Follow", True)], "release": ["wp/data-db-0"]},
            id="replaced after it was filled: only answered",
        ),
        pytest.param(
            [FIRST],
            [job("j1", pod_name="web-1", phase=JobPhase.FAILED)],
            {},
            id="failed for good",
        ),
        pytest.param(
            [FIRST, SECOND],
            [job("j1", pod_name="web-1", phase=JobPhase.FAILED)],
            {},
            id="failed for good, with others waiting",
        ),
        pytest.param(
            [SECOND],
            [job("j1", pod_name="web-1", phase=JobPhase.IN_PROGRESS)],
            {"create": [("web-2", "Follow", True)]},
            id="pod gone, its agent has not let go: never two writers",
        ),
        pytest.param(
            [SECOND],
            [job("j1", pod_name="web-1", phase=JobPhase.FAILED, reason="PodTerminating")],
            {"create": [("web-2", "Fill", False)]},
            id="pod replaced before a byte was written",
        ),
        pytest.param(
            [SECOND],
            [job("j1", pod_name="web-1", phase=JobPhase.FAILED, wrote=True)],
            {"create": [("web-2", "Fill", False)]},
            id="pod replaced in the middle",
        ),
        pytest.param(
            [SECOND],
            [
                job("j1", pod_name="web-1", phase=JobPhase.FAILED),
                job("j2", pod_name="web-2", role=Role.FOLLOW, follows="j1", created=LATER),
            ],
            {},
            id="a follower that has not ended yet is waited for",
        ),
        pytest.param(
            [SECOND],
            [
                job("j1", pod_name="web-1", phase=JobPhase.FAILED),
                job(
                    "j2",
                    pod_name="web-2",
                    role=Role.FOLLOW,
                    follows="j1",
                    phase=JobPhase.FAILED,
                    created=LATER,
                ),
            ],
            {"create": [("web-2", "Fill", False)]},
            id="a follower becomes the one that fills",
        ),
        pytest.param(
            [FIRST, SECOND],
            [
                job("j0", pod_name="gone", phase=JobPhase.FAILED),
                job(
                    "j1",
                    pod_name="web-1",
                    role=Role.FOLLOW,
                    follows="j0",
                    phase=JobPhase.FAILED,
                ),
                job("j2", pod_name="web-2", phase=JobPhase.COMPLETED, created=LATER),
            ],
            {"create": [("web-1", "Follow", True)], "release": ["wp/data-db-0"]},
            id="an answer that is no longer true is given anew",
        ),
        pytest.param(
            [FIRST],
            [job("j1", pod_name="web-1", claim_uid="another", phase=JobPhase.COMPLETED)],
            {"create": [("web-1", "Fill", False)]},
            id="the claim was deleted and made again",
        ),
        pytest.param(
            [held_pod("web-1", deleted=True)], [], {}, id="a pod on its way out gets nothing"
        ),
        pytest.param(
            [held_pod("web-1", gate_state=PASSED)],
            [],
            {},
            id="a pod whose gate is open gets nothing",
        ),
        pytest.param(
            [held_pod("web-1", gate_state=NEVER_STARTED)],
            [],
            {"create": [("web-1", "Fill", False)]},
            id="a gate that never started is not open, whatever its exit code",
        ),
    ],
)
def test_decisions(
    pods: list[dict[str, Any]], jobs: list[PodVolumeRestore], expected: dict[str, Any]
) -> None:
    assert shown(decided(pods, jobs)) == expected


def test_a_fill_on_a_node_that_is_gone_is_abandoned_then_made_again() -> None:
    running = job("j1", pod_name="web-1", phase=JobPhase.IN_PROGRESS, wrote=True)
    lost = decided([SECOND], [running], gone_nodes=frozenset({"node-1"}))
    assert shown(lost) == {"abandon": ["j1"]}
    ended = job("j1", pod_name="web-1", phase=JobPhase.CANCELLED, wrote=True)
    again = decided([SECOND], [ended])
    assert shown(again) == {"create": [("web-2", "Fill", False)]}
    assert again.create[0].takes_over == "j1"


def test_a_job_never_begun_on_a_node_without_agent_is_abandoned() -> None:
    waiting = [job("j1", pod_name="web-1")]
    assert shown(decided([SECOND], waiting, agentless=frozenset({"node-1"}))) == {"abandon": ["j1"]}
    begun = [job("j1", pod_name="web-1", phase=JobPhase.IN_PROGRESS)]
    assert "abandon" not in shown(decided([SECOND], begun, agentless=frozenset({"node-1"})))


def test_a_retry_takes_over_what_failed() -> None:
    failed = job("j1", pod_name="web-1", phase=JobPhase.FAILED, wrote=True)
    found = units([FIRST, SECOND], [failed])
    assert shown(decide(found, restore=restore())) == {}
    again = decide(found, restore=restore(), retry=True)
    assert shown(again) == {"create": [("web-1", "Fill", False), ("web-2", "Follow", True)]}
    assert again.create[1].follows == again.create[0].name
    assert again.create[0].takes_over == "j1"
    clean = job("j1", pod_name="web-1", phase=JobPhase.FAILED)
    assert shown(decide(units([FIRST], [clean]), restore=restore(), retry=True)) == {
        "create": [("web-1", "Fill", False)]
    }


def test_gates_are_told_that_data_is_missing() -> None:
    missing = volume(coverage=Coverage.FAILED)
    found = units([FIRST], volumes=(missing,))
    assert [unit.missing for unit in found] == [True]
    (plan,) = decide(found, restore=restore()).create
    assert (plan.answer, plan.role) == (Answer.FAILED, Role.ANSWER)
    assert "the backup has no data for it" in plan.cause


def test_nothing_is_written_into_a_claim_that_was_released_by_hand() -> None:
    assert shown(decided([FIRST], claims=[live_claim(pending=None)])) == {}


def test_pod_lifetime_volume_is_filled_for_each_pod() -> None:
    slot = volume("db-0", "scratch", claim_name=None)
    first = held_pod("db-0", empty=("scratch",))
    decision = decided([first], claims=[], volumes=(slot,))
    assert shown(decision) == {"create": [("db-0", "Fill", False)]}
    done = job(
        "j1",
        volume_name="scratch",
        claim_name=None,
        phase=JobPhase.COMPLETED,
        pod_uid="uid-db-0",
    )
    assert shown(decided([first], [done], claims=[], volumes=(slot,))) == {}
    again = held_pod("db-0", uid="second", empty=("scratch",))
    assert shown(decided([again], [done], claims=[], volumes=(slot,))) == {
        "create": [("db-0", "Fill", False)]
    }


def test_a_pod_lifetime_volume_that_went_with_its_pod_is_a_failure() -> None:
    slot = volume("db-0", "scratch", claim_name=None)
    lost = job(
        "j1",
        volume_name="scratch",
        claim_name=None,
        phase=JobPhase.FAILED,
        reason="PodTerminating",
    )
    (unit,) = units([], [lost], claims=[], volumes=(slot,))
    assert unit.failed is lost
    assert not unit.completed


def test_names_are_derived_and_each_attempt_has_its_own() -> None:
    first = decided([FIRST]).create[0].name
    assert first == decided([FIRST]).create[0].name
    ended = job(first, pod_name="web-1", role=Role.FOLLOW, follows="x", phase=JobPhase.FAILED)
    leader = job("x", pod_name="gone", phase=JobPhase.FAILED)
    second = decided([FIRST], [leader, ended]).create[0].name
    assert second != first


def test_the_whole_job() -> None:
    plan = decided([FIRST]).create[0]
    repository = RepositoryReference(
        location="default", location_id="loc", directory=DIRECTORY, password_secret="s"
    )
    assert build_job(plan, restore=restore(), namespace="ararat", repository=repository) == {
        "apiVersion": "ararat.dev/v1alpha1",
        "kind": "PodVolumeRestore",
        "metadata": {
            "name": plan.name,
            "namespace": "ararat",
            "labels": {
                "ararat.dev/node": "node-1",
                "ararat.dev/restore": "r1",
                "ararat.dev/restore-uid": UID,
            },
            "ownerReferences": [
                {
                    "apiVersion": "ararat.dev/v1alpha1",
                    "kind": "Restore",
                    "name": "r1",
                    "uid": UID,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "restore": "r1",
            "restoreUID": UID,
            "node": "node-1",
            "pod": {"namespace": "wp", "name": "web-1", "uid": "uid-web-1"},
            "volume": "data",
            "claim": {"name": "data-db-0", "uid": "claim-uid", "volumeName": "pv-new"},
            "repository": {
                "location": "default",
                "locationID": "loc",
                "directory": DIRECTORY,
                "keyID": "",
                "passwordSecret": "s",
                "readOnly": False,
            },
            "snapshotID": "5" * 64,
            "role": "Fill",
            "cause": "",
            "mode": "NewPod",
            "verify": "Sample",
            "paths": [],
            "deleteExtra": False,
            "existingData": "Refuse",
            "attempt": 0,
            "expectedBytes": 1000,
            "expectedFiles": 10,
            "noProgressSeconds": 900,
            "cancel": False,
        },
    }
