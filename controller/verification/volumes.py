"""The volumes of a backup, restored into scratch and read: pods, claims and node jobs for it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from ararat import naming
from ararat.api import BackupVerification, PodVolumeRestore
from ararat.api.backup import Failure
from ararat.api.base import Meta, utcnow
from ararat.api.names import NODE, OWNER_UID, RESTORE, RESTORE_UID, VERIFIES
from ararat.api.nodejob import (
    PodReference,
    PodVolumeRestoreSpec,
    PodVolumeRestoreStatus,
    RestoreMode,
    Verify,
)
from ararat.errors import Conflict, Retryable
from ararat.kube.resources import PODS, PVCS
from ararat.kube.resources import of as resource_of
from controller.context import Context
from controller.helper_pods import VOLUME
from controller.location.open import OpenLocation
from controller.restore.source import repository_of

from .memory import Memory, key
from .scratch import build_claim, build_pod
from .steps import ATTEMPTS, Ended, NeedsJob, NeedsPod, Step, Waits, next_step
from .targets import Target

_JOBS = resource_of(PodVolumeRestore)
log = structlog.get_logger("controller.verification")


@dataclass
class Volumes:
    context: Context
    verification: BackupVerification
    memory: Memory

    async def look(self, location: OpenLocation) -> list[Failure]:
        """Go on with those that have not ended. What is waited for."""
        memory, policy = self.memory, self.context.scratch_policy
        memory.running.clear()
        agents, now = self.context.agent_readiness(), utcnow()
        waiting: list[Failure] = []
        busy = 0
        for target in memory.targets:
            if key(target) in memory.ended:
                continue
            step = self._step(target, agents, now)
            if isinstance(step, Ended):
                memory.ended[key(target)] = step
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
            self.memory.running[key(target)] = step.job
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
        assert self.memory.manifest is not None
        repository = repository_of(self.memory.manifest, target.volume.directory)
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
