"""Custom resources of group ararat.dev, as frozen models."""

from typing import Any

from .backup import Backup
from .base import API_VERSION, GROUP, VERSION, Resource
from .deletion import DeleteBackupRequest
from .location import BackupLocation
from .nodejob import PodVolumeBackup, PodVolumeRestore
from .repository import Repository
from .restore import Restore
from .schedule import Schedule
from .verification import BackupVerification

#: Every kind, in the order in which the chart lists them.
KINDS: tuple[type[Resource[Any, Any]], ...] = (
    BackupLocation,
    Repository,
    Backup,
    PodVolumeBackup,
    Restore,
    PodVolumeRestore,
    Schedule,
    DeleteBackupRequest,
    BackupVerification,
)

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "Backup",
    "BackupLocation",
    "BackupVerification",
    "DeleteBackupRequest",
    "PodVolumeBackup",
    "PodVolumeRestore",
    "Repository",
    "Resource",
    "Restore",
    "Schedule",
]
