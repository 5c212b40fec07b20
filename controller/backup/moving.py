"""Volumes whose pod went away are read again, through the pod that takes its place.

Problem: a drain, an eviction or a rollout ends a pod in the middle of a backup. The agent lets go
of its volumes at once, and the pod is back a minute later, somewhere else.
Decision: a node job that failed for this is followed by a further one, under a name derived from
the planned volume and their number, that says which one it replaces: whoever leads next finds it.
Until somebody takes the pod's place (see successors) the backup does not end, while all else goes
on; when nobody does, the failure stands and the job says why, which is kept with it.
Limits: volumes that are read between hooks are not: their pod was let go, and freezing its
successor is a decision of the next backup.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ararat import naming
from ararat.api import Backup, PodVolumeBackup
from ararat.api.base import ConditionStatus, utcnow, with_condition
from ararat.api.nodejob import ClaimReference, PodReference
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from ararat.kube.resources import (
    JOBS as BATCH_JOBS,
)
from ararat.kube.status import patch_status
from controller.backup.jobs import job_name
from controller.backup.jobtable import REPLACED, JobTable
from controller.backup.plan import BackupPlan
from controller.backup.run import JOBS, Look
from controller.backup.successors import (
    MOST,
    PATIENCE_SECONDS,
    Nobody,
    Scene,
    Through,
    successor,
)
from controller.backup.volumes import PlannedVolume

#: Between two looks at a namespace in which a pod is waited for.
LOOK_SECONDS = 3.0
_OWNERS = {
    rt.kind: rt
    for rt in (STATEFUL_SETS, DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, BATCH_JOBS)
}

#: Makes the node job of a volume.
MakeJob = Callable[[PlannedVolume], Awaitable[None]]


def further_name(backup: Backup, volume: PlannedVolume, number: int) -> str:
    """Of the job that reads a planned volume through the so-manyth further pod; 0: the first."""
    first = job_name(backup, volume)
    if number == 0:
        return first
    return naming.object_name(
        backup.name, volume.pod.name, volume.volume, unique=(first, "further", str(number))
    )


def last_name(backup: Backup, volume: PlannedVolume, jobs: Mapping[str, Any]) -> str:
    """The job whose result counts."""
    return further_name(backup, volume, _last_number(backup, volume, jobs))


def _last_number(backup: Backup, volume: PlannedVolume, jobs: Mapping[str, Any]) -> int:
    number = 0
    while number < MOST and further_name(backup, volume, number + 1) in jobs:
        number += 1
    return number


def to_make(backup: Backup, volume: PlannedVolume, jobs: JobTable) -> PlannedVolume:
    """The volume with the job that is there for it, or that is to be: a further one after one
    whose pod went away."""
    number = _last_number(backup, volume, jobs)
    name = further_name(backup, volume, number)
    if name in jobs.pod_went() and number < MOST:
        following = further_name(backup, volume, number + 1)
        return volume.model_copy(update={"job": following, "replaces": name})
    return volume if number == 0 else volume.model_copy(update={"job": name})


async def follow_moves(
    look: Look, plan: BackupPlan, jobs: JobTable, *, make_job: MakeJob
) -> list[PlannedVolume]:
    """Do what is next for each volume whose pod went away; returns those that are waited for."""
    open_failures = jobs.pod_went()
    if not open_failures:
        return []
    waiting: list[PlannedVolume] = []
    scenes: dict[str, _Namespace] = {}
    for name in sorted(open_failures):
        job = jobs[name]
        found = _planned(look, jobs, job)
        if found is None or found[0].group:
            continue
        volume, number = found
        following = further_name(look.backup, volume, number + 1)
        if following in jobs:
            continue
        waiting.append(volume)
        if following in look.memory.made or (volume.helper and number < MOST):
            continue  # on its way into the cache; a helper's is made when its pod runs again
        namespace = volume.pod.namespace
        if namespace not in scenes:
            scenes[namespace] = await _Namespace.read(look, plan, jobs, namespace)
        decision = successor(
            volume,
            await scenes[namespace].scene(volume),
            tried=number,
            waited=_seconds_since_end(look, job),
            patience=min(PATIENCE_SECONDS, look.backup.spec.deadlines.no_progress_seconds),
        )
        if isinstance(decision, Through):
            await make_job(_through(volume, decision, job=following, replaces=name))
            scenes[namespace].taken[decision.pod["metadata"]["uid"]] = volume.pod.uid
        elif isinstance(decision, Nobody):
            await _say_nobody(look, job, decision.why)  # settled when the cache shows it
    return waiting


def _planned(look: Look, jobs: JobTable, job: PodVolumeBackup) -> tuple[PlannedVolume, int] | None:
    """The volume that a job reads, and the how manyth it is."""
    number, name = 0, job.name
    while (replaced := jobs[name].spec.replaces) and replaced in jobs:
        number, name = number + 1, replaced
    volume = (look.memory.expected or {}).get(name)
    return (volume, number) if volume is not None else None


def _through(volume: PlannedVolume, found: Through, *, job: str, replaces: str) -> PlannedVolume:
    metadata = found.pod["metadata"]
    pod = PodReference(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
    changes: dict[str, Any] = {
        "pod": pod,
        "node": found.pod["spec"].get("nodeName") or "",
        "volume": found.volume,
        "job": job,
        "replaces": replaces,
    }
    if volume.volume_type == "ephemeral":
        changes["claim"] = ClaimReference(name=f"{pod.name}-{found.volume}")
    return volume.model_copy(update=changes)


def _seconds_since_end(look: Look, job: PodVolumeBackup) -> float:
    ended = job.status.completion_time
    return (look.context.now() - ended).total_seconds() if ended else 0.0


async def _say_nobody(look: Look, job: PodVolumeBackup, why: str) -> None:
    """Kept with the job, so that whoever leads next does not wait again."""
    look.log.warning("volume is not read again", job=job.name, message=why)
    conditions = with_condition(
        job.status.conditions,
        type=REPLACED,
        status=ConditionStatus.FALSE,
        reason="NoOtherPod",
        message=why,
        now=utcnow(),
    )
    said = (job.status.message or "").rstrip(".")
    status = {
        "message": f"{said}; {why}." if said else why,
        "conditions": [condition.to_dict() for condition in conditions],
    }
    raw = look.context.pod_volume_backups.get(job.name, look.context.namespace)
    if raw is not None:
        version = raw["metadata"]["resourceVersion"]
        await patch_status(look.context.api, JOBS, raw, status, resource_version=version)


class _Namespace:
    """What is there now, asked for once a look."""

    def __init__(
        self, look: Look, name: str, pods: Sequence[dict[str, Any]], *, planned: frozenset[str]
    ) -> None:
        self._look = look
        self._name = name
        self._pods = pods
        self._planned = planned
        self._owners: dict[tuple[str, str], dict[str, Any] | None] = {}
        self.taken: dict[str, str] = {}

    @classmethod
    async def read(cls, look: Look, plan: BackupPlan, jobs: JobTable, name: str) -> _Namespace:
        pods = [pod async for pod in look.context.api.list(PODS, namespace=name)]
        planned = frozenset(v.pod.uid for v in plan.volumes if v.pod.namespace == name)
        found = cls(look, name, pods, planned=planned)
        for job in jobs.replacing():
            origin = _planned(look, jobs, job)
            if origin is not None:
                found.taken[job.spec.pod.uid] = origin[0].pod.uid
        return found

    async def scene(self, volume: PlannedVolume) -> Scene:
        context = self._look.context
        return Scene(
            pods=self._pods,
            owner=await self._owner(volume.owner_kind, volume.owner_name),
            planned=self._planned,
            taken=self.taken,
            agent_nodes=frozenset(n for n, up in context.agent_readiness().items() if up),
        )

    async def _owner(self, kind: str, name: str) -> dict[str, Any] | None:
        rt, key = _OWNERS.get(kind), (kind, name)
        if rt is None:
            return None
        if key not in self._owners:
            try:
                self._owners[key] = await self._look.context.api.get(rt, name, namespace=self._name)
            except ApiNotFound:
                self._owners[key] = None
        return self._owners[key]
