"""One look at a verification, and what follows from it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from ararat.api import Backup, BackupVerification
from ararat.api.backup import BackupPhase, Failure
from ararat.api.manifest import Manifest
from ararat.api.names import FINALIZER
from ararat.api.verification import VerificationPhase
from ararat.errors import AraratError, Damaged, Retryable
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.deletion.snapshots import listed
from controller.location.open import OpenLocation
from controller.restore.source import ObjectsReader, read_manifest

from . import run
from .memory import Memory, key
from .steps import Ended
from .targets import broken_promises, judge, missing, targets_of
from .turn import Cancelled, NotNow, Turn
from .verdict import Findings
from .volumes import Volumes

_KIND = resource_of(BackupVerification)
_SAY_SECONDS = 2.0
_SHOWN_WAITING = 20
#: A namespace that takes longer to go is seen to afterwards.
_REMOVAL_SECONDS = 600.0
log = structlog.get_logger("controller.verification")


@dataclass
class Look:
    context: Context
    raw: dict[str, Any]
    verification: BackupVerification
    memory: Memory
    turn: Turn
    objects: ObjectsReader

    async def step(self) -> bool:
        """Whether everything has ended. Raises NotNow, Cancelled, AraratError."""
        if self.verification.metadata.deletion_timestamp is not None:
            raise Cancelled("deleted")
        backup = self._backup()
        if self.verification.spec.cancel:
            raise Cancelled("cancelled; nothing was changed by it")
        if self.verification.status.phase is VerificationPhase.NEW:
            if self.verification.spec.run is not None:
                run.refuse_if_forbidden(self)
            await self._begin(backup)
        location = await self.context.location(backup.status.location or "")
        if self.memory.manifest is None:
            await self._load(location)
        if self.verification.status.objects is None and self.memory.objects_failure is None:
            await self._objects(location)
        await self._list(location)
        left = ""
        if self.verification.spec.run is not None:
            if waiting := await run.step(self, self._manifest):
                await self.say(waiting)
                return False
            self._count_what_ran()
            left = await self._remove_what_ran()
        waiting = await Volumes(self.context, self.verification, self.memory).look(location)
        if len(self.memory.ended) == len(self.memory.targets) and not left:
            return True
        await self.say([*waiting, *([_removal(left)] if left else [])])
        return False

    @property
    def findings(self) -> Findings:
        return Findings(self.memory, self.verification.status)

    @property
    def runs(self) -> bool:
        """Whether its pods are under way, which is looked at more often."""
        state = self.verification.status.run
        return state is not None and not state.removed

    # --- the beginning ---

    def _backup(self) -> Backup:
        name = self.verification.spec.backup
        raw = self.context.backups.get(name, self.context.namespace)
        if raw is None and self.verification.status.phase is VerificationPhase.NEW:
            raise AraratError(f"there is no backup {name!r}", reason="BackupNotFound")
        if raw is None:
            raise Cancelled(f"backup {name} is gone", reason="BackupDeleted")
        backup = Backup.parse(raw)
        phase = backup.status.phase
        if phase is BackupPhase.DELETING:
            raise Cancelled(f"backup {name} is being deleted", reason="BackupDeleted")
        if not phase.terminal:
            text = f"waits for the end of the backup, which is {phase}"
            raise NotNow(Failure(object=name, reason="BackupRunning", message=text))
        if not phase.restorable or backup.status.location is None:
            raise AraratError(f"backup {name} is {phase}: it holds nothing", reason="BackupEmpty")
        return backup

    async def _begin(self, backup: Backup) -> None:
        other = self.turn.of_another(self.context.verifications.items(), self.verification.uid)
        if other is not None:
            text = f"waits for {other}, which reads now"
            raise NotNow(Failure(object="turn", reason="OtherVerification", message=text))
        self.turn.take(self.verification.uid)
        # It goes with its backup.
        owner = {**backup.owner_reference(), "controller": False}
        self.raw = await self.context.api.patch(
            _KIND,
            self.verification.name,
            {
                "metadata": {
                    "ownerReferences": [owner],
                    "resourceVersion": self.raw["metadata"]["resourceVersion"],
                }
            },
            namespace=self.context.namespace,
        )
        await self.patch(
            {
                "phase": VerificationPhase.IN_PROGRESS.value,
                "startTime": self.context.now().isoformat(),
                "location": backup.status.location,
                "message": None,
                "waiting": [],
            }
        )
        log.info("verification begins", verification=self.verification.name, backup=backup.name)

    async def _load(self, location: OpenLocation) -> None:
        manifest = await read_manifest(location, self.verification.spec.backup)
        self.memory.targets = targets_of(manifest)
        self.memory.broken = broken_promises(manifest)
        self.memory.manifest = manifest

    async def _objects(self, location: OpenLocation) -> None:
        """Read and parsed as a restore does it."""
        promised = self._manifest.objects
        count = 0
        if promised.snapshot_id:
            self.context.check_not_maintained(promised.directory)
            job = self.verification.uid
            try:
                count = len(await self.objects(self.context, location, self._manifest, job=job))
                if count < promised.count and not promised.further_snapshots:
                    text = f"{promised.count:,} are promised, and {count:,} came back"
                    raise Damaged(text, reason="ObjectsMissing")
            except Retryable:
                raise
            except AraratError as exc:
                found = Failure(object="API objects", reason=exc.reason, message=exc.message)
                self.memory.objects_failure = found
                return
        await self.patch({"objects": count})

    async def _list(self, location: OpenLocation) -> None:
        """What the store does not list need not be tried."""
        if self.memory.listed:
            return
        directories = {target.volume.directory for target in self.memory.targets}
        found = {directory: await listed(location, directory) for directory in directories}
        lost = {failure.object: failure for failure in missing(self.memory.targets, found)}
        for target in self.memory.targets:
            if target.id in lost:
                self.memory.ended[key(target)] = Ended(lost[target.id])
        self.memory.listed = True

    @property
    def _manifest(self) -> Manifest:
        assert self.memory.manifest is not None
        return self.memory.manifest

    # --- pods ---

    async def read_namespaces(self) -> dict[str, Mapping[str, str]]:
        """Labels of the namespaces that the backup holds. Raises AraratError."""
        location = await self.context.location(self.verification.status.location or "")
        job = self.verification.uid
        stored = await self.objects(self.context, location, self._manifest, job=job)
        found = {one.name: dict(one.labels) for one in stored if one.resource == "namespaces"}
        self.memory.run.labels = dict(found)
        return self.memory.run.labels

    def _count_what_ran(self) -> None:
        """What was read back in full on its way into a copy is not read again."""
        left = {key(target): target for target in self.memory.targets}
        for job in run.read_back(self):
            target = left.get((job.spec.repository.directory, job.spec.snapshot_id or ""))
            if target is None or key(target) in self.memory.ended:
                continue
            if judge(target, job) is None:
                self.memory.ended[key(target)] = Ended(None, target.bytes)

    async def _remove_what_ran(self) -> str:
        """What is still there; after a while the result does not wait for it any more."""
        memory, now = self.memory, time.monotonic()
        memory.removing = memory.removing or now
        left = await run.removed(self)
        return left if now - memory.removing < _REMOVAL_SECONDS else ""

    async def set_finalizer(self, *, present: bool) -> None:
        """Raises ApiConflict: it moved on, look again."""
        held = set(self.verification.metadata.finalizers)
        wanted = held | {FINALIZER} if present else held - {FINALIZER}
        if wanted == held:
            return
        version = self.raw["metadata"]["resourceVersion"]
        self.raw = await self.context.api.patch(
            _KIND,
            self.verification.name,
            {"metadata": {"finalizers": sorted(wanted), "resourceVersion": version}},
            namespace=self.context.namespace,
        )
        self.verification = BackupVerification.parse(self.raw)

    # --- what is shown on the way ---

    async def say(self, waiting: list[Failure]) -> None:
        """Into the status, where it is something new and not too often."""
        message = waiting[0].message if waiting else None
        status = {
            **self.findings.shown(),
            "waiting": [failure.to_dict() for failure in waiting[:_SHOWN_WAITING]],
            "message": message,
        }
        now = time.monotonic()
        if status == self.memory.shown or now - self.memory.said < _SAY_SECONDS:
            return
        self.memory.said, self.memory.shown = now, status
        await self.patch(status)

    async def patch(self, status: dict[str, Any]) -> None:
        self.raw = await patch_status(self.context.api, _KIND, self.raw, status)
        self.verification = BackupVerification.parse(self.raw)


def _removal(left: str) -> Failure:
    return Failure(object="pods", reason="Removing", message=left)
