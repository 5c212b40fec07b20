from __future__ import annotations

from typing import Any

import pytest

from ararat.api.backup import BackupPhase, CoverageCounts, Failure
from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.nodejob import BackupSummary, RootMetadata
from controller.backup.outcome import (
    conclude,
    count_coverage,
    missing_snapshots,
    volume_result,
    without_snapshot,
)

from .samples import job, planned

SUMMARY = {"filesNew": 3, "filesTotal": 3, "bytesProcessed": 100, "bytesStored": 40}
ROOT = {"mode": 0o755, "uid": 1, "gid": 2, "mtimeNs": 3}
DONE = {"phase": "Completed", "snapshotID": "s1", "summary": SUMMARY, "root": ROOT}


def test_a_volume_that_was_read() -> None:
    volume = planned(storage_class="fast", access_modes=("ReadWriteOnce",), capacity="1Gi")
    assert volume_result(volume, job(status=DONE), cluster_uid="cl") == ManifestVolume(
        namespace="wp",
        pod="web-0",
        pod_uid="uid-1",
        volume="data",
        volume_type="persistentVolumeClaim",
        storage_class="fast",
        access_modes=["ReadWriteOnce"],
        capacity="1Gi",
        node="n1",
        coverage=Coverage.BACKED_UP,
        directory="repositories/volumes/wp/r1",
        host=volume.host("cl"),
        snapshot_id="s1",
        root=RootMetadata(mode=0o755, uid=1, gid=2, mtime_ns=3),
        summary=BackupSummary(files_new=3, files_total=3, bytes_processed=100, bytes_stored=40),
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (DONE, ("BackedUp", "", "", "s1")),
        (
            {**DONE, "incomplete": True, "unreadableCount": 2},
            ("Incomplete", "FilesUnreadable", "2 files could not be read", "s1"),
        ),
        ({"phase": "Completed", "empty": True}, ("BackedUp", "", "", None)),
        (
            {"phase": "Completed"},
            ("Failed", "NoSnapshot", "its node job ended without a snapshot", None),
        ),
        (
            {"phase": "Failed", "reason": "NotMounted", "message": "is not a mount", **ROOT},
            ("Failed", "NotMounted", "is not a mount", None),
        ),
        # A snapshot of a job that failed is not offered.
        ({**DONE, "phase": "Failed"}, ("Failed", "Failed", "the node job failed", None)),
        ({"phase": "Cancelled"}, ("Failed", "Cancelled", "cancelled", None)),
        ({"phase": "InProgress"}, ("Failed", "Failed", "the node job failed", None)),
    ],
)
def test_what_a_job_came_to(
    status: dict[str, Any], expected: tuple[str, str, str, str | None]
) -> None:
    found = volume_result(planned(), job(status=status), cluster_uid="cl")
    assert (found.coverage.value, found.reason, found.message, found.snapshot_id) == expected
    assert found.empty == (status.get("empty", False) and found.restorable)
    assert bool(found.directory) == found.restorable
    assert (found.root is not None) == (found.summary is not None) == (found.snapshot_id == "s1")


def test_files_that_could_not_be_read_are_named_after_the_job_is_gone() -> None:
    status = {**DONE, "incomplete": True, "unreadableCount": 1, "unreadablePaths": ["db/a"]}
    found = volume_result(planned(), job(status=status), cluster_uid="cl")
    assert (found.coverage, found.message) == (
        Coverage.INCOMPLETE,
        "1 file could not be read (db/a)",
    )
    assert (found.unreadable_count, found.unreadable_paths) == (1, ["db/a"])
    failed = volume_result(planned(), job(status={**status, "phase": "Failed"}), cluster_uid="cl")
    assert failed.unreadable_paths == []


def test_a_job_that_is_gone() -> None:
    found = volume_result(planned(), None, cluster_uid="cl")
    assert (found.coverage, found.reason) == (Coverage.FAILED, "JobMissing")


def test_a_volume_that_had_no_job_stays_as_planned() -> None:
    volume = planned(coverage=Coverage.SKIPPED, reason="HostPath", message="m")
    found = volume_result(volume, job(status=DONE), cluster_uid="cl")
    assert (found.coverage, found.reason, found.message) == (Coverage.SKIPPED, "HostPath", "m")
    assert found.snapshot_id is None
    assert found.directory == ""


