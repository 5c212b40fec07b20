"""The manifest: its existence in a location is what makes a backup exist.

Written last and create-only. It names everything a restore needs, holds no secret, and carries an
HMAC under a key derived from the master key, so that whoever can write to the store cannot make a
restore run what they wrote.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from ararat import sealed
from ararat.errors import Damaged

from .backup import BackupPhase, BackupSpec, CoverageCounts, Failure, ObjectsResult
from .base import Model
from .nodejob import BackupSummary, ClaimReference, RootMetadata

FORMAT_VERSION = 1


class Coverage(StrEnum):
    BACKED_UP = "BackedUp"
    INCOMPLETE = "Incomplete"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    UNPROTECTED = "Unprotected"


class ManifestVolume(Model):
    """One volume that the backup met, whatever became of it."""

    namespace: str
    pod: str
    pod_uid: str = ""
    volume: str
    volume_type: str = Field(default="", description="persistentVolumeClaim, emptyDir, ...")
    claim: ClaimReference | None = None
    storage_class: str | None = None
    access_modes: list[str] = []
    capacity: str | None = None
    node: str = ""
    owner_kind: str = Field(default="", description="Kind of the pod's controller, if any.")
    owner_name: str = ""
    coverage: Coverage
    reason: str = ""
    message: str = ""
    directory: str = Field(default="", description="Repository directory in the location.")
    host: str = ""
    snapshot_id: str | None = None
    root: RootMetadata | None = None
    empty: bool = False
    unreadable_count: int = 0
    unreadable_paths: list[str] = Field(default=[], description="The first of them.")
    socket_count: int = Field(default=0, description="Sockets, which no snapshot holds.")
    socket_paths: list[str] = Field(default=[], description="The first of them.")
    excludes: list[str] = Field(default=[], description="Patterns of files that were left out.")
    summary: BackupSummary | None = None

    @property
    def restorable(self) -> bool:
        return self.coverage in (Coverage.BACKED_UP, Coverage.INCOMPLETE)

    @property
    def id(self) -> str:
        """``namespace/pod/volume``, as shown to people; ``-`` is a claim that no pod mounts."""
        return f"{self.namespace}/{self.pod or '-'}/{self.volume}"


class ManifestHooks(Model):
    """A pod that had commands run before and after its volumes were read, and for how long.

    The commands and what they printed are in the encrypted snapshot that ``hooks_output`` names.
    """

    namespace: str
    pod: str
    pre: int = 0
    post: int = 0
    #: Commands that were run or tried, and how many of them failed.
    attempted: int = 0
    failed: int = 0
    #: When the first pre hook began, and how long it took until the last post hook had ended.
    frozen_at: datetime | None = None
    frozen_seconds: float | None = None
    reason: str = ""
    message: str = ""

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.pod}"


class ManifestRepository(Model):
    """A repository that this backup's snapshots stand in."""

    directory: str
    key_id: str = ""
    #: The name that the password is derived from; see ararat.keys.
    repository_name: str = ""


class Manifest(Model):
    format_version: int = FORMAT_VERSION
    ararat_version: str = ""
    backup: str
    backup_uid: str
    cluster_uid: str
    cluster_version: str = ""
    location_id: str
    spec: BackupSpec
    phase: BackupPhase
    start_time: datetime
    completion_time: datetime
    namespaces: list[str] = []
    objects: ObjectsResult
    repositories: list[ManifestRepository] = []
    volumes: list[ManifestVolume] = []
    hooks: list[ManifestHooks] = []
    hooks_output: ObjectsResult | None = None
    coverage: CoverageCounts = CoverageCounts()
    failures: list[Failure] = []
    warnings: list[str] = []

    def encode(self, mac_key: bytes) -> bytes:
        """Canonical JSON with its HMAC-SHA256 in ``hmac``."""
        return sealed.seal(self.to_dict(), mac_key)


def decode_manifest(data: bytes, *mac_keys: bytes) -> Manifest:
    """Parse and check a stored manifest; one of ``mac_keys`` must have signed it.

    Raises Damaged: not JSON, of a newer format, or its HMAC is not ours.
    """
    body = sealed.parse(data, what="the manifest")
    version = body.get("formatVersion")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise Damaged(
            f"the manifest has format {version}, this Ararat reads up to {FORMAT_VERSION}: upgrade",
            reason="NewerFormat",
        )
    body = sealed.verified(body, *mac_keys, what="the manifest", reason="ManifestForged")
    try:
        return Manifest.model_validate(body)
    except ValueError as exc:
        raise Damaged(f"the manifest does not have the expected fields: {exc}") from exc
