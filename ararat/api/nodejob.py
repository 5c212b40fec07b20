"""PodVolumeBackup and PodVolumeRestore: one volume's work on one node."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from .base import Model, Resource, Status


class JobPhase(StrEnum):
    NEW = "New"
    #: ``spec.hold`` is set, and the slots for its whole group are not free yet.
    HELD = "Held"
    #: Slots are kept for it: it starts the moment ``spec.hold`` is taken back.
    RESERVED = "Reserved"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        return self in (JobPhase.COMPLETED, JobPhase.FAILED, JobPhase.CANCELLED)


class PodReference(Model):
    namespace: str = Field(description="Namespace of the pod.")
    name: str = Field(description="Name of the pod.")
    uid: str = Field(description="UID of the pod: the kubelet's name for its directory.")


class ClaimReference(Model):
    name: str = Field(description="Name of the PersistentVolumeClaim.")
    uid: str = Field(default="", description="UID of the PersistentVolumeClaim.")
    volume_name: str = Field(default="", description="PersistentVolume bound to the claim.")


class RepositoryReference(Model):
    """A repository as a node job meets it: where it is and which Secret opens it."""

    location: str = Field(description="BackupLocation that holds it.")
    location_id: str = Field(description="Identity the location must show before anything is read.")
    directory: str = Field(description="Where it stands, below the location's prefix.")
    key_id: str = Field(default="", description="restic key that opens it.")
    password_secret: str = Field(
        description="Secret in Ararat's namespace whose key `password` opens the repository."
    )
    read_only: bool = Field(
        default=False, description="No lock is stored: the location belongs to another cluster."
    )


class Progress(Model):
    total_bytes: int = Field(default=0, description="Bytes known so far.")
    bytes_done: int = Field(default=0, description="Bytes done.")
    total_files: int = Field(default=0, description="Files known so far.")
    files_done: int = Field(default=0, description="Files done.")
    bytes_per_second: int = Field(default=0, description="Rate over the last few seconds.")
    text: str = Field(default="", description="The same for people, as `kubectl get` shows it.")


class BackupSummary(Model):
    files_new: int = Field(default=0, description="Files the parent does not have.")
    files_changed: int = Field(default=0, description="Files that differ from the parent's.")
    files_unmodified: int = Field(default=0, description="Files that are as in the parent.")
    files_total: int = Field(default=0, description="Files in the volume.")
    bytes_processed: int = Field(default=0, description="Size of the volume's files.")
    bytes_added: int = Field(default=0, description="New data before compression.")
    bytes_stored: int = Field(default=0, description="New data as stored.")
    seconds: float = Field(default=0.0, description="How long restic ran.")
    parent: str | None = Field(default=None, description="Snapshot it was compared with.")


class RestoreSummary(Model):
    files_restored: int = Field(default=0, description="Files written.")
    bytes_restored: int = Field(default=0, description="Bytes written.")
    files_total: int = Field(default=0, description="Files in the snapshot.")
    bytes_total: int = Field(default=0, description="Bytes in the snapshot.")
    seconds: float = Field(default=0.0, description="How long restic ran.")


class Verified(Model):
    """What was looked at after a volume had been filled."""

    files: int = Field(default=0, description="Files found in the volume, each name counted.")
    bytes: int = Field(default=0, description="Their size.")
    files_read: int = Field(default=0, description="Files read back and compared, by content.")
    bytes_read: int = Field(default=0, description="Their size.")
    seconds: float = Field(default=0.0, description="How long it took.")


class RootMetadata(Model):
    """The volume's root directory, which restic's source `.` does not keep."""

    mode: int = Field(description="Permission bits with setuid, setgid and sticky, decimal.")
    uid: int = Field(description="Owner, as a number.")
    gid: int = Field(description="Group, as a number.")
    mtime_ns: int = Field(description="Nanoseconds since 1970.")
    xattrs: dict[str, str] = Field(
        default={}, description="Extended attributes (ACLs among them), values in base64."
    )


#: Reason of a job that is under way and does not move.
STALLED = "Stalled"


class NodeJobStatus(Status):
    """What both kinds of node job report."""

    phase: JobPhase = Field(default=JobPhase.NEW, description="Where the job stands.")
    reason: str | None = Field(
        default=None, description="Why it failed, or does not move; one CamelCase word."
    )
    attempts: int = Field(default=0, description="Runs without new stored data so far.")
    start_time: datetime | None = Field(default=None, description="First run's start.")
    completion_time: datetime | None = Field(default=None, description="End, good or bad.")
    heartbeat_time: datetime | None = Field(
        default=None, description="Last sign of life from the agent that runs it."
    )
    progress: Progress = Field(default=Progress(), description="How far it is.")


class PodVolumeBackupSpec(Model):
    backup: str = Field(description="Backup it belongs to.")
    backup_uid: str = Field(description="UID of that Backup; a tag of the snapshot.")
    node: str = Field(description="Node whose agent does the work.")
    pod: PodReference = Field(description="Pod that has the volume.")
    volume: str = Field(description="Name of the volume in the pod.")
    claim: ClaimReference | None = Field(default=None, description="Claim behind the volume.")
    repository: RepositoryReference = Field(description="Where to.")
    host: str = Field(description="restic host: one stable identity per claim or slot.")
    replaces: str = Field(
        default="",
        description="An earlier job for the same volume, whose pod went away; this one reads it "
        "through the pod that took its place.",
    )
    ignore_ctime: bool = Field(
        default=False, description="For fsGroup volumes, whose ctimes the kubelet changes."
    )
    no_progress_seconds: int = Field(
        default=900, ge=10, description="Seconds without progress after which the run is ended."
    )
    excludes: list[str] = Field(default=[], description="Files to leave out, restic patterns.")
    exclude_caches: bool = Field(
        default=False, description="Leave out directories that hold a file CACHEDIR.TAG."
    )
    hold: bool = Field(
        default=False,
        description="Reserve a slot and wait; the job runs when this is set to false.",
    )
    group: str = Field(
        default="",
        description="Jobs of one group (all of one hooked pod) get their slots together or not.",
    )
    cancel: bool = Field(default=False, description="End the job.")


class PodVolumeBackupStatus(NodeJobStatus):
    reserved_time: datetime | None = Field(
        default=None, description="When slots were last reserved for a held job."
    )
    snapshot_id: str | None = Field(default=None, description="Full ID of the snapshot.")
    summary: BackupSummary | None = Field(default=None, description="restic's own summary.")
    root: RootMetadata | None = Field(default=None, description="The volume's root directory.")
    stored: bool = Field(
        default=False,
        description="The current run has stored data that a run after it need not read again.",
    )
    empty: bool = Field(default=False, description="The volume held no file.")
    incomplete: bool = Field(default=False, description="Some files could not be read.")
    unreadable_count: int = Field(default=0, description="How many.")
    unreadable_paths: list[str] = Field(default=[], description="The first 20 of them.")
    socket_count: int = Field(
        default=0, description="Sockets in the volume, which hold no data and are left out."
    )
    socket_paths: list[str] = Field(default=[], description="The first 5 of them.")
    excludes: list[str] = Field(
        default=[], description="Patterns that were in force, those of .araratignore among them."
    )


class PodVolumeBackup(Resource[PodVolumeBackupSpec, PodVolumeBackupStatus]):
    """One volume to back up on one node: made by the controller, done by the node's agent."""

    KIND: ClassVar[str] = "PodVolumeBackup"
    PLURAL: ClassVar[str] = "podvolumebackups"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("pvb",)
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Backup", "string", ".spec.backup", 0),
        ("Namespace", "string", ".spec.pod.namespace", 0),
        ("Pod", "string", ".spec.pod.name", 0),
        ("Volume", "string", ".spec.volume", 0),
        ("Node", "string", ".spec.node", 0),
        ("Progress", "string", ".status.progress.text", 0),
        ("Message", "string", ".status.message", 0),
    )


