"""What restic is asked for, and what it answers, as plain frozen data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

#: Unreadable or failed paths kept with a result; all of them are counted.
PATHS_KEPT = 1000
#: Changes kept of a comparison of two snapshots; all are counted.
CHANGES_KEPT = 10_000


class Access(StrEnum):
    """What a session may do to a repository. The server enforces it, whatever restic sends."""

    #: Nothing is written, not even a lock: for another cluster's location.
    READ_ONLY = "ReadOnly"
    #: Node jobs and objects: nothing but the session's own locks can be removed or overwritten.
    APPEND_ONLY = "AppendOnly"
    #: May delete data: forget, prune.
    MAINTENANCE = "Maintenance"


@dataclass(frozen=True)
class LockOwner:
    """Who holds a lock; stored with it in the same request."""

    cluster: str
    pod_uid: str
    #: When the container started: a later container of the same pod proves that this one is gone.
    container_start: str
    #: UID of the node job (or of the backup, for its objects).
    job: str
    #: The node's lock that it holds for as long as it runs; empty: none. Whoever holds that very
    #: lock later proves that this one has ended.
    node_lock: str = ""


@dataclass(frozen=True)
class PathError:
    """A path that restic could not read or write, and why."""

    path: str
    message: str


#: The name that backup results use.
UnreadableFile = PathError


class Confinement(StrEnum):
    """What to do where the kernel cannot confine restic to its directories (Landlock)."""

    #: Refuse to run (NotConfinable): a pod may be swapping directories for links.
    REQUIRED = "Required"
    #: Run unconfined: nobody else uses the directory, or exposure is accepted and shown.
    WHERE_POSSIBLE = "WherePossible"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How hard restic works. None leaves restic's own default: 2 readers, 16 MiB packs (96 MiB of
    temporary space), 5 connections. Chosen by volume in ``tuning``.
    """

    read_concurrency: int | None = None
    #: MiB, 4 to 128.
    pack_size: int | None = None
    #: auto, off, max; fastest and better from 0.19, below which they mean auto. Fastest needs 3.6 s
    #: of CPU for 400 MiB where auto needs 5.8, half of it random, half hexadecimal text, and stores
    #: a quarter more; on libraries and documents 3.7 s against 4.5, and 82 MB against 80. What
    #: agents are short of first are processors (docs/performance.md).
    compression: str | None = "fastest"
    connections: int | None = None
    #: The scan pass only serves the progress estimate; it costs time on network volumes.
    scan: bool = True


@dataclass(frozen=True)
class LastRun:
    """What is known of a volume's size before it is read or written."""

    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class BackupRequest:
    #: The volume: a path, or an open descriptor of the directory that was proven to be the mount
    #: (it stays the caller's to close). It becomes restic's working directory.
    source: Path | int
    host: str
    tags: tuple[str, ...] = ()
    #: Full id of a snapshot that exists (``parent.choose_parent``). None: restic takes the newest
    #: of the same host.
    parent: str | None = None
    #: The kubelet changes ctimes where a pod has an fsGroup.
    ignore_ctime: bool = False
    #: After a restore or a copy, where inode numbers are all new.
    ignore_inode: bool = False
    #: Read everything again, whatever the parent says.
    force: bool = False
    #: restic patterns; one that starts with ``/`` is taken from the volume's root.
    excludes: tuple[str, ...] = ()
    exclude_caches: bool = False
    #: Do not descend into what is mounted below the volume.
    one_file_system: bool = True
    confinement: Confinement = Confinement.WHERE_POSSIBLE
    #: For choosing the tuning.
    last: LastRun | None = None
    #: None: chosen (``tuning.for_backup``).
    tuning: Tuning | None = None


