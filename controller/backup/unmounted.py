"""Claims that no pod mounts, read through pods of ours.

Problem: the plan knows such a claim, but not the pod and the node that its node job will name.
Decision: for each of them a helper pod is made, a few at a time; when it runs, its node job is made
as any other; when the job has ended, the pod is removed. Names are derived from the backup and the
claim, so every step finds what an earlier one, or a controller that was killed, has done. What
cannot be helped (refused by quota or policy, not running in time) becomes a node job that has
failed, with the reason: failures have one way, and it is kept outside this process.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from ararat.api import PodVolumeBackup
from ararat.api.base import utcnow
from ararat.api.manifest import Coverage
from ararat.api.names import BACKUP, BACKUP_UID
from ararat.api.nodejob import JobPhase, PodReference
from ararat.errors import Conflict
from ararat.kube.errors import Forbidden, Invalid
from ararat.kube.resources import EVENTS, PODS
from ararat.kube.status import patch_status
from ararat.naming import label_value
from controller import helper_pods
from controller.backup.jobs import job_name
from controller.backup.jobtable import JobTable
from controller.backup.moving import to_make
from controller.backup.plan import BackupPlan
from controller.backup.run import JOBS, Look
from controller.backup.volumes import PlannedVolume
from controller.helper_pods import HelperSpec

#: Helpers at once, and in one namespace: what a quota is likely to leave.
_AT_ONCE = 20
_AT_ONCE_IN_NAMESPACE = 5
#: How often a refused helper is tried again.
_REFUSED_SECONDS = 10.0

#: Makes the node job of a volume.
MakeJob = Callable[[PlannedVolume], Awaitable[None]]


def helper_of(look: Look, volume: PlannedVolume) -> HelperSpec:
    assert volume.claim is not None
    backup, context = look.backup, look.context
    return HelperSpec(
        namespace=volume.pod.namespace,
        claim=volume.claim.name,
        owner_uid=backup.uid,
        purpose="backup",
        image=context.gate_image,
        pull_policy=context.gate_pull_policy,
        labels={BACKUP: label_value(backup.name), BACKUP_UID: backup.uid},
    )


async def follow_helpers(
    look: Look, plan: BackupPlan, jobs: JobTable, *, make_job: MakeJob
) -> float | None:
    """Do what is next for each claim that needs a helper. Seconds until the next look, if any."""
    volumes = [v for v in plan.volumes if v.helper and v.coverage is Coverage.BACKED_UP]
    if not volumes:
        return None
    waiting: list[tuple[PlannedVolume, HelperSpec, dict[str, Any] | None]] = []
    busy: dict[str, int] = {}
    for volume in (to_make(look.backup, planned, jobs) for planned in volumes):
        spec = helper_of(look, volume)
        pod = look.context.helpers.get(spec.name, spec.namespace)
        name = job_name(look.backup, volume)
        if name in jobs and jobs.phase(name).terminal:
            if pod is not None and not pod["metadata"].get("deletionTimestamp"):
                await helper_pods.remove(look.context.api, pod)
            continue
        if name in jobs and not jobs[name].spec.node:
            # Made to say why there is no helper, by a controller that was killed at that line.
            await _say_failed(look, name, "HelperFailed", "the pod to read it with did not start")
            continue
        if pod is not None:
            busy[spec.namespace] = busy.get(spec.namespace, 0) + 1
        if name not in jobs:
            waiting.append((volume, spec, pod))
    for volume, spec, pod in waiting:
        if pod is not None:
            await _go_on(look, volume, spec, pod, make_job)
            continue
        room = sum(busy.values()) < _AT_ONCE
        room = room and busy.get(spec.namespace, 0) < _AT_ONCE_IN_NAMESPACE
        if room and await _create(look, volume, spec, make_job):
            busy[spec.namespace] = busy.get(spec.namespace, 0) + 1
    return _REFUSED_SECONDS if waiting else None


async def _create(look: Look, volume: PlannedVolume, spec: HelperSpec, make_job: MakeJob) -> bool:
    refused = look.memory.refused_helpers
    since, last = refused.get(spec.name, (0.0, 0.0))
    now = time.monotonic()
    if last and now - last < _REFUSED_SECONDS:
        return False
    try:
        await look.context.api.create(PODS, helper_pods.build(spec), namespace=spec.namespace)
    except Conflict:
        return True  # the cache is a moment behind
    except (Forbidden, Invalid) as exc:
        # A quota may have room once other helpers are done; nothing else gets better by waiting.
        patience = float(look.backup.spec.deadlines.no_progress_seconds)
        quota = "exceeded quota" in exc.message
        if quota and now - (since or now) < patience:
            refused[spec.name] = (since or now, now)
            return False
        reason = "QuotaExceeded" if quota else "HelperRefused"
        message = f"the pod to read it with is refused: {exc.message}"
        await _fail(look, volume, make_job, reason, message)
        return False
    look.log.info("helper pod created", pod=f"{spec.namespace}/{spec.name}", claim=spec.claim)
    return True


async def _go_on(
    look: Look,
    volume: PlannedVolume,
    spec: HelperSpec,
    pod: dict[str, Any],
    make_job: MakeJob,
) -> None:
    metadata, phase = pod["metadata"], (pod.get("status") or {}).get("phase")
    node = pod["spec"].get("nodeName") or ""
    if metadata.get("deletionTimestamp"):
        return
    if phase in ("Succeeded", "Failed"):
        await helper_pods.remove(look.context.api, pod)  # evicted, say: the next look makes another
        return
    if phase == "Running" and node:
        reference = PodReference(namespace=spec.namespace, name=spec.name, uid=str(metadata["uid"]))
        await make_job(
            volume.model_copy(update={"pod": reference, "node": node, "volume": helper_pods.VOLUME})
        )
        return
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    if (utcnow() - created).total_seconds() > look.backup.spec.deadlines.no_progress_seconds:
        why = await _why_pending(look, pod)
        message = f"the pod to read it with does not run: {why}"
        await _fail(look, volume, make_job, "HelperNotRunning", message)
        await helper_pods.remove(look.context.api, pod)


async def _why_pending(look: Look, pod: dict[str, Any]) -> str:
    """What its events say (a volume that is attached elsewhere is told nowhere else), or status."""
    uid, namespace = pod["metadata"]["uid"], pod["metadata"]["namespace"]
    fields = f"involvedObject.uid={uid},type=Warning"
    last = ""
    async for event in look.context.api.list(EVENTS, namespace=namespace, fields=fields):
        last = str(event.get("message") or last)
    return last or helper_pods.trouble(pod)


async def _fail(
    look: Look, volume: PlannedVolume, make_job: MakeJob, reason: str, message: str
) -> None:
    """A node job that says why the claim could not be read. No agent takes it: it has no node."""
    look.log.warning("no helper pod", claim=volume.id, reason=reason, message=message)
    await make_job(volume)
    await _say_failed(look, job_name(look.backup, volume), reason, message)


async def _say_failed(look: Look, name: str, reason: str, message: str) -> None:
    raw = await look.context.api.get(JOBS, name, namespace=look.context.namespace)
    if PodVolumeBackup.parse(raw).status.phase.terminal:
        return
    status = {
        "phase": JobPhase.FAILED.value,
        "reason": reason,
        "message": message,
        "completionTime": utcnow().isoformat(),
    }
    await patch_status(look.context.api, JOBS, raw, status)
