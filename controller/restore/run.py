"""One look at one restore: what its steps share, and how they write its status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ararat.api import PodVolumeRestore, Restore
from ararat.api.backup import Failure
from ararat.api.base import Condition, ConditionStatus, utcnow, with_condition
from ararat.api.manifest import Manifest
from ararat.api.names import FINALIZER, RETRY
from ararat.api.restore import RestorePhase, RestoreVolumesMode
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from ararat.naming import label_value
from controller.context import Context
from controller.keptlog import KeptLog
from controller.runlog import RunLog

from .data import BackupData
from .gate import GateSettings
from .gated import GatedPod, read_pods
from .hooks.outcome import Standing
from .source import ObjectsReader
from .stored import StoredObject
from .units import Unit

RESTORES = resource_of(Restore)
JOBS = resource_of(PodVolumeRestore)

#: What says that all is well, or what is in the way.
PROGRESSING = "Progressing"
SUCCEEDED = "Succeeded"

#: Volumes of one restore are looked at, at most, this often (seconds).
STEP_SECONDS = 1.0
#: A look without an event: for what no event announces.
IDLE_SECONDS = 10.0
#: Node jobs are kept this long after the restore ended.
KEEP_JOBS_SECONDS = 3600.0


@dataclass
class Memory:
    """What this process remembers of a restore; all of it can be found or made again."""

    #: Name of the location, and what was read there.
    location: str = ""
    manifest: Manifest | None = None
    data: BackupData = field(default_factory=BackupData)
    #: Namespace as it is now → as it was in the backup.
    sources: dict[str, str] = field(default_factory=dict)
    objects: list[StoredObject] | None = None
    #: Everything that went wrong with objects, and what to look at; status holds the first ones.
    failures: list[Failure] | None = None
    warnings: list[str] = field(default_factory=list)
    #: Stored with the restore: the plan, and how every object of note fared.
    record: dict[str, Any] = field(default_factory=dict)
    #: Names of the claims that its plan owes data to; None: not read yet.
    owed: frozenset[str] | None = None
    #: Whether pods that nobody holds were looked for since the objects were made.
    pods_looked_at: bool = False
    #: When each unit last moved (monotonic), and what it looked like then.
    moved: dict[tuple[str, ...], tuple[object, float]] = field(default_factory=dict)
    #: Since when (monotonic) no pod mounts a claim that is owed data.
    lonely: dict[tuple[str, ...], float] = field(default_factory=dict)
    #: Why a helper could not be made for a claim, in the API server's words.
    helper_refused: dict[tuple[str, ...], str] = field(default_factory=dict)
    kept_log: KeptLog = field(default_factory=KeptLog)
    last_step: float = 0.0
    #: How long it took: large restores are looked at less often.
    step_seconds: float = 0.0
    last_events: float = 0.0
    events: dict[tuple[str, str, str], str] = field(default_factory=dict)
    said: set[tuple[str, str]] = field(default_factory=set)
    failing_since: float | None = None
    #: Since when (monotonic) a namespace that is on its way out is waited for.
    terminating_since: float | None = None
    #: How hooks in restored pods stand; None: not looked at yet.
    hooks: Standing | None = None


@dataclass
class Look:
    """A restore as it is now, and everything needed to act on it."""

    context: Context
    raw: dict[str, Any]
    restore: Restore
    memory: Memory
    log: RunLog
    read_objects: ObjectsReader

    @property
    def cancelled(self) -> bool:
        return is_cancelled(self.raw)

    @property
    def in_place(self) -> bool:
        """Data only, into claims that exist."""
        return self.restore.spec.volumes.mode is RestoreVolumesMode.IN_PLACE

    @property
    def own_namespaces(self) -> frozenset[str]:
        return frozenset({self.context.namespace, self.context.keys_namespace})

    @property
    def gate(self) -> GateSettings:
        policy = self.restore.spec.gate
        return GateSettings(
            image=self.context.gate_image,
            pull_policy=self.context.gate_pull_policy,
            restore=self.restore.name,
            restore_uid=self.restore.uid,
            no_progress_seconds=policy.no_progress_seconds,
            hooks=self.restore.spec.hooks,
            images=self.restore.spec.image_mapping,
        )

    def cancel_asked(self) -> bool:
        """Whether the cache shows a cancel by now; for work that takes longer than one look."""
        latest = self.context.restores.get(self.restore.name, self.restore.metadata.namespace)
        if latest is None or latest["metadata"].get("uid") != self.restore.uid:
            return True
        return is_cancelled(latest)

    def jobs(self) -> list[PodVolumeRestore]:
        """The node jobs that the cache shows."""
        found = self.context.pod_volume_restores.by_index("restore-uid", self.restore.uid)
        return [PodVolumeRestore.parse(raw) for raw in found]

    def pods(self) -> list[GatedPod]:
        """Its gated pods, oldest first."""
        found = self.context.gated_pods.by_index("restore", label_value(self.restore.name))
        return read_pods(found, self.restore.uid)

    async def patch(self, status: Mapping[str, Any]) -> None:
        """Write status and know what was written."""
        self.raw = await patch_status(self.context.api, RESTORES, self.raw, status)
        self.restore = Restore.parse(self.raw)

    def condition(
        self, kind: str, *, holds: bool, reason: str, message: str = ""
    ) -> list[Condition]:
        return with_condition(
            self.restore.status.conditions,
            type=kind,
            status=ConditionStatus.TRUE if holds else ConditionStatus.FALSE,
            reason=reason,
            message=message,
        )

    @property
    def retry_asked(self) -> bool:
        return RETRY in self.restore.metadata.annotations

    async def drop_retry(self) -> None:
        """The retry is under way."""
        self.raw = await self.context.api.patch(
            RESTORES,
            self.restore.name,
            {"metadata": {"annotations": {RETRY: None}}},
            namespace=self.restore.metadata.namespace,
        )
        self.restore = Restore.parse(self.raw)

    async def set_finalizer(self, *, present: bool) -> None:
        """Hold the object, or let it go. Raises ApiConflict: it moved on, look again."""
        held = set(self.restore.metadata.finalizers)
        wanted = held | {FINALIZER} if present else held - {FINALIZER}
        if wanted == held:
            return
        self.raw = await self.context.api.patch(
            RESTORES,
            self.restore.name,
            {
                "metadata": {
                    "finalizers": sorted(wanted),
                    "resourceVersion": self.raw["metadata"]["resourceVersion"],
                }
            },
            namespace=self.restore.metadata.namespace,
        )
        self.restore = Restore.parse(self.raw)

    async def end(
        self,
        phase: RestorePhase,
        *,
        reason: str,
        message: str,
        status: Mapping[str, Any] | None = None,
    ) -> None:
        """The last word on a restore."""
        good = phase is RestorePhase.COMPLETED
        write = self.log.info if good else self.log.error
        write("restore ended", phase=phase.value, reason=reason, message=message)
        conditions = self.condition(SUCCEEDED, holds=good, reason=reason, message=message)
        kept = [c for c in conditions if c.type != PROGRESSING]
        await self.patch(
            {
                **(status or {}),
                "phase": phase.value,
                "message": message or None,
                "completionTime": utcnow().isoformat(),
                "waiting": [],
                "conditions": [condition.to_dict() for condition in kept],
            }
        )
        await self.context.events.event(
            self.raw,
            reason=f"Restore{phase.value}",
            message=message or "everything was brought back",
            type="Normal" if good else "Warning",
        )


@dataclass(frozen=True)
class Filling:
    """What one look at the volumes of a restore found."""

    units: Sequence[Unit]
    waiting: Sequence[Failure]
    overdue: Mapping[tuple[str, ...], Failure]


def is_cancelled(raw: Mapping[str, Any]) -> bool:
    """Cancelled, or on its way out."""
    return bool(raw["metadata"].get("deletionTimestamp") or raw["spec"].get("cancel"))
