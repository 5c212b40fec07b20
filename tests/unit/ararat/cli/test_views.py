from __future__ import annotations

from datetime import datetime
from typing import Any

from ararat.api.manifest import Manifest
from ararat.cli import backup_view, coverage, location_view, restore_view
from tests.unit.ararat.cli.builders import (
    END,
    NOW,
    START,
    available,
    backup,
    backup_job,
    finished_backup,
    location,
    restore,
    restore_job,
)

SUMMARY = {
    "filesTotal": 4312,
    "bytesProcessed": 222298112,
    "bytesStored": 1048576,
    "seconds": 35.2,
}


def manifest_volume(pod: str, coverage_: str, **more: Any) -> dict[str, Any]:
    return {"namespace": "wp", "pod": pod, "volume": "data", "coverage": coverage_, **more}


def manifest(volumes: list[dict[str, Any]]) -> Manifest:
    return Manifest.model_validate(
        {
            "backup": "mybackup",
            "backupUID": "u",
            "clusterUID": "c",
            "locationID": "l",
            "spec": {},
            "phase": "Completed",
            "startTime": START,
            "completionTime": END,
            "objects": {},
            "volumes": volumes,
        }
    )


def test_backup_table():
    text = backup_view.table([finished_backup(), backup("new")], NOW)
    assert text.splitlines() == [
        "NAME       PHASE       VOLUMES       SIZE        NEW        TOOK     AGE   VERIFIED   "
        "LOCATION",
        "mybackup   Completed   2 backed up   212.0 MiB   15.2 MiB   1m 12s   2m    -          "
        "default",
        "new        New         -             -           -          -        2m    -          -",
    ]


def test_running_backup_shows_progress_where_the_duration_would_be():
    running = backup(
        phase="InProgress", startTime=START, progress={"text": "1.0 MiB of 4.0 MiB (25%)"}
    )
    assert "1.0 MiB of 4.0 MiB (25%)" in backup_view.table([running], NOW)


def test_a_queued_backup_shows_its_place():
    waiting = backup(phase="Queued", queuePosition=2)
    assert "Queued (2)" in backup_view.table([waiting], NOW)
    assert "Queued (2)" in backup_view.describe(waiting, [], NOW)


def test_describe_backup():
    failed = {"object": "wp/web-0/uploads", "reason": "MountMissing", "message": "not mounted"}
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Done",
        "message": "all is well",
        "lastTransitionTime": END,
    }
    text = backup_view.describe(
        finished_backup(
            phase="PartiallyFailed",
            message="1 of 2 volumes failed",
            failures=[failed],
            failureCount=3,
            warnings=["the clock is late"],
            conditions=[condition],
        ),
        coverage.of_backup_jobs([backup_job(phase="Completed", summary=SUMMARY)]),
        NOW,
    )
    assert "Phase:       PartiallyFailed" in text
    assert "Message:     1 of 2 volumes failed" in text
    assert "Ended:       2026-11-22 21:29:12 UTC (48s ago)" in text
    assert "Size:        212.0 MiB in files, 15.2 MiB newly stored" in text
    assert "Volumes:          those that pods name in ararat.dev/backup-volumes" in text
    assert "- wp/web-0/uploads: not mounted" in text
    assert "- and 2 more" in text
    assert "- the clock is late" in text
    assert "all is well" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_describe_shows_the_selection_as_it_was_typed():
    spec = {
        "includedNamespaces": ["wp", "shop-*"],
        "excludedResources": ["events"],
        "labelSelector": {"matchLabels": {"app": "web"}},
        "includeClusterResources": False,
        "volumes": {"defaultPolicy": "OptOut"},
    }
    text = backup_view.describe(backup(spec=spec), [], NOW)
    assert "Namespaces:       wp, shop-*" in text
    assert "Without kinds:    events" in text
    assert "Labels:           app=web" in text
    assert "Cluster objects:  none" in text
    assert "all but those in ararat.dev/backup-volumes-excludes" in text


def test_coverage_of_manifest_puts_trouble_first():
    rows = coverage.of_manifest(
        manifest(
            [
                manifest_volume("a", "Skipped", reason="HostPath"),
                manifest_volume("b", "BackedUp", summary=SUMMARY, claim={"name": "c"}),
                manifest_volume("c", "Unprotected", message="nobody asked for it"),
                manifest_volume("d", "Failed", message="gone"),
                manifest_volume("e", "Incomplete", unreadableCount=2, summary=SUMMARY),
                manifest_volume("f", "BackedUp", empty=True),
            ]
        )
    )
    assert [(row.id, row.result, row.note) for row in rows] == [
        ("wp/d/data", "Failed", "gone"),
        ("wp/e/data", "Incomplete", "2 files could not be read"),
        ("wp/b/data", "BackedUp", ""),
        ("wp/f/data", "BackedUp", "the volume is empty"),
        ("wp/c/data", "Unprotected", "nobody asked for it"),
        ("wp/a/data", "Skipped", "HostPath"),
    ]
    assert (rows[2].size, rows[2].stored, rows[2].files, rows[2].time) == (
        "212.0 MiB",
        "1.0 MiB",
        "4,312",
        "35s",
    )


