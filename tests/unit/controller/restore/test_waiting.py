from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ararat.api import PodVolumeRestore
from ararat.api.manifest import Coverage
from ararat.api.nodejob import JobPhase, Progress, Role
from ararat.api.restore import VolumeCounts
from controller.restore.progress import sum_volumes
from controller.restore.waiting import why_waiting
from tests.unit.controller.restore.make import NOW, held_pod, job, live_claim, restore, volume
from tests.unit.controller.restore.test_jobs import units

READY = {"node-1": True}
LATE = NOW + timedelta(minutes=5)
UNSCHEDULABLE = [
    {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient memory.",
    }
]
UNBOUND = [
    {
        "type": "PodScheduled",
        "status": "False",
        "message": "pod has unbound immediate PersistentVolumeClaims",
    }
]
ELSEWHERE = [
    {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/2 nodes are available: 2 node(s) had volume node affinity conflict.",
    }
]
NOTHING_FITS = [
    {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to "
        "bind.",
    }
]
STANDS = job("j", phase=JobPhase.IN_PROGRESS, reason="Stalled", message="the store is silent")
NO_IMAGE = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}


@pytest.mark.parametrize(
    ("pods", "jobs", "agents", "reason", "words"),
    [
        pytest.param([], [], READY, "NoPod", "no pod mounts", id="no pod"),
        pytest.param(
            [],
            [job("j", phase=JobPhase.FAILED, message="node lost")],
            READY,
            "NoPod",
            "node lost",
            id="pod went away",
        ),
        pytest.param(
            [held_pod(node="", conditions=UNSCHEDULABLE)],
            [],
            READY,
            "Unschedulable",
            "Insufficient memory",
            id="unschedulable",
        ),
        pytest.param(
            [held_pod(node="", conditions=UNBOUND)],
            [],
            READY,
            "ClaimUnbound",
            "'standard'",
            id="unbound",
        ),
        pytest.param(
            [held_pod(node="", conditions=ELSEWHERE)],
            [],
            READY,
            "WrongZone",
            "claim data-db-0 is in a zone or on a node where pod db-0 cannot run",
            id="wrong zone",
        ),
        pytest.param(
            [held_pod(node="", conditions=NOTHING_FITS)],
            [],
            READY,
            "ClaimUnbound",
            "didn't find available persistent volumes",
            id="no volume in reach",
        ),
        pytest.param([held_pod()], [STANDS], READY, "Stalled", "the store is silent", id="stands"),
        pytest.param(
            [held_pod(node="", created=NOW.isoformat())], [], READY, None, "", id="just created"
        ),
        pytest.param([held_pod(node="")], [], READY, "NotScheduled", "", id="no scheduler"),
        pytest.param([held_pod()], [], {}, "NoAgent", "does not exist", id="no agent"),
        pytest.param(
            [held_pod()], [], {"node-1": False}, "NoAgent", "is not ready", id="agent not ready"
        ),
        pytest.param(
            [held_pod(gate_state=NO_IMAGE)],
            [],
            READY,
            "GateCannotStart",
            "no such image",
            id="image",
        ),
        pytest.param(
            [held_pod(gate_state={"waiting": {"reason": "PodInitializing"}})],
            [],
            READY,
            "PodStarting",
            "attached or mounted",
            id="not started",
        ),
        pytest.param([held_pod()], [job("j")], READY, None, "", id="job just made"),
        pytest.param(
            [held_pod()],
            [job("j", phase=JobPhase.IN_PROGRESS)],
            READY,
            None,
            "",
            id="under way",
        ),
        pytest.param(
            [held_pod()],
            [job("j", phase=JobPhase.IN_PROGRESS)],
            {"node-1": False},
            "NoAgent",
            "is not ready",
            id="agent lost while under way",
        ),
        pytest.param(
            [held_pod()], [job("j", phase=JobPhase.COMPLETED)], READY, None, "", id="filled"
        ),
        pytest.param([held_pod()], [job("j", phase=JobPhase.FAILED)], READY, None, "", id="failed"),
    ],
)
def test_causes(
    pods: list[dict[str, Any]],
    jobs: list[PodVolumeRestore],
    agents: dict[str, bool],
    reason: str | None,
    words: str,
) -> None:
    (unit,) = units(pods, jobs)
    cause = why_waiting(unit, agents=agents, now=NOW)
    assert (cause.reason if cause else None) == reason
    assert words in (cause.message if cause else "")


def test_a_job_that_nobody_takes() -> None:
    (unit,) = units([held_pod()], [job("j")])
    cause = why_waiting(unit, agents=READY, now=LATE)
    assert cause is not None
    assert cause.to_dict() == {
        "object": "wp/db-0/data",
        "reason": "Queued",
        "message": "the agent on node node-1 has not taken the job yet",
    }


