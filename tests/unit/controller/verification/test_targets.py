"""What a verification reads, and when a promise is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ararat.api import PodVolumeRestore
from ararat.api.backup import BackupPhase, BackupSpec, ObjectsResult
from ararat.api.manifest import Coverage, Manifest, ManifestVolume
from ararat.api.nodejob import BackupSummary
from controller.verification.scratch import ScratchPolicy
from controller.verification.steps import Ended, NeedsJob, NeedsPod, Step, Waits, next_step
from controller.verification.targets import (
    Target,
    broken_promises,
    empty_of,
    judge,
    missing,
    targets_of,
    untried,
)

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
SNAPSHOT = "a" * 64


def volume(name: str = "data", *, size: int = 100, **more: Any) -> ManifestVolume:
    fields: dict[str, Any] = {
        "namespace": "wp",
        "pod": "db-0",
        "volume": name,
        "coverage": Coverage.BACKED_UP,
        "directory": "repositories/volumes/wp/1",
        "snapshot_id": SNAPSHOT,
        "summary": BackupSummary(files_total=3, bytes_processed=size),
        **more,
    }
    return ManifestVolume(**fields)


def manifest(*volumes: ManifestVolume) -> Manifest:
    return Manifest(
        backup="b",
        backup_uid="u",
        cluster_uid="c",
        location_id="l",
        spec=BackupSpec(),
        phase=BackupPhase.COMPLETED,
        start_time=NOW,
        completion_time=NOW,
        objects=ObjectsResult(),
        volumes=list(volumes),
    )


def job(name: str = "j", *, node: str = "n1", **status: Any) -> PodVolumeRestore:
    raw = {
        "metadata": {"name": name, "creationTimestamp": "2026-11-23T05:00:00Z"},
        "spec": {
            "restore": "v", "restoreUID": "u", "node": node, "volume": "data",
            "pod": {"namespace": "ararat", "name": name, "uid": "p"},
            "repository": {
                "location": "l", "locationID": "i", "directory": "d", "passwordSecret": "s",
            },
        },
        "status": status,
    }  # fmt: skip
    return PodVolumeRestore.parse(raw)


def good(files: int = 3, size: int = 100) -> PodVolumeRestore:
    return job(phase="Completed", verified={"files": files, "bytes": size})


def test_each_snapshot_is_read_once_and_the_largest_first():
    found = targets_of(
        manifest(
            volume("small", size=1, snapshot_id="b" * 64),
            volume("shared", size=50),
            volume("shared-too", size=50),
            volume("skipped", coverage=Coverage.SKIPPED, snapshot_id=None),
            volume("failed", coverage=Coverage.FAILED, snapshot_id=None),
            volume("empty", snapshot_id=None, empty=True),
            volume("partly", coverage=Coverage.INCOMPLETE, size=70, snapshot_id="c" * 64),
        )
    )
    assert [target.volume.volume for target in found] == ["partly", "shared", "small"]


def test_a_promise_without_a_snapshot_is_broken_unless_the_volume_was_empty():
    told = manifest(volume("lost", snapshot_id=None), volume("empty", snapshot_id=None, empty=True))
    assert [failure.object for failure in broken_promises(told)] == ["wp/db-0/lost"]
    assert empty_of(told) == 1


def test_snapshots_that_the_store_does_not_list():
    targets = targets_of(manifest(volume("a"), volume("b", snapshot_id="b" * 64)))
    listing = {"repositories/volumes/wp/1": frozenset({SNAPSHOT})}
    (failure,) = missing(targets, listing)
    assert (failure.object, failure.reason) == ("wp/db-0/b", "SnapshotMissing")
    assert len(missing(targets, {})) == 2


def test_what_came_back_is_what_was_promised():
    target = Target(volume())
    assert judge(target, good()) is None
    assert judge(Target(volume(summary=None)), good(9, 9)) is None


@pytest.mark.parametrize("ended", [good(files=2), good(files=4), good(size=99), good(size=101)])
def test_another_number_or_size_is_not_as_promised(ended: PodVolumeRestore):
    failure = judge(Target(volume()), ended)
    assert failure is not None
    assert failure.reason == "NotAsPromised"
    assert not untried(failure)


def test_a_job_that_did_not_look_is_no_proof():
    failure = judge(Target(volume()), job(phase="Completed"))
    assert failure is not None
    assert failure.reason == "NotRead"
    assert not untried(failure)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("ScratchTooSmall", True), ("StoreUnreachable", True), ("FilesNotRestored", False),
     ("ContentDiffers", False), ("Damaged", False), ("SomethingNew", False)],
)  # fmt: skip
def test_only_known_reasons_are_no_verdict(reason: str, expected: bool):
    failure = judge(Target(volume()), job(phase="Failed", reason=reason, message="why"))
    assert failure is not None
    assert untried(failure) is expected


def pod(phase: str = "Pending", *, made: str = "2026-11-23T05:59:00Z", **more: Any) -> Any:
    node = {"nodeName": "n1"} if phase == "Running" else {}
    return {
        "metadata": {"name": "p", "uid": "p", "creationTimestamp": made, **more},
        "spec": node,
        "status": {"phase": phase, "message": "evicted" if phase == "Failed" else None},
    }


def step(*jobs: PodVolumeRestore, agents: dict[str, bool] | None = None, **pods: Any) -> Step:
    return next_step(
        Target(volume()),
        jobs=list(jobs),
        pods={int(key[1:]): value for key, value in pods.items()},
        agents={"n1": True} if agents is None else agents,
        now=NOW,
    )


def test_first_a_pod_then_a_job():
    assert step() == NeedsPod(0)
    assert step(p0=pod(deletionTimestamp="now")) == NeedsPod(0)
    assert isinstance(step(p0=pod()), Waits)
    assert isinstance(step(p0=pod("Running")), NeedsJob)
    running = step(job(phase="InProgress"), p0=pod("Running"))
    assert isinstance(running, Waits)
    assert running.job is not None
    assert step(good(), p0=pod("Running")) == Ended(None)


def test_a_pod_that_does_not_start_or_ends_is_no_verdict():
    for found in (step(p0=pod(made="2026-11-23T05:49:00Z")), step(p0=pod("Failed"))):
        assert isinstance(found, Ended)
        assert found.failure is not None
        assert untried(found.failure)


def test_a_pod_that_was_taken_away_is_replaced_three_times():
    lost = job(phase="Failed", reason="PodTerminating")
    assert step(lost) == NeedsPod(1)
    assert isinstance(step(lost, p1=pod("Running")), NeedsJob)
    assert step(lost, lost) == NeedsPod(2)
    found = step(lost, lost, lost)
    assert isinstance(found, Ended)
    assert found.failure is not None
    assert untried(found.failure)
    assert step(lost, good()) == Ended(None)


def test_damage_is_not_tried_again():
    found = step(job(phase="Failed", reason="FilesNotRestored", message="/a: gone"))
    assert isinstance(found, Ended)
    assert found.failure is not None
    assert found.failure.message == "/a: gone"


def test_a_node_without_agent_is_waited_for_and_then_given_up():
    soon = job(phase="InProgress", heartbeatTime="2026-11-23T05:55:00Z")
    waits = step(soon, agents={})
    assert isinstance(waits, Waits)
    assert "no Ready agent" in waits.why
    ended = step(job(phase="New"), agents={"n1": False})
    assert isinstance(ended, Ended)
    assert ended.failure is not None
    assert ended.failure.reason == "NoAgent"


def test_the_policy_is_the_environments():
    policy = ScratchPolicy.from_environment(
        {"ARARAT_VERIFICATION_NODE_LIMIT": "1Gi", "ARARAT_VERIFICATION_AT_ONCE": "5"}
    )
    assert (policy.node_limit, policy.at_once, policy.storage_class) == (1 << 30, 5, "")
    assert policy.on_node(Target(volume(size=1 << 20)))
    assert not policy.on_node(Target(volume(size=1 << 30)))
