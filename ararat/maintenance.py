"""What the controller and a maintenance job say to each other: a task, and what came of it.

The task is in the job's environment, the result in its container's termination message, which the
kubelet hands to the API server: at most 4 KiB, and still there when the pod has ended.
"""

from __future__ import annotations

from pydantic import Field

from ararat.api.base import Model
from ararat.api.nodejob import RepositoryReference
from ararat.api.repository import MaintenanceAction

TASK = "ARARAT_MAINTENANCE_TASK"
#: Keys of the job's Secret besides the password: full IDs, 32 bytes each, one after the other.
PROMISED = "promised"
#: Of the repository that is copied into.
TARGET_PASSWORD = "target-password"  # noqa: S105 - the name of a key, not a password
_ID_BYTES = 32
#: A Secret holds 1 MiB.
PROMISED_LIMIT = 25_000


class CopyTarget(Model):
    """The repository that snapshots are copied into; in the same location."""

    directory: str
    key_id: str = ""


class MaintenanceTask(Model):
    action: MaintenanceAction
    repository: RepositoryReference
    #: Of REENCRYPT, which copies what PROMISED names.
    target: CopyTarget | None = None
    #: Of 30; 0: structure only.
    data_subset: int = 0
    max_repack_size: str | None = None
    #: Remove at once what prune drops: for a store that is full.
    at_once: bool = False
    #: Keep some room on a file system for the day when it is full.
    keep_reserve: bool = False
    #: It ends itself after this long; 0: it may take all the time there is.
    window_seconds: int = 0
    #: Pods whose containers have ended: their locks are dead.
    ended_pods: list[str] = []


class MaintenanceResult(Model):
    good: bool
    reason: str = ""
    message: str = ""
    size_bytes: int = 0
    used_bytes: int | None = Field(default=None)
    dropped_bytes: int = 0
    #: ISO time; empty: nothing is kept.
    dropped_since: str = ""
    reclaimed_bytes: int = 0

    def encode(self) -> str:
        return self.model_copy(update={"message": self.message[:2000]}).model_dump_json(
            by_alias=True
        )


def pack_ids(ids: list[str]) -> bytes:
    return b"".join(bytes.fromhex(id_) for id_ in ids)


def unpack_ids(data: bytes) -> frozenset[str]:
    return frozenset(
        data[start : start + _ID_BYTES].hex() for start in range(0, len(data), _ID_BYTES)
    )
