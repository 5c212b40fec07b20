"""Node jobs of a backup: names and objects. Pure.

Names are derived from backup, pod UID and volume: a controller that was killed finds the jobs it
made instead of making them twice.
"""

from __future__ import annotations

from typing import Any

from ararat import naming
from ararat.api import Backup, PodVolumeBackup
from ararat.api.base import Meta
from ararat.api.names import BACKUP, BACKUP_UID, NODE
from ararat.api.nodejob import (
    PodVolumeBackupSpec,
    PodVolumeBackupStatus,
    RepositoryReference,
)

from .volumes import PlannedVolume


def job_name(backup: Backup, volume: PlannedVolume) -> str:
    """Of a claim that a helper pod mounts: the same whichever pod that turns out to be."""
    if volume.job:
        return volume.job
    pod = volume.pod
    if volume.helper:
        assert volume.claim is not None
        claim = volume.claim
        return naming.object_name(backup.name, claim.name, unique=(claim.uid, backup.uid, "helper"))
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
            replaces=volume.replaces,
            hold=bool(volume.group),
            group=volume.group,
            excludes=list(dict.fromkeys((*backup.spec.volumes.excludes, *volume.excludes))),
            exclude_caches=backup.spec.volumes.exclude_caches,
            no_progress_seconds=backup.spec.deadlines.no_progress_seconds,
        ),
        status=PodVolumeBackupStatus(),
    ).manifest()
    job["metadata"]["ownerReferences"] = [backup.owner_reference()]
    return job
