"""Restores into claims that exist: data only, through pods that run.

Problem: somebody deleted a directory, and wants it back where it was, in an application that must
not be torn down for it.
Decision: for each claim that is named and that the backup has data for, one running pod that mounts
it gives its node; the agent there writes into the volume (agent/in_place_job.py). No object is
created or changed, no claim marked, no pod held. What runs nowhere is said and waited for until the
restore's deadline. A claim that no pod mounts gets a helper pod of ours; with ``scaleDown`` every
claim is freed for one first. A claim that is still owed its data by another restore is refused.
Limits: while the agent writes, the application sees files change; make it quiet where it minds.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from ararat.api import PodVolumeRestore
from ararat.api.backup import Failure
from ararat.api.base import utcnow
from ararat.api.names import HELPER
from ararat.api.nodejob import ClaimReference, Role
from ararat.api.restore import Restore
from ararat.errors import InvalidSpec, NotFound
from ararat.kube.resources import PODS, PVCS
from controller.location.open import OpenLocation

from .claims import pending_for
from .data import BackupData, VolumeData, Want
from .filling import (
    apply,
    decide_now,
    jobs_from_server,
    note_moves,
    overdue,
    quiet_seconds,
)
from .gated import GatedPod
from .helpers import make_helper, remove_idle
from .jobs import Decision, plan_job
from .pods import claims_of, mounted_volumes
from .run import Filling, Look
from .scale_down import Freed, scale_down
from .stored import Object
from .units import PodVolume, Unit
from .waiting import why_job_waits


def wanted_claims(
    restore: Restore, data: BackupData, sources: Mapping[str, str]
) -> dict[tuple[str, str], VolumeData]:
    """(namespace now, claim) → its data. Pure. Raises InvalidSpec where a name matches nothing."""
    patterns = restore.spec.volumes.include
    available = {
        (now, name): found
        for (old, name), found in data.claims.items()
        for now, then in sources.items()
        if then == old and found.want is Want.FILL
    }
    chosen = {
        (namespace, name): found
        for (namespace, name), found in available.items()
        if not patterns or _matches(f"{sources[namespace]}/{name}", patterns)
    }
    names = sorted(f"{sources[namespace]}/{name}" for namespace, name in available)
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise InvalidSpec(
                f"volumes.include: the backup has no data of a claim {pattern!r} in the namespaces "
                f"chosen: it has {', '.join(names[:10]) or 'none'}",
                reason="VolumeNotInBackup",
            )
    if not chosen:
        raise InvalidSpec("the backup has no data of any claim", reason="VolumeNotInBackup")
    return chosen


async def step(look: Look, location: OpenLocation, *, retry: bool = False) -> Filling:
    """Do what is missing, then say how the volumes stand. Raises AraratError."""
    wanted = wanted_claims(look.restore, look.memory.data, look.memory.sources)
    pods = await _pods(look, {namespace for namespace, _ in wanted})
    units = [
        await _unit(look, key, found, pods, look.jobs()) for key, found in sorted(wanted.items())
    ]
    if any(_needs_job(unit, retry=retry) for unit in units):
        jobs = await jobs_from_server(look)  # never two writers because of a cache
        units = [await _unit(look, key, found, pods, jobs) for key, found in sorted(wanted.items())]
    # Jobs on nodes that are gone for good are declared ended, as in any restore.
    lost = (await decide_now(look, [unit for unit in units if unit.active is not None])).abandon
    refused: dict[tuple[str, ...], Failure] = {}
    waiting: list[Failure] = []
    plans = []
    agents = look.context.agent_readiness()
    note_moves(look, units)
    freed, usable = Freed(), pods
    if look.restore.spec.volumes.scale_down:
        asking = [u for u in units if _refusal(u) is None and _needs_job(u, retry=retry)]
        freed = await scale_down(look, asking, pods)
        usable = [pod for pod in pods if HELPER in (pod["metadata"].get("labels") or {})]
    for unit in units:
        failure = _refusal(unit) or freed.refused.get(unit.key)
        if failure is not None:
            refused[unit.key] = failure
            continue
        if not _needs_job(unit, retry=retry):
            if unit.active is not None:
                cause = why_job_waits(
                    unit,
                    unit.active,
                    agents=agents,
                    troubles=look.context.agent_troubles(),
                    now=utcnow(),
                    quiet=quiet_seconds(look, unit),
                )
                waiting += [cause] if cause is not None else []
            continue
        if unit.key in freed.waiting:
            waiting.append(freed.waiting[unit.key])
            continue
        pod = choose_pod(usable, unit, agents)
        if pod is None:
            waiting.append(why_no_pod(unit, pods))
            if not any(_mounting(each, unit) for each in pods):
                await make_helper(look, unit, gated=False)
            continue
        plans.append(plan_job(look.restore, unit, pod, role=Role.FILL))
    await apply(look, location, Decision(create=plans, abandon=lost))
    await remove_idle(look, [unit for unit in units if unit.failed is None])
    return Filling(units, waiting, {**overdue(look, units, waiting), **refused})


def choose_pod(pods: Iterable[Object], unit: Unit, agents: Mapping[str, bool]) -> PodVolume | None:
    """The oldest running pod that mounts the claim, best on a node whose agent is ready. Pure."""
    found = [
        (not agents.get(pod["spec"].get("nodeName", ""), False), _created(pod), pod, volume)
        for pod in pods
        for volume in _mounting(pod, unit)
        if (pod.get("status") or {}).get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
    ]
    if not found:
        return None
    _, _, pod, volume = min(found, key=lambda each: (each[0], each[1], each[2]["metadata"]["name"]))
    metadata = pod["metadata"]
    held = GatedPod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=pod["spec"]["nodeName"],
        created=_created(pod),
        volumes=(volume,),
        claims=claims_of(pod["spec"]),
        alive=True,
        passed=True,
        raw=pod,
    )
    return PodVolume(held, volume)


def why_no_pod(unit: Unit, pods: Iterable[Object]) -> Failure:
    """Why nothing can be written into the claim now. Pure."""
    mounting = [pod for pod in pods if _mounting(pod, unit)]
    if not mounting:
        return Failure(
            object=unit.id,
            reason="NoPod",
            message="no pod mounts the claim: a pod of Ararat's is started for it",
        )
    first = mounting[0]
    phase = (first.get("status") or {}).get("phase") or "Pending"
    return Failure(
        object=unit.id,
        reason="PodNotRunning",
        message=f"pod {first['metadata']['name']} that mounts the claim is {phase}",
    )


async def _pods(look: Look, namespaces: Iterable[str]) -> list[Object]:
    """Those that have not ended: an ended one uses no volume, and brings none."""
    return [
        pod
        for namespace in sorted(namespaces)
        async for pod in look.context.api.list(PODS, namespace=namespace)
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]


async def _unit(
    look: Look,
    key: tuple[str, str],
    data: VolumeData,
    pods: Sequence[Object],
    jobs: Sequence[PodVolumeRestore],
) -> Unit:
    namespace, name = key
    try:
        claim = await look.context.api.get(PVCS, name, namespace=namespace)
    except NotFound:
        return Unit(id=f"{namespace}/{name}", key=("claim", namespace, name, ""), data=data)
    uid = claim["metadata"]["uid"]
    mine = [
        job
        for job in jobs
        if job.spec.claim is not None
        and (job.spec.pod.namespace, job.spec.claim.uid) == (namespace, uid)
    ]
    return Unit(
        id=f"{namespace}/{name}",
        key=("claim", namespace, name, uid),
        data=data,
        claim=ClaimReference(name=name, uid=uid, volume_name=claim["spec"].get("volumeName") or ""),
        jobs=tuple(sorted(mine, key=lambda job: (str(job.metadata.creation_timestamp), job.name))),
        # A job that ended with its pod is tried again through the next one.
        alive=frozenset(pod["metadata"]["uid"] for pod in pods),
        raw=claim,
    )


def _refusal(unit: Unit) -> Failure | None:
    if unit.claim is None:
        return Failure(
            object=unit.id,
            reason="ClaimNotFound",
            message="the claim does not exist; without --volumes in-place it is made again",
        )
    if pending_for(unit.raw) is not None:
        return Failure(
            object=unit.id,
            reason="ClaimPending",
            message="the claim is still owed its data by another restore: let that one end first",
        )
    return None


def _needs_job(unit: Unit, *, retry: bool) -> bool:
    if unit.claim is None or unit.done is not None or unit.active is not None:
        return False
    return unit.failed is None or retry


def _mounting(pod: Object, unit: Unit) -> list[str]:
    """Names of the pod's volumes that are the claim and that a container mounts."""
    if unit.claim is None or pod["metadata"]["namespace"] != unit.key[1]:
        return []
    mounted = mounted_volumes(pod["spec"])
    return [
        volume
        for volume, claim in claims_of(pod["spec"]).items()
        if claim == unit.claim.name and volume in mounted
    ]


def _created(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