def volume(name: str, coverage: Coverage, **more: Any) -> ManifestVolume:
    return ManifestVolume(namespace="wp", pod="web-0", volume=name, coverage=coverage, **more)


ONE_OF_EACH = [
    volume("a", Coverage.BACKED_UP, summary=BackupSummary(bytes_processed=10, bytes_stored=1)),
    volume("b", Coverage.BACKED_UP, summary=BackupSummary(bytes_processed=20, bytes_stored=2)),
    volume("c", Coverage.INCOMPLETE, unreadable_count=7, unreadable_paths=["x", "y/z", "u", "v"]),
    volume("d", Coverage.FAILED, reason="NoAgent", message="no agent"),
    volume("e", Coverage.SKIPPED),
    volume("f", Coverage.UNPROTECTED),
]
COUNTS = CoverageCounts(
    backed_up=2,
    incomplete=1,
    failed=1,
    skipped=1,
    unprotected=1,
    text="2 backed up, 1 incomplete, 1 failed, 1 skipped, 1 unprotected",
)


def test_coverage_in_numbers() -> None:
    assert count_coverage(ONE_OF_EACH) == COUNTS
    assert count_coverage([]) == CoverageCounts(text="none")


def test_the_end_of_a_backup_with_one_of_each() -> None:
    outcome = conclude(
        ONE_OF_EACH,
        objects_failures=[Failure(object="widgets.x", reason="R", message="m")],
        warnings=["w"],
    )
    assert outcome.phase is BackupPhase.PARTIALLY_FAILED
    assert outcome.coverage == COUNTS
    assert outcome.failures == (
        Failure(object="wp/web-0/d", reason="NoAgent", message="no agent"),
        Failure(object="widgets.x", reason="R", message="m"),
    )
    assert outcome.warnings == (
        "w",
        "wp/web-0/c: 7 files could not be read (x, y/z, u, ...): not in the snapshot",
        "not in this backup, and nobody asked for it: the data of wp/web-0/f",
    )
    assert (outcome.bytes_processed, outcome.bytes_stored) == (30, 3)


@pytest.mark.parametrize(
    ("volumes", "failures", "phase"),
    [
        ([], [], BackupPhase.COMPLETED),
        ([volume("c", Coverage.INCOMPLETE)], [], BackupPhase.COMPLETED),
        ([volume("e", Coverage.SKIPPED)], [], BackupPhase.COMPLETED),
        ([volume("f", Coverage.UNPROTECTED)], [], BackupPhase.COMPLETED),
        ([volume("d", Coverage.FAILED)], [], BackupPhase.PARTIALLY_FAILED),
        ([], [Failure(object="x", reason="R")], BackupPhase.PARTIALLY_FAILED),
    ],
)
def test_phases(volumes: list[ManifestVolume], failures: list[Failure], phase: BackupPhase) -> None:
    assert conclude(volumes, objects_failures=failures).phase is phase


def test_many_unprotected_volumes_make_one_warning() -> None:
    outcome = conclude([volume(f"v{n}", Coverage.UNPROTECTED) for n in range(7)])
    assert outcome.warnings == (
        "not in this backup, and nobody asked for it: the data of "
        "wp/web-0/v0, wp/web-0/v1, wp/web-0/v2, wp/web-0/v3, wp/web-0/v4 and 2 more",
    )


def test_snapshots_that_cannot_be_found_again() -> None:
    here = volume("a", Coverage.BACKED_UP, directory="d1", snapshot_id="s1")
    elsewhere = volume("b", Coverage.INCOMPLETE, directory="d2", snapshot_id="s1")
    empty = volume("c", Coverage.BACKED_UP, directory="d3", empty=True)
    listed = {"d1": frozenset({"s1", "s9"}), "d2": frozenset({"s9"})}
    assert missing_snapshots([here, elsewhere, empty], listed) == [elsewhere]
    assert without_snapshot(elsewhere) == volume(
        "b",
        Coverage.FAILED,
        directory="d2",
        reason="SnapshotMissing",
        message="snapshot s1 is not in its repository",
    )