def test_coverage_of_jobs():
    rows = coverage.of_backup_jobs(
        [
            backup_job("b", phase="InProgress", done=1024, total=4096, files=3),
            backup_job("a", phase="New", claim=None),
            backup_job("c", phase="Completed", incomplete=True, unreadableCount=1, summary=SUMMARY),
        ]
    )
    assert [(row.id, row.result, row.size) for row in rows] == [
        ("wp/a/data", "Waiting", ""),
        ("wp/b/data", "InProgress", "1.0 KiB of 4.0 KiB (25%)"),
        ("wp/c/data", "Incomplete", "212.0 MiB"),
    ]
    assert coverage.backup_table([]) == ""


def test_backup_summary():
    assert backup_view.summary(finished_backup(), flags=" -n x").splitlines() == [
        "backup mybackup: Completed in 1m 12s",
        "  volumes:  2 backed up",
        "  data:     212.0 MiB in files, 15.2 MiB newly stored",
        "  objects:  1,143",
        "next: ararat restore create --from-backup mybackup --wait -n x",
    ]
    failed = backup_view.summary(backup(phase="Failed", message="the container is missing"))
    assert failed.splitlines() == [
        "backup mybackup: Failed",
        "  message:  the container is missing",
        "more: ararat backup logs mybackup",
    ]


def test_restore_table_and_summary():
    done = restore(
        phase="Completed",
        startTime=START,
        completionTime=END,
        objects={"text": "143 created, 2 left alone"},
        volumes={"text": "2 of 2"},
        progress={"text": "212.0 MiB"},
    )
    assert restore_view.table([done], NOW).splitlines()[1].split("   ")[:3] == [
        "myrestore",
        "Completed",
        "mybackup",
    ]
    assert restore_view.summary(done).splitlines() == [
        "restore myrestore: Completed in 1m 12s",
        "  objects:  143 created, 2 left alone",
        "  volumes:  2 of 2",
        "  data:     212.0 MiB",
    ]
    partial = restore(phase="PartiallyFailed", warnings=["x exists"], warningCount=1)
    assert restore_view.summary(partial).splitlines()[-2:] == [
        "  - x exists",
        "more: ararat restore describe myrestore",
    ]


def test_describe_restore():
    running = restore(
        spec={"namespaceMapping": {"wp": "wp-copy"}, "storageClassMapping": {"a": "b"}},
        phase="InProgress",
        startTime=START,
        waiting=[{"object": "pod wp/web-0", "reason": "ImagePull", "message": "cannot pull"}],
    )
    rows = coverage.of_restore_jobs(
        [
            restore_job(done=524288, phase="InProgress"),
            restore_job("web-1", spec={"role": "Follow", "follows": "job-1"}),
        ]
    )
    text = restore_view.describe(running, rows, NOW)
    assert "Namespaces mapped:  wp to wp-copy" in text
    assert "Classes mapped:     a to b" in text
    assert "- pod wp/web-0: cannot pull" in text
    assert "512.0 KiB of 1.0 MiB (50%)" in text
    assert "as job-1" in text


def test_location_table_says_why_below():
    azure = {
        "azure": {"accountName": "acct", "container": "ctr", "prefix": "p/"},
        "accessMode": "ReadOnly",
    }
    text = location_view.table(
        [
            available(default=True),
            location("far", spec=azure, phase="Unavailable", message="container c is missing"),
        ],
        NOW,
    )
    lines = text.splitlines()
    assert lines[1].split() == [
        "default",
        "Available",
        "ReadWrite",
        "yes",
        "-",
        "-",
        "file:///srv/backups",
    ]
    assert lines[2].endswith("azure://acct/ctr/p")
    assert lines[-1] == "far: container c is missing"


def test_views_take_objects_that_just_appeared():
    assert isinstance(NOW, datetime)
    for text in (
        backup_view.table([backup()], NOW),
        backup_view.describe(backup(), [], NOW),
        backup_view.summary(backup()),
        restore_view.table([restore()], NOW),
        restore_view.describe(restore(), [], NOW),
        restore_view.summary(restore()),
        location_view.table([location()], NOW),
    ):
        assert "None" not in text
