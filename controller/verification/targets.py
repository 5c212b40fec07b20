"""What of a backup is to be read, and whether what was read is what the manifest promises. Pure.

Decision: every snapshot that the manifest names for a volume is one target, however many pods
shared the claim. A volume that was empty has no snapshot: its promise is kept by the manifest
itself, which is sealed. A volume that the backup could not read is no promise: the backup said so.
What the promise is compared with is the agent's own count of the restored volume, not restic's
word. Limits: of an incomplete volume only what was read is promised.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ararat import naming
from ararat.api import PodVolumeRestore
from ararat.api.backup import Failure
from ararat.api.manifest import Manifest, ManifestVolume
from ararat.human import size

#: Room that a file takes besides its content.
_FILE_OVERHEAD = 4096
_VOLUME_OVERHEAD = 64 << 20
#: Reasons that say nothing about what is stored: it could not be tried.
UNTRIED = frozenset(
    {
        "OutOfSpace", "ScratchTooSmall", "ScratchPending", "ScratchEnded", "VolumeNotMounted",
        "VolumeNotUsed", "PodNotFound", "PodReplaced", "PodTerminating", "PodEnded", "AgentGone",
        "NoAgent", "AgentRestarted", "NoProgress", "Killed", "OutOfMemory", "StoreUnreachable",
        "StoreThrottled", "LocationMismatch", "LocationNotFound", "AccessDenied", "Cancelled",
        "PasswordMissing", "SecretNotFound", "ClaimNotFound", "ClaimNotBound", "RepositoryLocked",
        "NamespaceTaken", "NothingToRun", "PodsNotStarted", "ProbeWithoutPods", "RunNotRestored",
        "RunTimedOut",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One snapshot of a volume."""

    volume: ManifestVolume

    @property
    def id(self) -> str:
        return self.volume.id

    @property
    def snapshot(self) -> str:
        assert self.volume.snapshot_id is not None
        return self.volume.snapshot_id

    @property
    def bytes(self) -> int:
        return self.volume.summary.bytes_processed if self.volume.summary else 0

    @property
    def files(self) -> int:
        return self.volume.summary.files_total if self.volume.summary else 0

    @property
    def room(self) -> int:
        """Bytes that a scratch volume for it must have."""
        return self.bytes + self.files * _FILE_OVERHEAD + _VOLUME_OVERHEAD

    def name(self, verification: str, uid: str, attempt: int) -> str:
        """Of its scratch pod, claim and job; derived, so that it is found again."""
        unique = (uid, self.volume.directory, self.snapshot, str(attempt))
        return naming.object_name(verification, self.volume.volume, unique=unique)


def targets_of(manifest: Manifest) -> list[Target]:
    """The largest first, so that the last one does not run alone for long."""
    found: dict[tuple[str, str], Target] = {}
    for volume in manifest.volumes:
        if volume.restorable and volume.snapshot_id:
            found.setdefault((volume.directory, volume.snapshot_id), Target(volume))
    return sorted(found.values(), key=lambda target: (-target.bytes, target.id))


def empty_of(manifest: Manifest) -> int:
    """Volumes whose promise is that there is nothing in them."""
    return sum(v.restorable and v.empty and not v.snapshot_id for v in manifest.volumes)


def broken_promises(manifest: Manifest) -> list[Failure]:
    """Volumes that the manifest calls backed up without saying where."""
    return [
        Failure(
            object=volume.id,
            reason="NoSnapshotNamed",
            message="the manifest names neither a snapshot nor says that the volume was empty",
        )
        for volume in manifest.volumes
        if volume.restorable and not volume.empty and not volume.snapshot_id
    ]


def missing(targets: Sequence[Target], listed: Mapping[str, Collection[str]]) -> list[Failure]:
    """Targets whose snapshot the store does not list. ``listed``: by repository directory."""
    return [
        Failure(
            object=target.id,
            reason="SnapshotMissing",
            message=f"snapshot {target.snapshot[:8]} is not in {target.volume.directory}",
        )
        for target in targets
        if target.snapshot not in listed.get(target.volume.directory, ())
    ]


def judge(target: Target, job: PodVolumeRestore) -> Failure | None:
    """What a job that has ended says about the promise; None: it is kept."""
    status = job.status
    if status.phase != "Completed":
        reason = status.reason or "Failed"
        return Failure(object=target.id, reason=reason, message=status.message or "no cause given")
    found = status.verified
    if found is None:
        return Failure(
            object=target.id, reason="NotRead", message="the agent did not say what it had read"
        )
    if target.volume.summary is None:
        return None
    if (found.files, found.bytes) != (target.files, target.bytes):
        return Failure(
            object=target.id,
            reason="NotAsPromised",
            message=f"the manifest promises {target.files:,} files with {size(target.bytes)}, and "
            f"{found.files:,} with {size(found.bytes)} came back",
        )
    return None


def untried(failure: Failure) -> bool:
    """Whether it tells nothing about what is stored."""
    return failure.reason in UNTRIED