@dataclass(frozen=True, kw_only=True)
class BackupProgress:
    """restic's own status line, about once a second; totals grow while it scans."""

    seconds: float = 0.0
    total_files: int = 0
    files_done: int = 0
    total_bytes: int = 0
    bytes_done: int = 0
    errors: int = 0
    current_files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BackupResult:
    """A finished backup. ``incomplete`` (exit code 3) is a result, not an error.

    ``empty``: the volume held nothing that restic stores, so there is no snapshot and
    ``snapshot_id`` is None. Such a volume restores to an empty one.
    """

    snapshot_id: str | None
    empty: bool = False
    incomplete: bool = False
    #: At most PATHS_KEPT of them.
    unreadable: tuple[PathError, ...] = ()
    unreadable_count: int = 0
    #: The parent that was asked for.
    parent: str | None = None
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    files_total: int = 0
    directories_new: int = 0
    directories_changed: int = 0
    directories_unmodified: int = 0
    #: Size of the volume's files.
    bytes_processed: int = 0
    #: New data, before compression.
    bytes_added: int = 0
    #: New data, as stored.
    bytes_stored: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    #: Largest resident size seen, in bytes.
    peak_rss: int = 0
    #: What restic read, from files and from the server: an unchanged volume is not read again.
    bytes_read: int = 0
    #: Whether restic could reach nothing but the volume.
    confined: bool = False


@dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    #: Full id.
    snapshot_id: str
    #: The volume: a path or an open descriptor of its directory.
    target: Path | int
    #: Runs of zeros become holes.
    sparse: bool = True
    #: Remove what the snapshot does not have (``--delete``), except the volume's ``lost+found``:
    #: a retry replaces its own partial data.
    replace: bool = False
    #: Read everything back afterwards.
    verify: bool = False
    #: Only these, as restic patterns within the snapshot (``/dir/file``); empty is everything.
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    confinement: Confinement = Confinement.WHERE_POSSIBLE
    #: For choosing the tuning: what the snapshot holds.
    expected: LastRun | None = None
    #: None: chosen (``tuning.for_restore``).
    tuning: Tuning | None = None


@dataclass(frozen=True, kw_only=True)
class RestoreProgress:
    seconds: float = 0.0
    total_files: int = 0
    files_done: int = 0
    total_bytes: int = 0
    bytes_done: int = 0


@dataclass(frozen=True, kw_only=True)
class RestoreResult:
    """A finished restore. ``failed`` paths are in the result; the caller decides what they mean.

    restic counts directories and links as files. The totals are restored and skipped together:
    skipped is what the target held already.
    """

    files_total: int = 0
    files_restored: int = 0
    files_skipped: int = 0
    files_deleted: int = 0
    bytes_total: int = 0
    bytes_restored: int = 0
    bytes_skipped: int = 0
    #: At most PATHS_KEPT of them.
    failed: tuple[PathError, ...] = ()
    failed_count: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss: int = 0
    confined: bool = False


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    #: Full id.
    snapshot_id: str
    #: The volume: a path or an open descriptor of its directory. Nothing is written into it.
    target: Path | int
    #: Only these, as restic patterns within the snapshot (``/dir/file``); empty is everything.
    include: tuple[str, ...] = ()
    #: Whether a lock is stored meanwhile. Without one, an index that is replaced under it fails it.
    lock: bool = True
    confinement: Confinement = Confinement.WHERE_POSSIBLE


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """Content of files against the snapshot's checksums. Names are not compared where nothing is
    missing; owners, modes and times are not compared at all."""

    #: Files, and their bytes, that are as in the snapshot.
    files_same: int = 0
    bytes_same: int = 0
    #: At most PATHS_KEPT of those whose content differs or is missing.
    different: tuple[str, ...] = ()
    different_count: int = 0
    #: What could not be looked at.
    failed: tuple[PathError, ...] = ()
    failed_count: int = 0
    seconds: float = 0.0


OnBackupProgress = Callable[[BackupProgress], None]
OnRestoreProgress = Callable[[RestoreProgress], None]


