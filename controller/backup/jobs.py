"""Node jobs of a backup: names, objects, sums. Pure.

Names are derived from backup, pod UID and volume: a controller that was killed finds the jobs it
made instead of making them twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ararat import naming
from ararat.api import Backup, PodVolumeBackup
from ararat.api.base import Meta
from ararat.api.names import BACKUP, BACKUP_UID, NODE
from ararat.api.nodejob import (
    JobPhase,
    PodVolumeBackupSpec,
    PodVolumeBackupStatus,
    Progress,
    RepositoryReference,
)
from ararat.human import progress_text

from .volumes import PlannedVolume


def job_name(backup: Backup, volume: PlannedVolume) -> str:
    pod = volume.pod
    return naming.object_name(backup.name, pod.name, volume.volume, unique=(pod.uid, backup.uid))


def build_job(
    backup: Backup,
    volume: PlannedVolume,
    *,
    namespace: str,
    cluster_uid: str,
    repository: RepositoryReference,
) -> dict[str, Any]:
    """The PodVolumeBackup to create for a planned volume."""
    job = PodVolumeBackup(
        metadata=Meta(
            name=job_name(backup, volume),
            namespace=namespace,
            labels={
                NODE: naming.label_value(volume.node),
                BACKUP: naming.label_value(backup.name),
                BACKUP_UID: backup.uid,
            },
        ),
        spec=PodVolumeBackupSpec(
            backup=backup.name,
            backup_uid=backup.uid,
            node=volume.node,
            pod=volume.pod,
            volume=volume.volume,
            claim=volume.claim,
            repository=repository,
            host=volume.host(cluster_uid),
            ignore_ctime=volume.fs_group,
            no_progress_seconds=backup.spec.deadlines.no_progress_seconds,
        ),
        status=PodVolumeBackupStatus(),
    ).manifest()
    job["metadata"]["ownerReferences"] = [backup.owner_reference()]
    return job


def sum_progress(jobs: Iterable[PodVolumeBackup]) -> Progress:
    """The jobs' progress, added up; a finished job counts in full."""
    total_bytes = bytes_done = total_files = files_done = rate = 0
    for job in jobs:
        progress, ended = job.status.progress, job.status.phase is JobPhase.COMPLETED
        size = max(progress.total_bytes, progress.bytes_done)
        files = max(progress.total_files, progress.files_done)
        total_bytes += size
        bytes_done += size if ended else progress.bytes_done
        total_files += files
        files_done += files if ended else progress.files_done
        if job.status.phase is JobPhase.IN_PROGRESS:
            rate += progress.bytes_per_second
    return Progress(
        total_bytes=total_bytes,
        bytes_done=bytes_done,
        total_files=total_files,
        files_done=files_done,
        bytes_per_second=rate,
        text=progress_text(bytes_done, total_bytes),
    )


def orphaned_nodes(
    jobs: Iterable[PodVolumeBackup], agents: Mapping[str, bool]
) -> dict[str, list[PodVolumeBackup]]:
    """Unfinished jobs of nodes without a Ready agent, by node.

    ``agents`` maps a node to whether its agent is Ready; a node without any agent is missing.
    """
    found: dict[str, list[PodVolumeBackup]] = {}
    for job in jobs:
        if not job.status.phase.terminal and not agents.get(job.spec.node, False):
            found.setdefault(job.spec.node, []).append(job)
    return found