def test_an_agent_that_has_gone_silent() -> None:
    running = job("j", phase=JobPhase.IN_PROGRESS, heartbeat_time=NOW)
    (unit,) = units([held_pod()], [running])
    assert why_waiting(unit, agents=READY, now=LATE, quiet=40) is None  # it beats every 30 s
    cause = why_waiting(unit, agents=READY, now=LATE, quiet=55)
    assert cause is not None
    assert cause.reason == "AgentSilent"
    assert "nothing about node job j since 12:00:00 UTC" in cause.message


def test_pods_that_nobody_may_make() -> None:
    (unit,) = units([])
    for kind, name in (("Namespace", "FailedCreate"), ("Helper", "data-db-0")):
        cause = why_waiting(
            unit, agents=READY, now=NOW, warnings={(kind, "wp", name): "exceeded quota: small"}
        )
        assert cause is not None
        assert cause.reason == "PodRefused"
        assert "exceeded quota: small" in cause.message


def test_a_claim_that_is_not_bound_is_in_no_wrong_zone() -> None:
    """It is another claim of the pod that the scheduler speaks of."""
    (unit,) = units([held_pod(node="", conditions=ELSEWHERE)], claims=[live_claim(bound=False)])
    cause = why_waiting(unit, agents=READY, now=NOW)
    assert cause is not None
    assert cause.reason == "Unschedulable"


def test_what_only_events_know() -> None:
    (unit,) = units([held_pod(node="", conditions=UNBOUND)], claims=[live_claim(bound=False)])
    said = {("PersistentVolumeClaim", "wp", "data-db-0"): "no such storage account"}
    cause = why_waiting(unit, agents=READY, now=NOW, warnings=said)
    assert cause is not None
    assert cause.message == (
        "claim data-db-0 (storage class 'standard') is not bound: no such storage account"
    )


def test_one_pod_that_can_move_is_enough() -> None:
    stuck = held_pod("web-1", node="", conditions=UNSCHEDULABLE)
    (unit,) = units([stuck, held_pod("web-2")])
    assert why_waiting(unit, agents=READY, now=NOW) is None


def test_sums_and_texts() -> None:
    half = Progress(bytes_done=500, files_done=5, bytes_per_second=50)
    running = units([held_pod()], [job("j", phase=JobPhase.IN_PROGRESS, progress=half)])
    volumes = sum_volumes(running, restore=restore(), overdue={})
    assert volumes.counts == VolumeCounts(total=1, text="0 of 1 filled")
    assert volumes.progress == Progress(
        total_bytes=1000,
        bytes_done=500,
        total_files=10,
        files_done=5,
        bytes_per_second=50,
        text="500 B of 1000 B (50%)",
    )
    assert volumes.open == ("wp/data-db-0",)


@pytest.mark.parametrize(
    ("pods", "jobs", "is_open", "reasons"),
    [
        ([held_pod()], [job("j", phase=JobPhase.COMPLETED)], (), []),
        ([held_pod()], [job("j", phase=JobPhase.FAILED, reason="DiskFull")], (), ["DiskFull"]),
        (
            [held_pod(), held_pod("db-1")],
            [job("j", phase=JobPhase.COMPLETED)],
            ("wp/db-1/data",),
            [],
        ),
        (
            [held_pod(), held_pod("db-1")],
            [
                job("j", phase=JobPhase.COMPLETED),
                job(
                    "f",
                    pod_name="db-1",
                    role=Role.FOLLOW,
                    follows="j",
                    phase=JobPhase.FAILED,
                    reason="GateUnreachable",
                ),
            ],
            (),
            ["GateUnreachable"],
        ),
    ],
)
def test_when_it_is_over(
    pods: list[dict[str, Any]],
    jobs: list[PodVolumeRestore],
    is_open: tuple[str, ...],
    reasons: list[str],
) -> None:
    volumes = sum_volumes(units(pods, jobs), restore=restore(), overdue={})
    assert volumes.open == is_open
    assert [failure.reason for failure in volumes.failures] == reasons


def test_a_failed_backup_of_a_volume_is_a_failure_here() -> None:

    missing = volume(coverage=Coverage.FAILED, message="not readable")
    volumes = sum_volumes(units([held_pod()], volumes=(missing,)), restore=restore(), overdue={})
    assert volumes.settled
    assert [f.reason for f in volumes.failures] == ["NoDataInBackup"]
    assert volumes.counts.text == "0 of 1 filled, 1 failed"