class Role(StrEnum):
    FILL = "Fill"
    FOLLOW = "Follow"
    ANSWER = "Answer"


class Answer(StrEnum):
    """The last word on a volume that is not filled (any more)."""

    RELEASED = "Released"
    REFUSED = "Refused"
    FAILED = "Failed"


class RestoreMode(StrEnum):
    NEW_POD = "NewPod"
    IN_PLACE = "InPlace"
    SCRATCH = "Scratch"


class Verify(StrEnum):
    """What is checked after a volume was filled, besides restic's own word."""

    NONE = "None"
    SAMPLE = "Sample"
    FULL = "Full"


class ExistingData(StrEnum):
    """What becomes of data that a new volume holds before it is filled."""

    REFUSE = "Refuse"
    MERGE = "Merge"
    REPLACE = "Replace"


class PodVolumeRestoreSpec(Model):
    restore: str = Field(description="Restore it belongs to; for Scratch, BackupVerification.")
    restore_uid: str = Field(description="UID of that object.")
    node: str = Field(description="Node whose agent does the work.")
    pod: PodReference = Field(description="Gated pod that has the volume.")
    volume: str = Field(description="Name of the volume in the pod.")
    claim: ClaimReference | None = Field(default=None, description="Claim behind the volume.")
    repository: RepositoryReference = Field(description="Where from.")
    snapshot_id: str | None = Field(
        default=None, description="Full ID of the snapshot; unset for a volume that was empty."
    )
    root: RootMetadata | None = Field(default=None, description="Reapplied to the root directory.")
    role: Role = Field(
        default=Role.FILL,
        description="Fill: restore, then answer the gate. Follow: answer the gate with another "
        "job's outcome. Answer: tell the gate `answer`.",
    )
    follows: str | None = Field(
        default=None, description="For Follow: the PodVolumeRestore whose outcome it answers."
    )
    answer: Answer | None = Field(
        default=None,
        description="For Answer: Released opens the gate, Refused ends it with code 1, Failed "
        "keeps it closed.",
    )
    cause: str = Field(default="", description="For Answer: what the gate says about it.")
    mode: RestoreMode = Field(
        default=RestoreMode.NEW_POD,
        description="NewPod: into the empty volume of a pod that stands at its gate. InPlace: over "
        "what is in the volume of a pod that runs. Scratch: into the empty volume of a pod of "
        "Ararat's own, for a verification.",
    )
    verify: Verify = Field(
        default=Verify.SAMPLE,
        description="Afterwards. Sample: number and sizes of all files, and the content of some. "
        "Full: the content of all. None: restic's own word.",
    )
    paths: list[str] = Field(default=[], description="InPlace: only these; empty is everything.")
    delete_extra: bool = Field(
        default=False, description="InPlace: remove what the snapshot does not have."
    )
    existing_data: ExistingData = Field(
        default=ExistingData.REFUSE,
        description="NewPod: a volume that is not empty is refused; Merge: filled all the same, "
        "files of the same name are overwritten; Replace: what the snapshot does not have is "
        "removed.",
    )
    takes_over: str | None = Field(
        default=None,
        description="For Fill: an earlier job of this restore whose partial data it replaces.",
    )
    attempt: int = Field(
        default=0,
        description="How many jobs there were before for this pod and volume; the newest answers "
        "the gate.",
    )
    expected_bytes: int = Field(default=0, description="Size of the snapshot, for progress.")
    expected_files: int = Field(default=0, description="Files in the snapshot, for progress.")
    no_progress_seconds: int = Field(
        default=900, ge=10, description="Seconds without progress after which the run is ended."
    )
    cancel: bool = Field(default=False, description="End the job.")


class PodVolumeRestoreStatus(NodeJobStatus):
    wrote: bool = Field(
        default=False,
        description="Data was written, so a further attempt replaces what it finds.",
    )
    summary: RestoreSummary | None = Field(default=None, description="restic's own summary.")
    verified: Verified | None = Field(default=None, description="What was checked afterwards.")
    failed_count: int = Field(default=0, description="Files that could not be restored.")
    failed_paths: list[str] = Field(default=[], description="The first 20 of them.")


class PodVolumeRestore(Resource[PodVolumeRestoreSpec, PodVolumeRestoreStatus]):
    """One volume to fill on one node: made by the controller, done by the node's agent."""

    KIND: ClassVar[str] = "PodVolumeRestore"
    PLURAL: ClassVar[str] = "podvolumerestores"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("pvr",)
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Restore", "string", ".spec.restore", 0),
        ("Namespace", "string", ".spec.pod.namespace", 0),
        ("Pod", "string", ".spec.pod.name", 0),
        ("Volume", "string", ".spec.volume", 0),
        ("Node", "string", ".spec.node", 0),
        ("Progress", "string", ".status.progress.text", 0),
        ("Message", "string", ".status.message", 0),
    )
