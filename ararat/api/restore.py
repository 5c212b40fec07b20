"""Restore: what to bring back, where to, and what came of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field, model_validator

from .backup import Failure, Selection
from .base import Model, Resource, Status
from .hooks import RestoreHooks
from .nodejob import ExistingData, Progress, Verify


class RestoreVolumesMode(StrEnum):
    NEW_POD = "NewPod"
    IN_PLACE = "InPlace"
    NONE = "None"


class ExistingResourcePolicy(StrEnum):
    NONE = "None"
    UPDATE = "Update"


class RestoreVolumes(Model):
    mode: RestoreVolumesMode = Field(
        default=RestoreVolumesMode.NEW_POD,
        description="NewPod: into the new volumes of restored pods. InPlace: into claims that "
        "exist, through pods that run; no objects. None: objects only.",
    )
    include: list[str] = Field(
        default=[],
        description="InPlace: claims as `namespace/claim`, named as in the backup; may be globs. "
        "Empty: every claim that the backup has data for.",
    )
    paths: list[str] = Field(
        default=[],
        description="InPlace: only these files and directories, from the volume's root.",
    )
    delete_extra: bool = Field(
        default=False,
        description="InPlace: remove what the backup does not have (within `paths`).",
    )
    existing_data: ExistingData = Field(
        default=ExistingData.REFUSE,
        description="NewPod: what becomes of files that a new volume holds already (a retained or "
        "shared directory). Refuse: the volume fails; Merge: files of the same name are "
        "overwritten, others stay; Replace: others are removed.",
    )
    verify: Verify = Field(
        default=Verify.SAMPLE,
        description="What is checked before a filled volume's pods start. Sample: number and sizes "
        "of all files, and the content of some. Full: all is read back. None: restic's own word.",
    )
    scale_down: bool = Field(
        default=False,
        description="InPlace: scale the workloads that use a claim to zero first, and to what they "
        "were afterwards.",
    )
    allow_missing: bool = Field(
        default=False,
        description="Let pods start on volumes whose data the backup does not have.",
    )
    reuse: bool = Field(
        default=False,
        description="Attach the old disks of claims without file data, also another cluster's.",
    )


class OnFailure(StrEnum):
    BLOCK = "Block"
    START = "Start"


class GatePolicy(Model):
    no_progress_seconds: int = Field(
        default=900, ge=10, description="Seconds without progress after which a volume fails."
    )
    on_failure: OnFailure = Field(
        default=OnFailure.BLOCK,
        description="Block: a pod whose volume failed does not start. Start: it does.",
    )


class ReleaseAction(StrEnum):
    START = "Start"
    FAIL = "Fail"


#: Why nothing is written into a claim: it is not there.
CLAIM_GONE = "ClaimGone"


class Release(Model):
    """A person's word on volumes that are not filled."""

    volume: str = Field(
        default="",
        description="`namespace/claim`, or `namespace/pod/volume` of a volume that lives with its "
        "pod. Empty: every volume that is not filled.",
    )
    action: ReleaseAction = Field(
        default=ReleaseAction.START,
        description="Start: its pods start on what is there. Fail: their gates end with code 1, "
        "and the claim stays marked.",
    )


class RestoreSpec(Selection):
    backup: str = Field(default="", description="Backup to restore; this or `schedule`.")
    schedule: str = Field(
        default="",
        description="Restore the newest Completed backup of this schedule; `status.backup` says "
        "which one that was when the restore began.",
    )
    namespace_mapping: dict[str, str] = Field(
        default={}, description="Old namespace to new namespace."
    )
    storage_class_mapping: dict[str, str] = Field(
        default={}, description="Old storage class to new storage class."
    )
    image_mapping: dict[str, str] = Field(
        default={}, description="Beginnings of image names: old to new."
    )
    existing_resource_policy: ExistingResourcePolicy = Field(
        default=ExistingResourcePolicy.NONE,
        description="None: what exists is left alone. Update: it is made as it is in the backup.",
    )
    resource_modifiers: str = Field(
        default="", description="ConfigMap in Ararat's namespace with rules that change objects."
    )
    preserve_node_ports: bool = Field(
        default=False, description="Keep node ports that the old cluster allocated."
    )
    volumes: RestoreVolumes = Field(default=RestoreVolumes(), description="What of volumes.")
    gate: GatePolicy = Field(default=GatePolicy(), description="How pods are held.")
    hooks: RestoreHooks = Field(
        default=RestoreHooks(),
        description="Init containers and commands for restored pods.",
    )
    isolated: bool = Field(
        default=False,
        description="Leave out, or change, whatever would reach beyond the namespaces it goes to, "
        "which must be there; verifications that run pods set it.",
    )
    dry_run: bool = Field(default=False, description="Make the plan, store it, and stop.")
    released: list[Release] = Field(
        default=[],
        description="Volumes that are not waited for any more: `ararat restore release`.",
    )
    cancel: bool = Field(default=False, description="Ends the restore; pods stay blocked.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.backup) == bool(self.schedule):
            raise ValueError("say what to restore: either 'backup' or 'schedule'")
        return self


class RestorePhase(StrEnum):
    NEW = "New"
    IN_PROGRESS = "InProgress"
    FINALIZING = "Finalizing"
    COMPLETED = "Completed"
    PARTIALLY_FAILED = "PartiallyFailed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        return self in (
            RestorePhase.COMPLETED,
            RestorePhase.PARTIALLY_FAILED,
            RestorePhase.FAILED,
            RestorePhase.CANCELLED,
        )


