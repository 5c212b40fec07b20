"""Which node jobs the gated pods need. Pure.

Problem: data must arrive in each volume exactly once, whatever happens to the pods around it:
several pods share a claim, pods are replaced while their volume is being filled, nodes go away.
Decision: of a unit (claim, or pod-lifetime volume) the oldest scheduled pod's job *fills*, all
others *follow* and only answer their gate with its outcome. A new Fill is made only when the former
one has ended, so there are never two writers; a Fill whose pod is gone is ended by its agent, or
declared ended here when the node is gone for good. Names are derived, so that a controller which
was killed finds its jobs instead of making them twice.
A Fill that takes over a volume with partial data must be allowed to replace it. The agent believes
that only of what the *status* says, which cannot be created with the object; so such a job is made
as a Follow without a leader (which an agent never starts), gets ``status.wrote``, and only then its
role. A crash in between is found again, because a Follow without a leader is nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ararat import naming
from ararat.api import PodVolumeRestore, Restore
from ararat.api.base import Meta
from ararat.api.names import NODE, RESTORE, RESTORE_UID
from ararat.api.nodejob import (
    JobPhase,
    PodReference,
    PodVolumeRestoreSpec,
    PodVolumeRestoreStatus,
    RepositoryReference,
    Role,
)

from .units import PodVolume, Unit, is_handover


@dataclass(frozen=True)
class JobPlan:
    """A node job to create."""

    name: str
    unit: Unit
    holder: PodVolume
    role: Role
    #: For a Follow: its leader. None for one that takes over partial data.
    follows: str | None = None


@dataclass
class Decision:
    create: list[JobPlan] = field(default_factory=list)
    #: To be told of the partial data they take over, then to fill.
    promote: list[PodVolumeRestore] = field(default_factory=list)
    #: Never to end by themselves: their node is gone.
    abandon: list[PodVolumeRestore] = field(default_factory=list)
    #: Claims whose data is verified and that are still marked.
    release: list[Unit] = field(default_factory=list)


def decide(
    units: Iterable[Unit],
    *,
    restore: Restore,
    gone_nodes: frozenset[str] = frozenset(),
    agentless: frozenset[str] = frozenset(),
    retry: bool = False,
) -> Decision:
    """What to do about jobs now.

    ``gone_nodes`` do not exist any more; ``agentless`` ones have no agent pod at all. ``retry``:
    somebody asks for another attempt where the last one failed for good.
    """
    decision = Decision()
    for unit in units:
        if unit.missing:
            continue
        if unit.done is not None and unit.pending and unit.claim is not None:
            decision.release.append(unit)
        leader = _leader(
            unit,
            restore,
            decision,
            gone_nodes=gone_nodes,
            agentless=agentless,
            retry=retry,
        )
        if leader is None:
            continue
        for holder in unit.holders:
            if not holder.pod.node or _is_leaders(holder, leader, unit, decision):
                continue
            if _needs_follow(holder, unit, leader):
                decision.create.append(
                    JobPlan(
                        name=_name(restore, unit, holder),
                        unit=unit,
                        holder=holder,
                        role=Role.FOLLOW,
                        follows=leader,
                    )
                )
    return decision


def _leader(
    unit: Unit,
    restore: Restore,
    decision: Decision,
    *,
    gone_nodes: frozenset[str],
    agentless: frozenset[str],
    retry: bool,
) -> str | None:
    """The name of the job that fills the unit, planned here if need be."""
    if unit.done is not None:
        return unit.done.name
    active = unit.active
    if active is not None:
        if _is_lost(active, unit, gone_nodes, agentless):
            decision.abandon.append(active)
            return None
        if is_handover(active):
            decision.promote.append(active)
        return active.name
    if (unit.failed is not None and not retry) or not unit.pending:
        return None
    for holder in unit.holders:
        own = [job for job in unit.jobs if holder.is_of(job)]
        # A Follow of the former leader still has its say in the pod's gate; it ends in a moment.
        if holder.pod.node and all(job.status.phase.terminal for job in own):
            handover = any(job.status.wrote for job in unit.fills)
            plan = JobPlan(
                name=_name(restore, unit, holder),
                unit=unit,
                holder=holder,
                role=Role.FOLLOW if handover else Role.FILL,
            )
            decision.create.append(plan)
            return plan.name
    return None


def _is_lost(
    job: PodVolumeRestore, unit: Unit, gone_nodes: frozenset[str], agentless: frozenset[str]
) -> bool:
    if job.spec.node in gone_nodes:
        return True
    orphaned = not any(holder.is_of(job) for holder in unit.holders)
    return orphaned and job.status.phase is JobPhase.NEW and job.spec.node in agentless


def _is_leaders(holder: PodVolume, leader: str, unit: Unit, decision: Decision) -> bool:
    if any(job.name == leader and holder.is_of(job) for job in unit.jobs):
        return True
    return any(plan.name == leader and plan.holder == holder for plan in decision.create)


def _needs_follow(holder: PodVolume, unit: Unit, leader: str) -> bool:
    own = [job for job in unit.jobs if holder.is_of(job)]
    if not own:
        return True
    last = own[-1]
    if not last.status.phase.terminal or last.status.phase is JobPhase.COMPLETED:
        return False
    # It answered with the outcome of a job that is no longer the last word.
    return last.spec.follows != leader


def _name(restore: Restore, unit: Unit, holder: PodVolume) -> str:
    attempt = sum(1 for job in unit.jobs if holder.is_of(job))
    return naming.object_name(
        restore.name,
        holder.pod.name,
        holder.volume,
        str(attempt or ""),
        unique=(holder.pod.uid, restore.uid),
    )


def build_job(
    plan: JobPlan, *, restore: Restore, namespace: str, repository: RepositoryReference
) -> dict[str, Any]:
    """The PodVolumeRestore to create."""
    unit, pod = plan.unit, plan.holder.pod
    volume = unit.data.volume
    job = PodVolumeRestore(
        metadata=Meta(
            name=plan.name,
            namespace=namespace,
            labels={
                NODE: naming.label_value(pod.node),
                RESTORE: naming.label_value(restore.name),
                RESTORE_UID: restore.uid,
            },
        ),
        spec=PodVolumeRestoreSpec(
            restore=restore.name,
            restore_uid=restore.uid,
            node=pod.node,
            pod=PodReference(namespace=pod.namespace, name=pod.name, uid=pod.uid),
            volume=plan.holder.volume,
            claim=unit.claim,
            repository=repository,
            snapshot_id=volume.snapshot_id,
            root=volume.root,
            role=plan.role,
            follows=plan.follows,
            expected_bytes=unit.data.size,
            expected_files=unit.data.files,
            no_progress_seconds=restore.spec.gate.no_progress_seconds,
        ),
        status=PodVolumeRestoreStatus(),
    ).manifest()
    job["metadata"]["ownerReferences"] = [restore.owner_reference()]
    return job
