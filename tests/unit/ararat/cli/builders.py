"""Objects for the tests of the command line, with everything that a test does not care about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ararat.api import Backup, BackupLocation, PodVolumeBackup, PodVolumeRestore, Restore

NOW = datetime(2026, 11, 22, 21, 30, 0, tzinfo=UTC)
START = "2026-11-22T21:28:00Z"
END = "2026-11-22T21:29:12Z"


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "ararat",
        "uid": f"uid-{name}",
        "creationTimestamp": START,
        **more,
    }


def backup(name: str = "mybackup", *, spec: Any = None, **status: Any) -> Backup:
    return Backup.parse({"metadata": meta(name), "spec": spec or {}, "status": status})


def finished_backup(name: str = "mybackup", **status: Any) -> Backup:
    return backup(
        name,
        **{
            "phase": "Completed",
            "startTime": START,
            "completionTime": END,
            "location": "default",
            "namespaces": ["wp"],
            "namespaceCount": 1,
            "coverage": {"backedUp": 2, "text": "2 backed up"},
            "objects": {"count": 1143},
            "bytesProcessed": 222298112,
            "bytesStored": 15938355,
            **status,
        },
    )


def restore(name: str = "myrestore", *, spec: Any = None, **status: Any) -> Restore:
    body = {"backup": "mybackup", **(spec or {})}
    return Restore.parse({"metadata": meta(name), "spec": body, "status": status})


def location(name: str = "default", *, spec: Any = None, **status: Any) -> BackupLocation:
    where = {"filesystem": {"path": "/srv/backups"}}
    body = {**(where if "azure" not in (spec or {}) else {}), **(spec or {})}
    return BackupLocation.parse({"metadata": meta(name), "spec": body, "status": status})


def available(name: str = "default", **spec: Any) -> BackupLocation:
    return location(name, spec=spec, phase="Available")


def repository() -> dict[str, Any]:
    return {"location": "default", "locationID": "l", "directory": "d", "passwordSecret": "s"}


def backup_job(
    pod: str = "mariadb-0",
    volume: str = "data",
    *,
    done: int = 0,
    total: int = 0,
    files: int = 0,
    rate: int = 0,
    claim: str | None = "data-mariadb-0",
    **status: Any,
) -> PodVolumeBackup:
    progress = {
        "bytesDone": done,
        "totalBytes": total,
        "filesDone": files,
        "totalFiles": files,
        "bytesPerSecond": rate,
    }
    return PodVolumeBackup.parse(
        {
            "metadata": meta(f"job-{pod}-{volume}"),
            "spec": {
                "backup": "mybackup",
                "backupUID": "uid-mybackup",
                "node": "node-1",
                "pod": {"namespace": "wp", "name": pod, "uid": "p"},
                "volume": volume,
                "claim": {"name": claim} if claim else None,
                "repository": repository(),
                "host": "h",
            },
            "status": {"progress": progress, **status},
        }
    )


def restore_job(
    pod: str = "mariadb-0",
    volume: str = "data",
    *,
    spec: Any = None,
    done: int = 0,
    **status: Any,
) -> PodVolumeRestore:
    return PodVolumeRestore.parse(
        {
            "metadata": meta(f"job-{pod}-{volume}"),
            "spec": {
                "restore": "myrestore",
                "restoreUID": "uid-myrestore",
                "node": "node-1",
                "pod": {"namespace": "wp", "name": pod, "uid": "p"},
                "volume": volume,
                "claim": {"name": "data-mariadb-0"},
                "repository": repository(),
                "expectedBytes": 1048576,
                "expectedFiles": 10,
                **(spec or {}),
            },
            "status": {"progress": {"bytesDone": done}, **status},
        }
    )
