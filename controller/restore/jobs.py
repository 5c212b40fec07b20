"""Which node jobs the gated pods need. Pure.

Problem: data must arrive in each volume exactly once, whatever happens to the pods around it:
several pods share a claim, pods are replaced while their volume is being filled, nodes go away.
Decision: of a unit (claim, or pod-lifetime volume) the oldest scheduled pod's job *fills*, all
others *follow* and only answer their gate with its outcome. A new Fill is made only when the former
one has ended, so there are never two writers; a Fill whose pod is gone is ended by its agent, or
declared ended here when the node is gone for good. Names are derived, so that a controller which
was killed finds its jobs instead of making them twice.
A Fill that meets partial data of an earlier job of this restore names that job (``takesOver``), and
may replace it; any other content makes it fail.
What is not filled and never will be (given up by a person, or not in the backup) is *answered*: a
job of role Answer brings the gate its last word, once nothing writes into the volume any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ararat import gate, naming
from ararat.api import PodVolumeRestore, Restore
from ararat.api.base import Meta
from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.names import NODE, RESTORE, RESTORE_UID
from ararat.api.nodejob import (
    Answer,
    ExistingData,
    JobPhase,
    PodReference,
    PodVolumeRestoreSpec,
    PodVolumeRestoreStatus,
    RepositoryReference,
    RestoreMode,
    Role,
)
from ararat.api.restore import OnFailure, ReleaseAction, RestoreVolumesMode
from ararat.human import size

from .data import VolumeData, Want
from .gated import GatedPod
from .units import PodVolume, Unit


@dataclass(frozen=True)
class JobPlan:
    """A node job to create."""

    name: str
    unit: Unit
    holder: PodVolume
    role: Role
    #: For a Follow: its leader.
    follows: str | None = None
    #: For a Fill: the job whose partial data it replaces.
    takes_over: str | None = None
    #: For an Answer: what the gate is told, and why.
    answer: Answer | None = None
    cause: str = ""
    attempt: int = 0


@dataclass
class Decision:
    create: list[JobPlan] = field(default_factory=list)
    #: To be stopped: their volume was given up.
    cancel: list[PodVolumeRestore] = field(default_factory=list)
    #: Never to end by themselves: their node is gone.
    abandon: list[PodVolumeRestore] = field(default_factory=list)
    #: Claims whose data is verified and that are still marked.
    release: list[Unit] = field(default_factory=list)
    #: Claims that were given up: their mark goes, and a note stays.
    let_go: list[Unit] = field(default_factory=list)


def decide(
    units: Iterable[Unit],
    *,
    restore: Restore,
    gone_nodes: frozenset[str] = frozenset(),
    agentless: frozenset[str] = frozenset(),
    retry: bool = False,
    strays: Iterable[PodVolumeRestore] = (),
) -> Decision:
    """What to do about jobs now.

    ``gone_nodes`` do not exist any more; ``agentless`` ones have no agent pod at all. ``retry``:
    somebody asks for another attempt where the last one failed for good. ``strays`` are what
    ``find_strays`` found.
    """
    decision = Decision(abandon=[job for job in strays if job.spec.node in gone_nodes])
    for unit in units:
        action = given_up(unit, restore, retry=retry)
        if action is not None:
            writing = [job for job in unit.fills if not job.status.phase.terminal]
            for job in writing:
                if _is_lost(job, unit, gone_nodes, agentless):
                    decision.abandon.append(job)
                elif not job.spec.cancel:
                    decision.cancel.append(job)
            if not writing:  # no pod starts on a volume that is being written
                _give_up(unit, action, restore, decision)
            continue
        if unit.gone:
            continue
        if unit.missing:
            _answer(unit, Answer.FAILED, _missing(unit, restore), restore, decision)
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
                    plan_job(restore, unit, holder, role=Role.FOLLOW, follows=leader)
                )
    return decision


def find_strays(units: Iterable[Unit], jobs: Iterable[PodVolumeRestore]) -> list[PodVolumeRestore]:
    """Jobs that have not ended and whose claim is not there any more."""
    known = {job.name for unit in units for job in unit.jobs}
    return [
        job
        for job in jobs
        if job.spec.claim is not None and not job.status.phase.terminal and job.name not in known
    ]


def given_up(unit: Unit, restore: Restore, *, retry: bool = False) -> ReleaseAction | None:
    """What is to become of the pods of a volume that is not going to be filled.

    None where it is filled, or still to be filled.
    """
    if unit.completed:
        return None
    if unit.let_go:
        return ReleaseAction.START
    if unit.word is not None:
        return unit.word
    starts = restore.spec.gate.on_failure is OnFailure.START
    # What the backup does not have is another matter: that is what allowMissing is for.
    if starts and not retry and not unit.missing and unit.failed is not None:
        return ReleaseAction.START
    return None


def _give_up(unit: Unit, action: ReleaseAction, restore: Restore, decision: Decision) -> None:
    if action is ReleaseAction.START and unit.claim is not None and unit.pending and not unit.gone:
        decision.let_go.append(unit)
    answer = Answer.RELEASED if action is ReleaseAction.START else Answer.REFUSED
    _answer(unit, answer, given_up_text(unit, restore), restore, decision)


def given_up_text(unit: Unit, restore: Restore) -> str:
    """What is in a volume that was given up."""
    by_policy = unit.word is None
    who = "gate.onFailure is Start" if by_policy else "a person released it"
    last = unit.fills[-1].status.progress if unit.fills else None
    wrote = any(job.status.wrote for job in unit.fills)
    if not wrote or last is None:
        return f"{who}: nothing was restored into it by {restore.name}"
    return (
        f"{who}: {last.files_done:,} of {unit.data.files:,} files, {size(last.bytes_done)} of "
        f"{size(unit.data.size)} were restored into it by {restore.name}"
    )


def _missing(unit: Unit, restore: Restore) -> str:
    return f"{unit.data.why_missing}; see: ararat restore release {restore.name}"


def _answer(unit: Unit, answer: Answer, cause: str, restore: Restore, decision: Decision) -> None:
    """Bring the word to every gate that has not got it."""
    for holder in unit.holders:
        own = unit.jobs_of(holder)
        if not holder.pod.node or (own and own[-1].spec.answer is answer):
            continue
        decision.create.append(
            plan_job(restore, unit, holder, role=Role.ANSWER, answer=answer, cause=cause)
        )


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
        return active.name
    if (unit.failed is not None and not retry) or not unit.pending:
        return None
    for holder in unit.holders:
        own = unit.jobs_of(holder)
        # A Follow of the former leader still has its say in the pod's gate; it ends in a moment.
        if holder.pod.node and all(job.status.phase.terminal for job in own):
            plan = plan_job(restore, unit, holder, role=Role.FILL, takes_over=_partial(unit))
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
    own = unit.jobs_of(holder)
    if not own:
        return True
    last = own[-1]
    if not last.status.phase.terminal:
        return False
    if last.status.phase is JobPhase.COMPLETED and last.spec.role is not Role.ANSWER:
        return False
    # It answered with the outcome of a job that is no longer the last word.
    return last.spec.follows != leader


def _partial(unit: Unit) -> str | None:
    """The job whose data stands in the volume, unfinished."""
    wrote = [job.name for job in unit.fills if job.status.wrote or job.spec.takes_over]
    return wrote[-1] if wrote else None


def plan_job(restore: Restore, unit: Unit, holder: PodVolume, **more: Any) -> JobPlan:
    """A job for this pod and volume; its name is derived."""
    attempt = len(unit.jobs_of(holder))
    name = naming.object_name(
        restore.name,
        holder.pod.name,
        holder.volume,
        str(attempt or ""),
        unique=(holder.pod.uid, restore.uid),
    )
    return JobPlan(name=name, unit=unit, holder=holder, attempt=attempt, **more)


def plan_turn(restore: Restore, pod: GatedPod, *, cause: str) -> JobPlan:
    """The word to a pod that its turn has come."""
    volume = ManifestVolume(
        namespace=pod.namespace, pod=pod.name, volume=gate.TURN, coverage=Coverage.BACKED_UP
    )
    unit = Unit(
        id=f"{pod.path}/{gate.TURN}",
        key=("turn", pod.uid),
        data=VolumeData(Want.FILL, volume),
    )
    return plan_job(
        restore,
        unit,
        PodVolume(pod, gate.TURN),
        role=Role.ANSWER,
        answer=Answer.RELEASED,
        cause=cause,
    )


def build_job(
    plan: JobPlan, *, restore: Restore, namespace: str, repository: RepositoryReference
) -> dict[str, Any]:
    """The PodVolumeRestore to create."""
    unit, pod = plan.unit, plan.holder.pod
    volume, wanted = unit.data.volume, restore.spec.volumes
    in_place = wanted.mode is RestoreVolumesMode.IN_PLACE
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
            snapshot_id=None if plan.answer else volume.snapshot_id,
            root=None if plan.answer else volume.root,
            role=plan.role,
            follows=plan.follows,
            mode=RestoreMode.IN_PLACE if in_place else RestoreMode.NEW_POD,
            verify=wanted.verify,
            paths=wanted.paths if in_place else [],
            delete_extra=in_place and wanted.delete_extra,
            existing_data=ExistingData.REFUSE if in_place else wanted.existing_data,
            takes_over=plan.takes_over,
            answer=plan.answer,
            cause=plan.cause,
            attempt=plan.attempt,
            expected_bytes=unit.data.size,
            expected_files=unit.data.files,
            no_progress_seconds=restore.spec.gate.no_progress_seconds,
        ),
        status=PodVolumeRestoreStatus(),
    ).manifest()
    job["metadata"]["ownerReferences"] = [restore.owner_reference()]
    return job
