from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.api import PodVolumeBackup
from ararat.api.nodejob import ClaimReference, PodReference, Progress, RepositoryReference
from ararat.naming import is_dns_label
from controller.backup.jobs import build_job, job_name, orphaned_nodes, sum_progress

from .samples import backup, job, planned

REPOSITORY = RepositoryReference(
    location="default",
    location_id="l1",
    directory="repositories/volumes/wp/r1",
    key_id="k1",
    password_secret="s1",
)


def test_the_job_of_a_volume() -> None:
    asked = backup(spec={"deadlines": {"noProgressSeconds": 60}})
    volume = planned(claim=ClaimReference(name="data", uid="c1"), fs_group=True, node="n" * 70)
    made = build_job(asked, volume, namespace="ararat", cluster_uid="cl", repository=REPOSITORY)
    name = job_name(asked, volume)
    assert made["metadata"] == {
        "name": name,
        "namespace": "ararat",
        "labels": {
            "ararat.dev/node": made["metadata"]["labels"]["ararat.dev/node"],
            "ararat.dev/backup": "nightly",
            "ararat.dev/backup-uid": "uid-nightly",
        },
        "ownerReferences": [
            {
                "apiVersion": "ararat.dev/v1alpha1",
                "kind": "Backup",
                "name": "nightly",
                "uid": "uid-nightly",
                "controller": True,
            }
        ],
    }
    assert len(made["metadata"]["labels"]["ararat.dev/node"]) <= 63
    assert made["spec"] == {
        "backup": "nightly",
        "backupUID": "uid-nightly",
        "node": "n" * 70,
        "pod": {"namespace": "wp", "name": "web-0", "uid": "uid-1"},
        "volume": "data",
        "claim": {"name": "data", "uid": "c1", "volumeName": ""},
        "repository": {
            "location": "default",
            "locationID": "l1",
            "directory": "repositories/volumes/wp/r1",
            "keyID": "k1",
            "passwordSecret": "s1",
            "readOnly": False,
        },
        "host": "cl/wp/pvc/data",
        "ignoreCtime": True,
        "noProgressSeconds": 60,
        "hold": False,
        "group": "",
        "cancel": False,
    }
    assert PodVolumeBackup.parse(made).spec.claim == ClaimReference(name="data", uid="c1")


_name = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
_identity = st.tuples(_name, _name, st.uuids().map(str), _name)


def _name_of(identity: tuple[str, str, str, str]) -> str:
    backup_name, backup_uid, pod_uid, volume = identity
    pod = PodReference(namespace="wp", name="p", uid=pod_uid)
    return job_name(backup(backup_name, uid=backup_uid), planned(volume, pod=pod))


@given(_identity, _identity)
def test_names_of_jobs_are_stable_legal_and_do_not_collide(
    one: tuple[str, str, str, str], two: tuple[str, str, str, str]
) -> None:
    assert is_dns_label(_name_of(one))
    assert (_name_of(one) == _name_of(two)) == (one == two)


def progress(phase: str, **fields: int) -> PodVolumeBackup:
    return job(status={"phase": phase, "progress": fields})


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([], Progress()),
        (
            [
                progress("InProgress", totalBytes=100, bytesDone=50, bytesPerSecond=5),
                progress("InProgress", totalFiles=4, filesDone=1, bytesPerSecond=7),
            ],
            Progress(
                total_bytes=100,
                bytes_done=50,
                total_files=4,
                files_done=1,
                bytes_per_second=12,
                text="50 B of 100 B (50%)",
            ),
        ),
        (
            # What is done counts in full, and has no rate any more.
            [progress("Completed", totalBytes=100, bytesDone=90, totalFiles=9, bytesPerSecond=5)],
            Progress(total_bytes=100, bytes_done=100, total_files=9, files_done=9, text="100 B"),
        ),
        (
            # More done than known: the total follows.
            [progress("Failed", totalBytes=10, bytesDone=30)],
            Progress(total_bytes=30, bytes_done=30, text="30 B"),
        ),
    ],
)
def test_progress_of_all_jobs(jobs: list[PodVolumeBackup], expected: Progress) -> None:
    assert sum_progress(jobs) == expected


def test_jobs_whose_agent_is_not_there() -> None:
    def on(node: str, phase: str) -> Any:
        return job(f"{node}-{phase}".lower(), node=node, status={"phase": phase})

    jobs = [
        on("up", "New"),
        on("down", "New"),
        on("down", "InProgress"),
        on("down", "Completed"),
        on("none", "New"),
        on("none", "Failed"),
    ]
    assert orphaned_nodes(jobs, {"up": True, "down": False}) == {
        "down": [jobs[1], jobs[2]],
        "none": [jobs[4]],
    }
