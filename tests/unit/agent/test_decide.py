"""What follows from the state of a job, its pod and its leader."""

from typing import Any

import pytest

from agent.decide import End, Ignore, Start, Stop, Wait, must_stop, next_step
from ararat.api.nodejob import JobPhase
from tests.containers import NEVER_STARTED, PASSED
from tests.unit.agent.jobs import GATE_RUNS, backup, pod, restore


def step(job: Any, at: Any, **more: Any):
    return next_step(job, at, seen_seconds=more.pop("seen", 0.0), **more)


@pytest.mark.parametrize("phase", ["Completed", "Failed", "Cancelled"])
def test_finished_jobs_are_left_alone(phase: str):
    assert step(backup(status={"phase": phase}), pod()) == Ignore()


@pytest.mark.parametrize("phase", ["New", "InProgress"])
def test_a_backup_starts_where_its_pod_runs(phase: str):
    assert step(backup(status={"phase": phase}), pod()) == Start()


def test_a_cancelled_job_does_not_start():
    found = step(backup(spec={"cancel": True}), pod())
    assert isinstance(found, End)
    assert found.phase is JobPhase.CANCELLED


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (pod(uid="other"), "PodReplaced"),
        (pod(deleting=True), "PodTerminating"),
        (pod(phase="Succeeded"), "PodEnded"),
        (pod(phase="Failed"), "PodEnded"),
    ],
)
@pytest.mark.parametrize("job", [backup(), restore()])
def test_pods_that_are_over(job: Any, at: dict[str, Any], reason: str):
    found = step(job, at)
    assert isinstance(found, End)
    assert (found.phase, found.reason) == (JobPhase.FAILED, reason)


def test_an_unknown_pod_gets_some_time():
    assert isinstance(step(backup(), None, seen=5), Wait)
    found = step(backup(), None, seen=60)
    assert isinstance(found, End)
    assert found.reason == "PodNotFound"


def test_a_pending_pod_is_waited_for_and_says_why():
    why = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    found = step(backup(), pod(phase="Pending", conditions=[why]))
    assert isinstance(found, Wait)
    assert "0/3 nodes" in found.message


def test_a_fill_starts_when_the_gate_runs():
    assert step(restore(), pod(phase="Pending", gate=GATE_RUNS)) == Start()


def test_a_fill_waits_for_the_gate():
    waiting = {"waiting": {"reason": "PodInitializing"}}
    found = step(restore(), pod(phase="Pending", gate=waiting))
    assert isinstance(found, Wait)
    assert "PodInitializing" in found.message


def test_a_gate_that_cannot_start_is_named():
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    found = step(restore(), pod(phase="Pending", gate=waiting))
    assert isinstance(found, Wait)
    assert "ErrImagePull: no such image" in found.message


@pytest.mark.parametrize(("at", "reason"), [(pod(), "NotGated"), (pod(gate=PASSED), "GateOpen")])
def test_nothing_is_written_under_a_pod_that_may_run(at: dict[str, Any], reason: str):
    found = step(restore(), at)
    assert isinstance(found, End)
    assert (found.phase, found.reason) == (JobPhase.FAILED, reason)


def test_a_gate_that_lost_power_before_it_started_is_awaited():
    found = step(restore(), pod(phase="Pending", gate=NEVER_STARTED))
    assert found == Wait("Pod web/db-0 has not reached its gate yet.")


FOLLOW = {"role": "Follow", "follows": "leader", "snapshotID": None}


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({"phase": "Completed"}, JobPhase.COMPLETED),
        ({"phase": "Failed", "reason": "OutOfSpace", "message": "full"}, JobPhase.FAILED),
        ({"phase": "Cancelled"}, JobPhase.CANCELLED),
    ],
)
def test_a_follow_ends_as_its_leader_did(status: dict[str, Any], phase: JobPhase):
    leader = restore(name="leader", status=status)
    found = step(restore(spec=FOLLOW), pod(phase="Pending", gate=GATE_RUNS), leader=leader)
    assert isinstance(found, End)
    assert found.phase is phase
    assert "leader" in found.message


def test_a_follow_waits_for_its_leader():
    at = pod(phase="Pending", gate=GATE_RUNS)
    leader = restore(name="leader", status={"phase": "InProgress", "progress": {"text": "1 of 2"}})
    found = step(restore(spec=FOLLOW), at, leader=leader)
    assert isinstance(found, Wait)
    assert "1 of 2" in found.message
    assert isinstance(step(restore(spec=FOLLOW), at), Wait)
    gone = step(restore(spec=FOLLOW), at, leader_lost=True)
    assert isinstance(gone, End)
    assert gone.reason == "LeaderGone"


@pytest.mark.parametrize(
    ("job", "at", "reason"),
    [
        (None, pod(), Stop.DELETED),
        (backup(status={"phase": "Failed"}), pod(), Stop.TAKEN),
        (backup(spec={"cancel": True}), pod(), Stop.CANCELLED),
        (backup(), None, Stop.POD_ENDED),
        (backup(), pod(uid="other"), Stop.POD_ENDED),
        (backup(), pod(deleting=True), Stop.POD_TERMINATING),
        (backup(), pod(phase="Succeeded"), Stop.POD_ENDED),
        (restore(), pod(gate=PASSED), Stop.GATE_OPEN),
        (backup(), pod(), None),
        (restore(), pod(phase="Pending", gate=GATE_RUNS), None),
        (restore(), pod(phase="Pending", gate=NEVER_STARTED), None),
    ],
)
def test_what_stops_a_run(job: Any, at: Any, reason: Stop | None):
    assert must_stop(job, at) is reason