@dataclass(frozen=True, kw_only=True)
class SnapshotSummary:
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    bytes_processed: int = 0
    files_processed: int = 0
    bytes_added: int = 0
    bytes_stored: int = 0
    backup_start: datetime | None = None
    backup_end: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    id: str
    time: datetime
    hostname: str = ""
    tags: tuple[str, ...] = ()
    parent: str | None = None
    #: Of a snapshot that ``copy`` or ``repair snapshots`` made: the one it was made from.
    original: str | None = None
    paths: tuple[str, ...] = ()
    tree: str = ""
    program_version: str = ""
    excludes: tuple[str, ...] = ()
    summary: SnapshotSummary | None = None

    def has_tag(self, tag: str) -> bool:
        return tag in self.tags


@dataclass(frozen=True)
class RepositoryConfig:
    id: str
    version: int
    #: Hexadecimal; by it data is cut.
    chunker_polynomial: str


@dataclass(frozen=True, kw_only=True)
class Node:
    """One entry of a snapshot. Names that are not UTF-8 come out damaged (restic's ``ls``)."""

    path: str
    type: str
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    modified: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RepositoryStats:
    """``stats --mode raw-data``: what is stored, counted once."""

    total_size: int = 0
    total_uncompressed_size: int = 0
    blobs: int = 0
    snapshots: int = 0


@dataclass(frozen=True, kw_only=True)
class SnapshotStats:
    """``stats --mode restore-size``: what a restore would write."""

    total_size: int = 0
    files: int = 0


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    errors: int = 0
    messages: tuple[str, ...] = ()
    broken_packs: tuple[str, ...] = ()
    suggest_repair_index: bool = False
    suggest_prune: bool = False
    peak_rss: int = 0

    @property
    def ok(self) -> bool:
        return self.errors == 0 and not self.broken_packs


@dataclass(frozen=True, kw_only=True)
class PruneRequest:
    #: restic's ``--max-unused``: how much unused data may stay, as ``5%`` or a size.
    max_unused: str | None = None
    #: Bounds the work of one run, as a size.
    max_repack_size: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    id: str
    current: bool = False
    user: str = ""
    host: str = ""
    created: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FindRequest:
    #: restic patterns, as for excludes: a name, or a path with wildcards.
    patterns: tuple[str, ...]
    host: str | None = None
    #: Only these; empty is all snapshots (of ``host``).
    snapshot_ids: tuple[str, ...] = ()
    ignore_case: bool = False


@dataclass(frozen=True)
class Found:
    """What ``find`` met in one snapshot."""

    snapshot_id: str
    matches: tuple[Node, ...]


@dataclass(frozen=True)
class Change:
    path: str
    #: restic's letters: ``+`` added, ``-`` removed, ``M`` content, ``U`` metadata, ``T`` type.
    modifier: str


@dataclass(frozen=True, kw_only=True)
class DiffCounts:
    files: int = 0
    directories: int = 0
    others: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class DiffResult:
    changed_files: int = 0
    added: DiffCounts = DiffCounts()
    removed: DiffCounts = DiffCounts()
    #: At most CHANGES_KEPT of them.
    changes: tuple[Change, ...] = ()
    change_count: int = 0


@dataclass(frozen=True)
class Replaced:
    """A snapshot that was made from another one, by ``copy`` or ``repair snapshots``."""

    original: str
    id: str


@dataclass(frozen=True, kw_only=True)
class CopySource:
    """Where ``copy`` reads: the URL and key of another session's repository."""

    url: str
    key_id: str = ""
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class LockContent:
    """What a lock says about its holder, decrypted: restic's own view, for people."""

    time: datetime | None = None
    exclusive: bool = False
    hostname: str = ""
    username: str = ""
    pid: int = 0


@dataclass(frozen=True, kw_only=True)
class OperationStats:
    requests: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SessionStats:
    """What the server did for a session, by operation: ``put data``, ``get index``, ..."""

    operations: dict[str, OperationStats] = field(default_factory=dict)
    #: How many of restic's processes ended how, by command and exit code (or signal's name).
    exits: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def bytes_in(self) -> int:
        return sum(stats.bytes_in for stats in self.operations.values())

    @property
    def bytes_out(self) -> int:
        return sum(stats.bytes_out for stats in self.operations.values())
