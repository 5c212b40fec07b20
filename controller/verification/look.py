"""One look at a verification, and what follows from it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from ararat import naming
from ararat.api import Backup, BackupVerification, PodVolumeRestore
from ararat.api.backup import BackupPhase, Failure
from ararat.api.base import Meta, utcnow
from ararat.api.manifest import Manifest
from ararat.api.names import FINALIZER, NODE, OWNER_UID, RESTORE, RESTORE_UID, VERIFIES
from ararat.api.nodejob import (
    PodReference,
    PodVolumeRestoreSpec,
    PodVolumeRestoreStatus,
    Progress,
    RestoreMode,
    Verify,
)
from ararat.api.verification import RunOutcome, VerificationPhase, VerifiedCounts
from ararat.errors import AraratError, Conflict, Damaged, Retryable
from ararat.human import plural, progress_text, size
from ararat.kube.resources import PODS, PVCS
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.deletion.snapshots import listed
from controller.helper_pods import VOLUME
from controller.location.open import OpenLocation
from controller.restore.source import ObjectsReader, read_manifest, repository_of

from . import run
from .run import RunMemory
from .scratch import build_claim, build_pod
from .steps import ATTEMPTS, Ended, NeedsJob, NeedsPod, Step, Waits, next_step
from .targets import Target, broken_promises, empty_of, judge, missing, targets_of, untried

_KIND = resource_of(BackupVerification)
_JOBS = resource_of(PodVolumeRestore)
_SAY_SECONDS = 2.0
_CACHE_SECONDS = 5.0
_SHOWN_WAITING, _SHOWN_FAILURES = 20, 50
#: A namespace that takes longer to go is seen to afterwards.
_REMOVAL_SECONDS = 600.0
log = structlog.get_logger("controller.verification")


class Cancelled(AraratError):
    """Nobody wants the result any more."""

    default_reason = "Cancelled"


class NotNow(AraratError):
    """Something else must end first."""

    def __init__(self, waiting: Failure) -> None:
        super().__init__(waiting.message, reason=waiting.reason)
        self.waiting = waiting


@dataclass
class Turn:
    """Whose turn it is to read; the cache is a moment behind what was begun last."""

    _uid: str = ""
    _since: float = 0.0

    def take(self, uid: str) -> None:
        self._uid, self._since = uid, time.monotonic()

    def of_another(self, known: Iterable[Mapping[str, Any]], uid: str) -> str | None:
        """What the caller waits for."""
        for raw in known:
            phase = (raw.get("status") or {}).get("phase")
            if raw["metadata"]["uid"] != uid and phase == VerificationPhase.IN_PROGRESS.value:
                return f"verification {raw['metadata']['name']}"
        if self._uid not in ("", uid) and time.monotonic() - self._since < _CACHE_SECONDS:
            return "another verification"
        return None


@dataclass
class Memory:
    """What this process knows of one verification; another finds it out again."""

    manifest: Manifest | None = None
    targets: list[Target] = field(default_factory=list)
    objects_failure: Failure | None = None
    #: Of the manifest and of the store's listing.
    broken: list[Failure] = field(default_factory=list)
    listed: bool = False
    #: By the target's snapshot: what has ended.
    ended: dict[tuple[str, str], Ended] = field(default_factory=dict)
    running: dict[tuple[str, str], PodVolumeRestore] = field(default_factory=dict)
    said: float = 0.0
    shown: dict[str, Any] = field(default_factory=dict)
    run: RunMemory = field(default_factory=RunMemory)
    #: Since when (monotonic) what ran is being removed.
    removing: float | None = None


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
        waiting = await self._volumes(location)
        if len(self.memory.ended) == len(self.memory.targets) and not left:
            return True
        await self.say([*waiting, *([_removal(left)] if left else [])])
        return False

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
                self.memory.ended[_key(target)] = Ended(lost[target.id])
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
        left = {_key(target): target for target in self.memory.targets}
        for job in run.read_back(self):
            target = left.get((job.spec.repository.directory, job.spec.snapshot_id or ""))
            if target is None or _key(target) in self.memory.ended:
                continue
            if judge(target, job) is None:
                self.memory.ended[_key(target)] = Ended(None, target.bytes)

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

    # --- volumes ---

    async def _volumes(self, location: OpenLocation) -> list[Failure]:
        memory, policy = self.memory, self.context.scratch_policy
        memory.running.clear()
        agents, now = self.context.agent_readiness(), utcnow()
        waiting: list[Failure] = []
        busy = 0
        for target in memory.targets:
            if _key(target) in memory.ended:
                continue
            step = self._step(target, agents, now)
            if isinstance(step, Ended):
                memory.ended[_key(target)] = step
                await self._free(target)
                continue
            if busy >= policy.at_once:
                break  # its turn comes; what runs already stands first in the list
            busy += 1
            try:
                why = await self._advance(target, step, location)
            except Retryable as exc:
                why = exc.message
            if why:
                waiting.append(Failure(object=target.id, reason="Waiting", message=why))
        return waiting

    def _step(self, target: Target, agents: Mapping[str, bool], now: datetime) -> Step:
        jobs: list[PodVolumeRestore] = []
        pods: dict[int, Mapping[str, Any]] = {}
        for attempt in range(ATTEMPTS):
            name = self._name(target, attempt)
            raw = self.context.pod_volume_restores.get(name, self.context.namespace)
            if raw is not None:
                jobs.append(PodVolumeRestore.parse(raw))
            pod = self.context.helpers.get(name, self.context.namespace)
            if pod is not None:
                pods[attempt] = pod
        step = next_step(target, jobs=jobs, pods=pods, agents=agents, now=now)
        if isinstance(step, Waits) and step.job is not None:
            self.memory.running[_key(target)] = step.job
        return step

    async def _advance(self, target: Target, step: Step, location: OpenLocation) -> str:
        """Make what is needed; what it waits for."""
        self.context.check_not_maintained(target.volume.directory)
        if isinstance(step, NeedsPod):
            if step.attempt:
                await self._remove(target, step.attempt - 1)
            await self._make_scratch(target, step.attempt)
        elif isinstance(step, NeedsJob):
            await self._make_job(target, step, location)
        return step.why if isinstance(step, Waits) else ""

    async def _make_scratch(self, target: Target, attempt: int) -> None:
        context, policy = self.context, self.context.scratch_policy
        name = self._name(target, attempt)
        if not policy.on_node(target):
            claim = build_claim(self.verification, target, name, policy)
            with contextlib.suppress(Conflict):
                await context.api.create(PVCS, claim, namespace=context.namespace)
        pod = build_pod(
            self.verification,
            target,
            name,
            policy=policy,
            namespace=context.namespace,
            image=context.gate_image,
            pull_policy=context.gate_pull_policy,
        )
        with contextlib.suppress(Conflict):
            await context.api.create(PODS, pod, namespace=context.namespace)

    async def _make_job(self, target: Target, step: NeedsJob, location: OpenLocation) -> None:
        context, pod = self.context, step.pod
        repository = repository_of(self._manifest, target.volume.directory)
        node = str(pod["spec"]["nodeName"])
        job = PodVolumeRestore(
            metadata=Meta(
                name=self._name(target, step.attempt),
                namespace=context.namespace,
                labels={
                    NODE: naming.label_value(node),
                    RESTORE: naming.label_value(self.verification.name),
                    RESTORE_UID: self.verification.uid,
                    OWNER_UID: self.verification.uid,
                },
                annotations={VERIFIES: target.id},
            ),
            spec=PodVolumeRestoreSpec(
                restore=self.verification.name,
                restore_uid=self.verification.uid,
                node=node,
                pod=PodReference(
                    namespace=context.namespace,
                    name=pod["metadata"]["name"],
                    uid=pod["metadata"]["uid"],
                ),
                volume=VOLUME,
                repository=await context.repository_reference(
                    owner=self.verification,
                    location=location,
                    directory=repository.directory,
                    repository_name=repository.repository_name,
                    key_id=repository.key_id,
                ),
                snapshot_id=target.snapshot,
                root=target.volume.root,
                mode=RestoreMode.SCRATCH,
                verify=Verify.FULL,
                attempt=step.attempt,
                expected_bytes=target.bytes,
                expected_files=target.files,
            ),
            status=PodVolumeRestoreStatus(),
        ).manifest()
        job["metadata"]["ownerReferences"] = [self.verification.owner_reference()]
        with contextlib.suppress(Conflict):
            await context.api.create(_JOBS, job, namespace=context.namespace)
            log.info("volume is read", volume=target.id, node=node, job=job["metadata"]["name"])

    async def _free(self, target: Target) -> None:
        for attempt in range(ATTEMPTS):
            name = self._name(target, attempt)
            if self.context.helpers.get(name, self.context.namespace) is not None:
                await self._remove(target, attempt)

    async def _remove(self, target: Target, attempt: int) -> None:
        name, namespace = self._name(target, attempt), self.context.namespace
        await self.context.api.delete(PODS, name, namespace=namespace)
        if not self.context.scratch_policy.on_node(target):
            await self.context.api.delete(PVCS, name, namespace=namespace)

    def _name(self, target: Target, attempt: int) -> str:
        return target.name(self.verification.name, self.verification.uid, attempt)

    # --- the end, and what is shown on the way ---

    def failures(self) -> list[Failure]:
        ended = [e.failure for e in self.memory.ended.values() if e.failure is not None]
        ran = run.failure_of(self.verification.status.run)
        others = [failure for failure in (self.memory.objects_failure, ran) if failure is not None]
        return [*others, *sorted([*self.memory.broken, *ended], key=lambda f: f.object)]

    def verdict(self) -> tuple[VerificationPhase, str, str]:
        """Of everything together: phase, reason, message."""
        failures = self.failures()
        bad = [failure for failure in failures if not untried(failure)]
        if bad:
            text = f"{plural(len(bad), 'part')} not as promised"
            return VerificationPhase.FAILED, bad[0].reason, _with_first(text, bad[0])
        if failures:
            text = f"{plural(len(failures), 'part')} could not be tried"
            first = failures[0]
            return VerificationPhase.INCONCLUSIVE, first.reason, _with_first(text, first)
        done = sum(target.bytes for target in self.memory.targets)
        volumes = len(self.memory.targets) + empty_of(self._manifest)
        objects = self.verification.status.objects or 0
        text = f"{plural(volumes, 'volume')} with {size(done)} and {plural(objects, 'object')}"
        text += " were restored and read: all is as promised"
        state = self.verification.status.run
        if state is not None and state.outcome is RunOutcome.PASSED:
            text += f"; {state.message}"
        return VerificationPhase.PASSED, "AsPromised", text

    def shown(self) -> dict[str, Any]:
        """What the status says about volumes."""
        memory = self.memory
        if memory.manifest is None:
            return {}
        empty, failures = empty_of(memory.manifest), self.failures()
        others = (memory.objects_failure, run.failure_of(self.verification.status.run))
        of_volumes = [failure for failure in failures if failure not in others]
        total = len(memory.targets) + empty + len(memory.broken)
        not_tried = sum(untried(failure) for failure in of_volumes)
        counts = VerifiedCounts(
            total=total,
            passed=empty + sum(e.failure is None for e in memory.ended.values()),
            failed=len(of_volumes) - not_tried,
            untried=not_tried,
        )
        text = f"{counts.passed} of {total} passed"
        text += f", {counts.failed} failed" if counts.failed else ""
        text += f", {counts.untried} not tried" if counts.untried else ""
        return {
            "volumes": counts.model_copy(update={"text": text}).to_dict(),
            "progress": self._progress().to_dict(),
            "failures": [failure.to_dict() for failure in failures[:_SHOWN_FAILURES]],
            "failureCount": len(failures),
        }

    def _progress(self) -> Progress:
        total = done = files = files_done = 0
        for target in self.memory.targets:
            total, files = total + target.bytes, files + target.files
            job = self.memory.running.get(_key(target))
            if _key(target) in self.memory.ended:
                done, files_done = done + target.bytes, files_done + target.files
            elif job is not None:
                done += min(job.status.progress.bytes_done, target.bytes)
                files_done += min(job.status.progress.files_done, target.files)
        return Progress(
            total_bytes=total,
            bytes_done=done,
            total_files=files,
            files_done=files_done,
            text=progress_text(done, total),
        )

    async def say(self, waiting: list[Failure]) -> None:
        """Into the status, where it is something new and not too often."""
        message = waiting[0].message if waiting else None
        status = {
            **self.shown(),
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


def _key(target: Target) -> tuple[str, str]:
    return (target.volume.directory, target.snapshot)


def _removal(left: str) -> Failure:
    return Failure(object="pods", reason="Removing", message=left)


def _with_first(text: str, failure: Failure) -> str:
    return f"{text}, the first: {failure.object}: {failure.message}"
