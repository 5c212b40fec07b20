"""What ten thousand node jobs weigh in the controller's cache, reckoned from a thousand."""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import Any

from ararat.api import PodVolumeBackup
from ararat.api.names import BACKUP_UID
from ararat.api.nodejob import ClaimReference, PodReference, RepositoryReference
from ararat.kube import Informer, of
from controller.app import label_index
from controller.backup.jobs import build_job
from controller.backup.jobtable import JobTable
from tests.unit.ararat.kube.fake import FakeApi

from .samples import backup, planned

_JOBS = 1000
#: A controller that does nothing takes 85 MiB (bench/results) of the 300 that it may take with ten
#: thousand jobs: with 80 for these, there is as much left for the work itself.
_ROOM = 80 * 2**20 / 10_000


def as_served(number: int) -> str:
    """A job that has ended, with every field that its agent fills in."""
    unique = f"{number:08d}-1c9e-4d6b-9f3f-5a1c7d3e2b10"
    repository = RepositoryReference(
        location="default",
        location_id="0c8a3c9e-6f5b-4b27-8a53-0f2f4e5d6c7b",
        directory=f"repositories/volumes/app-{number % 50}/9f3f5a1c7d3e2b10",
        repository_name=f"volumes/app-{number % 50}/9f3f5a1c7d3e2b10",
        key_id="5" * 64,
        password_secret=f"nightly-app-{number % 50}-1c9e4d6b",
    )
    volume = planned(
        pod=PodReference(namespace=f"app-{number % 50}", name=f"db-{number}", uid=unique),
        claim=ClaimReference(name=f"data-db-{number}", uid=unique),
        node=f"node-{number % 100}",
    )
    job: dict[str, Any] = build_job(
        backup("nightly"), volume, namespace="ararat", cluster_uid=unique, repository=repository
    )
    job["metadata"] |= {"uid": unique, "resourceVersion": str(number), "generation": 1}
    job["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z"}
    owned: dict[str, Any] = {
        "f:status": {f"f:{name}": {} for name in ("phase", "progress", "summary", "root")}
    }
    job["metadata"]["managedFields"] = [{"manager": "agent", "fieldsV1": owned}] * 3
    job["status"] = {
        "phase": "Completed",
        "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:01:00Z",
        "attempts": 1,
        "snapshotID": f"{number:064x}",
        "progress": {"totalBytes": number << 20, "bytesDone": number << 20, "text": "100%"},
        "summary": {
            "filesNew": number + 300,
            "filesTotal": number + 3000,
            "bytesProcessed": number << 20,
            "bytesStored": number << 10,
            "seconds": number / 7,
        },
        "root": {"mode": 493, "uid": 999, "gid": 999, "mtimeNs": 10**18 + number},
        "excludes": [],
    }
    return json.dumps(job)


def test_ten_thousand_jobs_leave_room() -> None:
    texts = [as_served(number) for number in range(_JOBS)]
    jobs = Informer(
        FakeApi(), of(PodVolumeBackup), indexers={"backup-uid": label_index(BACKUP_UID)}
    )
    table = JobTable()
    gc.collect()
    tracemalloc.start()
    try:
        for text in texts:
            jobs._upsert(json.loads(text))
        table.read(lambda: jobs.by_index("backup-uid", "uid-nightly"), lambda _: None)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == _JOBS
    print(f"{held / _JOBS:,.0f} bytes a job")
    assert held / _JOBS < _ROOM
