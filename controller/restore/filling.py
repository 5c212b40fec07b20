"""Gives gated pods their node jobs, and follows them: the I/O around ``units`` and ``jobs``.

Decision: each step looks at claims, pods and jobs as they are and does what is missing. Before a
job that *writes* is made, the jobs are read from the API server itself: a cache that lags behind
by a moment must never lead to two writers of one volume.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ararat import gate
from ararat.api import PodVolumeRestore
from ararat.api.backup import Failure
from ararat.api.base import utcnow
from ararat.api.names import RESTORE_UID
from ararat.api.nodejob import JobPhase, RepositoryReference
from ararat.concurrency import for_each
from ararat.errors import AraratError, Conflict, NotFound
from ararat.kube.resources import EVENTS, NODES, PODS, PVCS
from ararat.kube.status import patch_status
from ararat.plans import stored_plan
from controller.location.open import OpenLocation

from .claims import pending_for
from .gated import GatedPod, read_pods
from .held import keep_held
from .helpers import serve_lonely
from .jobs import Decision, JobPlan, build_job, decide, find_strays, plan_turn
from .owed import planned_claims, still_owed
from .release import let_go, release_claim
from .run import JOBS, Filling, Look
from .source import repository_of
from .stored import Object
from .turns import turns_that_came, waits_for_turn
from .units import Unit, find_units
from .waiting import why_waiting

_AT_ONCE = 16
#: Claims are listed namespace by namespace up to this many, and across the cluster beyond.
_FEW_NAMESPACES = 10
#: Warning events are looked up this often, for this many objects.
_EVENTS_SECONDS = 10.0
_EVENTS_OBJECTS = 10
#: Of claims that are not there, so many are asked about in each step.
_GONE_AT_ONCE = 20


async def step(
    look: Look, location: OpenLocation, *, retry: bool = False, fresh: bool = False
) -> Filling:
    """Do what is missing, then say how the volumes stand. Raises AraratError.

    ``retry``: give volumes that failed another attempt. ``fresh``: believe no cache; whoever is
    about to say that nothing is missing asks for that.
    """
    owed = await _owed(look)
    claims = await made_claims(look)
    await keep_held(look, claims)
    owed = await _without_passed_on(look, owed, claims)
    pods = await pods_from_server(look) if fresh else look.pods()
    jobs = await jobs_from_server(look) if fresh else look.jobs()
    units = _units(look, claims, pods, jobs, owed)
    decision = await decide_now(look, units, jobs=jobs, retry=retry)
    if not fresh and decision.create:
        jobs = await jobs_from_server(look)
        units = _units(look, claims, pods, jobs, owed)
        decision = await decide_now(look, units, jobs=jobs, retry=retry)
    await apply(look, location, decision)
    await _give_turns(look, location, pods)
    await serve_lonely(look, units)
    agents, troubles = look.context.agent_readiness(), look.context.agent_troubles()
    now = utcnow()
    note_moves(look, units)
    events = await _warnings(look, units, agents)
    waiting = [
        cause
        for unit in units
        if (
            cause := why_waiting(
                unit,
                agents=agents,
                now=now,
                warnings=events,
                troubles=troubles,
                quiet=quiet_seconds(look, unit),
            )
        )
        is not None
    ]
    return Filling(units, waiting, overdue(look, units, waiting))


async def made_claims(look: Look) -> list[Object]:
    """The claims that this restore made, as they are."""
    api, labels = look.context.api, f"{RESTORE_UID}={look.restore.uid}"
    namespaces = sorted(look.memory.sources)
    if len(namespaces) > _FEW_NAMESPACES:
        found = [claim async for claim in api.list(PVCS, labels=labels)]
        return [claim for claim in found if claim["metadata"]["namespace"] in look.memory.sources]
    return [
        claim
        for namespace in namespaces
        async for claim in api.list(PVCS, namespace=namespace, labels=labels)
    ]


def _units(
    look: Look,
    claims: Sequence[Object],
    pods: Sequence[GatedPod],
    jobs: Sequence[PodVolumeRestore],
    owed: frozenset[str],
) -> list[Unit]:
    return find_units(
        restore_uid=look.restore.uid,
        claims=claims,
        pods=pods,
        jobs=jobs,
        data=look.memory.data,
        sources=look.memory.sources,
        released=look.restore.spec.released,
        owed=still_owed(owed, jobs),
    )


async def _owed(look: Look) -> frozenset[str]:
    """The claims that it owes data to by name, from the moment that all of them were made."""
    if not look.restore.status.objects_done:
        return frozenset()
    if look.memory.owed is None:
        made = await stored_plan(look.context.api, look.restore)
        look.memory.owed = frozenset() if made is None else planned_claims(made)
    return look.memory.owed


async def _without_passed_on(
    look: Look, owed: frozenset[str], claims: Sequence[Object]
) -> frozenset[str]:
    """Less those that another restore has made again in the meantime: it fills them."""
    mine = {f"{claim['metadata']['namespace']}/{claim['metadata']['name']}" for claim in claims}
    for path in sorted(still_owed(owed, look.jobs()) - mine)[:_GONE_AT_ONCE]:
        namespace, _, name = path.partition("/")
        try:
            found = await look.context.api.get(PVCS, name, namespace=namespace)
        except NotFound:
            continue
        if pending_for(found) not in {None, look.restore.uid}:
            owed -= {path}
            text = f"claim {path} was deleted, and made again by another restore, which fills it"
            look.memory.warnings.append(text)
            look.log.warning("to look at", message=text)
    look.memory.owed = owed if look.memory.owed is not None else None
    return owed


async def pods_from_server(look: Look) -> list[GatedPod]:
    found = look.context.api.list(PODS, labels=f"{RESTORE_UID}={look.restore.uid}")
    return read_pods([pod async for pod in found], look.restore.uid)


async def jobs_from_server(look: Look) -> list[PodVolumeRestore]:
    found = look.context.api.list(
        JOBS, namespace=look.context.namespace, labels=f"{RESTORE_UID}={look.restore.uid}"
    )
    return [PodVolumeRestore.parse(raw) async for raw in found]


async def decide_now(
    look: Look,
    units: Sequence[Unit],
    *,
    jobs: Sequence[PodVolumeRestore] = (),
    retry: bool = False,
) -> Decision:
    """What to do about these, with the nodes as they are. ``jobs``: all there are."""
    agents = look.context.agent_readiness()
    strays = find_strays(units, jobs)
    active = [unit.active for unit in units if unit.active is not None]
    nodes = {job.spec.node for job in (*active, *strays)}
    suspects = {node for node in nodes if not agents.get(node, False)}
    gone = {node for node in suspects if await _is_gone(look, node)}
    return decide(
        units,
        restore=look.restore,
        gone_nodes=frozenset(gone),
        agentless=frozenset(suspects - agents.keys()),
        retry=retry,
        strays=strays,
    )


async def _is_gone(look: Look, node: str) -> bool:
    try:
        await look.context.api.get(NODES, node)
    except NotFound:
        return True
    return False


async def apply(look: Look, location: OpenLocation | None, decision: Decision) -> None:
    """Do it. Without a location gates can be answered, and nothing can be filled."""
    context = look.context
    references: dict[str, RepositoryReference] = {}
    for plan in decision.create:
        directory = plan.unit.data.volume.directory
        if location is not None and directory and directory not in references:
            references[directory] = await _reference(look, location, directory)
    empty = RepositoryReference(
        location=location.name if location is not None else "",
        location_id=location.location_id if location is not None else "",
        directory="",
        password_secret="",
        read_only=location is None or not location.writable,
    )

    async def create(plan: JobPlan) -> None:
        repository = references.get(plan.unit.data.volume.directory, empty)
        await _create(look, plan, repository)

    await for_each(decision.create, create, at_once=_AT_ONCE)
    for job in decision.cancel:
        await context.api.patch(
            JOBS, job.name, {"spec": {"cancel": True}}, namespace=context.namespace
        )
    for job in decision.abandon:
        await _abandon(look, job)
    for unit in decision.release:
        await release_claim(look, unit)
    for unit in decision.let_go:
        await let_go(look, unit)


async def _give_turns(look: Look, location: OpenLocation, pods: Sequence[GatedPod]) -> None:
    if not any(waits_for_turn(pod) for pod in pods):
        return
    jobs = [job for job in look.jobs() if job.spec.volume == gate.TURN]
    came = await turns_that_came(look, pods, answered=[job.spec.pod.uid for job in jobs])
    plans = [plan_turn(look.restore, pod, cause=cause) for pod, cause in came]
    await apply(look, location, Decision(create=plans))


async def _reference(look: Look, location: OpenLocation, directory: str) -> RepositoryReference:
    assert look.memory.manifest is not None
    repository = repository_of(look.memory.manifest, directory)
    return await look.context.repository_reference(
        owner=look.restore,
        location=location,
        directory=directory,
        repository_name=repository.repository_name,
        key_id=repository.key_id,
    )


async def _create(look: Look, plan: JobPlan, repository: RepositoryReference) -> None:
    context = look.context
    body = build_job(plan, restore=look.restore, namespace=context.namespace, repository=repository)
    try:
        await context.api.create(JOBS, body, namespace=context.namespace)
    except Conflict:
        return  # made before: by this controller, or by one that was killed
    look.log.info(
        "node job created",
        job=plan.name,
        volume=f"{plan.holder.pod.path}/{plan.holder.volume}",
        node=plan.holder.pod.node,
        role=plan.role.value,
        follows=plan.follows or "",
    )


async def _abandon(look: Look, job: PodVolumeRestore) -> None:
    """Declare a job ended whose node is gone. Its next holder takes over."""
    raw = look.context.pod_volume_restores.get(job.name, look.context.namespace)
    if raw is None:
        return
    message = f"node {job.spec.node} is gone, and its agent with it"
    status = {
        "phase": JobPhase.CANCELLED.value,
        "reason": "NodeGone",
        "message": message,
        "completionTime": utcnow().isoformat(),
    }
    version = raw["metadata"]["resourceVersion"]
    await patch_status(look.context.api, JOBS, raw, status, resource_version=version)
    look.log.warning("node job abandoned", job=job.name, message=message)


def note_moves(look: Look, units: Sequence[Unit]) -> None:
    """Remember since when each unit looks as it does."""
    moved, now = look.memory.moved, time.monotonic()
    for unit in units:
        shape, known = _shape(unit), moved.get(unit.key)
        if known is None or known[0] != shape:
            moved[unit.key] = (shape, now)


def quiet_seconds(look: Look, unit: Unit) -> float:
    """For how long nothing has changed about it."""
    known = look.memory.moved.get(unit.key)
    return time.monotonic() - known[1] if known is not None else 0.0


def overdue(
    look: Look, units: Sequence[Unit], waiting: Sequence[Failure]
) -> dict[tuple[str, ...], Failure]:
    """Units that nothing has happened to for the restore's deadline."""
    deadline = look.restore.spec.gate.no_progress_seconds
    causes = {cause.object: cause for cause in waiting}
    found: dict[tuple[str, ...], Failure] = {}
    for unit in units:
        settled = unit.over or unit.missing or unit.failed is not None or unit.word is not None
        if settled or quiet_seconds(look, unit) < deadline:
            continue
        places = [f"{holder.pod.path}/{holder.volume}" for holder in unit.holders]
        cause = next((causes[name] for name in (unit.id, *places) if name in causes), None)
        found[unit.key] = Failure(
            object=unit.id,
            reason=cause.reason if cause else "NoProgress",
            message=f"nothing moved for {deadline} s"
            + (f": {cause.message}" if cause else "")
            + "; its data is still restored as soon as that is mended",
        )
    return found