class ObjectCounts(Model):
    created: int = Field(default=0, description="Made anew.")
    updated: int = Field(default=0, description="Existed, and were made as in the backup.")
    left_alone: int = Field(default=0, description="Existed, and were not touched.")
    failed: int = Field(default=0, description="Could not be made.")
    total: int = Field(default=0, description="In the plan.")
    text: str = Field(default="", description="The same for people.")


class VolumeCounts(Model):
    total: int = Field(default=0, description="Volumes to fill.")
    completed: int = Field(default=0, description="Filled and checked.")
    failed: int = Field(default=0, description="Not filled.")
    released: int = Field(default=0, description="Not filled, and given up by a person.")
    text: str = Field(default="", description="The same for people.")


class RestoreHookCounts(Model):
    """How hooks of restored pods fared."""

    pods: int = Field(default=0, description="Pods that have hooks, and whose volumes are filled.")
    attempted: int = Field(default=0, description="Hooks run, or tried to.")
    failed: int = Field(default=0, description="Hooks that failed.")
    waiting: int = Field(default=0, description="Pods whose hooks have not ended yet.")
    text: str = Field(default="", description="The same for people.")


class ScaledWorkload(Model):
    """A workload that was scaled to zero for a restore in place."""

    resource: str = Field(description="Kind, as in deployments.apps.")
    namespace: str = Field(description="Its namespace.")
    name: str = Field(description="Its name.")
    uid: str = Field(description="Its UID: one that was made again is left alone.")
    replicas: int = Field(description="What it is scaled to in the end.")

    @property
    def id(self) -> str:
        return f"{self.resource} {self.namespace}/{self.name}"


class RestoreStatus(Status):
    phase: RestorePhase = Field(default=RestorePhase.NEW, description="Where the restore stands.")
    backup: str = Field(default="", description="Backup that is restored.")
    start_time: datetime | None = Field(default=None, description="When work began.")
    completion_time: datetime | None = Field(default=None, description="When it ended.")
    plan: str = Field(default="", description="ConfigMap beside the restore that holds its plan.")
    objects: ObjectCounts = Field(default=ObjectCounts(), description="How API objects fared.")
    objects_done: bool = Field(default=False, description="Every object of the plan was tried.")
    volumes: VolumeCounts = Field(default=VolumeCounts(), description="How volumes fared.")
    progress: Progress = Field(default=Progress(), description="Sum over its volumes.")
    scaled_down: list[ScaledWorkload] = Field(
        default=[], description="Workloads that are scaled up again when it ends."
    )
    hooks: RestoreHookCounts | None = Field(
        default=None, description="How hooks of restored pods fared."
    )
    waiting: list[Failure] = Field(
        default=[], description="What it waits for right now and why, at most 20."
    )
    failures: list[Failure] = Field(default=[], description="What went wrong, at most 50.")
    failure_count: int = Field(default=0, description="How many went wrong.")
    warnings: list[str] = Field(default=[], description="What to look at, at most 50.")
    warning_count: int = Field(default=0, description="How many.")


class Restore(Resource[RestoreSpec, RestoreStatus]):
    """Brings back what a backup holds: objects first, then each pod when its volumes are filled."""

    KIND: ClassVar[str] = "Restore"
    PLURAL: ClassVar[str] = "restores"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Backup", "string", ".status.backup", 0),
        ("Objects", "string", ".status.objects.text", 0),
        ("Volumes", "string", ".status.volumes.text", 0),
        ("Progress", "string", ".status.progress.text", 0),
        ("Completed", "date", ".status.completionTime", 0),
        ("Message", "string", ".status.message", 0),
    )

    @property
    def backup(self) -> str:
        """Name of the backup that is restored; empty while its schedule's is not chosen yet."""
        return self.status.backup or self.spec.backup