def _shape(unit: Unit) -> object:
    """What changes when a unit moves."""
    active = unit.active
    job = (
        (
            active.name,
            active.status.phase,
            active.status.heartbeat_time,
            active.status.progress.bytes_done,
            active.status.progress.files_done,
        )
        if active is not None
        else None
    )
    holders = tuple((holder.pod.uid, holder.pod.node) for holder in unit.holders)
    return (job, holders, len(unit.jobs))


async def _warnings(
    look: Look, units: Sequence[Unit], agents: dict[str, bool]
) -> dict[tuple[str, str, str], str]:
    """The last warning Events about the claims and pods that are stuck, now and then."""
    memory, now = look.memory, time.monotonic()
    helpers = {("Helper", key[1], key[2]): text for key, text in memory.helper_refused.items()}
    if memory.last_events and now - memory.last_events < _EVENTS_SECONDS:
        return {**memory.events, **helpers}
    wanted: dict[tuple[str, str, str], None] = {}
    namespaces: dict[str, None] = {}
    for unit in units:
        if why_waiting(unit, agents=agents, now=utcnow()) is None:
            continue
        if not unit.holders:
            namespaces[unit.key[1]] = None
        for holder in unit.holders[:1]:
            pod = holder.pod
            if not pod.node and unit.claim is not None:
                wanted["PersistentVolumeClaim", pod.namespace, unit.claim.name] = None
            wanted["Pod", pod.namespace, pod.name] = None
    memory.last_events, memory.events = now, {}
    for kind, namespace, name in list(wanted)[:_EVENTS_OBJECTS]:
        message = await _last_warning(look, kind=kind, namespace=namespace, name=name)
        if message:
            memory.events[kind, namespace, name] = message
    for namespace in list(namespaces)[:_EVENTS_OBJECTS]:
        message = await _last_event(look, namespace, "reason=FailedCreate,type=Warning")
        if message:
            memory.events["Namespace", namespace, "FailedCreate"] = message
    return {**memory.events, **helpers}


async def _last_warning(look: Look, *, kind: str, namespace: str, name: str) -> str:
    fields = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
    return await _last_event(look, namespace, fields)


async def _last_event(look: Look, namespace: str, fields: str) -> str:
    try:
        events = [
            e async for e in look.context.api.list(EVENTS, namespace=namespace, fields=fields)
        ]
    except AraratError:
        return ""  # a help, not a need
    ours = [e for e in events if e.get("source", {}).get("component") != "ararat-controller"]
    latest = max(
        ours,
        key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""),
        default=None,
    )
    return str(latest.get("message") or "") if latest else ""
