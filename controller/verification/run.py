"""One look at the pods of a verification: the I/O around running.py.

Decision: the copies are filled and started by a Restore like any other, which belongs to the
verification; what it read back in full counts as read, and is not read again. Order: the finalizer,
what is to be made (status), namespaces and their policies, the Restore. So whatever is killed when,
the next look finds what there is and goes on, and nothing is left that nobody knows of.
Limits: an answer to a probe is remembered by the process only; another asks again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from ararat import naming
from ararat.api import PodVolumeRestore, Restore
from ararat.api.backup import Failure
from ararat.api.base import Meta, utcnow
from ararat.api.manifest import Manifest
from ararat.api.names import OWNER_UID
from ararat.api.nodejob import Verify
from ararat.api.restore import RestoreSpec, RestoreStatus, RestoreVolumes
from ararat.api.verification import RunOutcome, RunStatus, VerificationRun
from ararat.duration import parse
from ararat.errors import AraratError, Conflict, InvalidSpec, Retryable
from ararat.kube.errors import ExecFailed, ExecInterrupted
from ararat.kube.resources import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from ararat.kube.resources import of as resource_of
from controller.restore.selection import resolve_namespaces

from . import copies
from .running import (
    Act,
    Holds,
    NeedsAnswers,
    NeedsRestore,
    Over,
    Raw,
    Seen,
    container_of,
    next_act,
    path_of,
    uid_of,
)

if TYPE_CHECKING:
    from .look import Look

_RESTORES = resource_of(Restore)
_WORKLOADS = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS)
_PROBE_SECONDS = 30.0
_OUTPUT = 4096
_TOLD = 300
log = structlog.get_logger("controller.verification")


class RunRefused(InvalidSpec):
    """The chart does not allow it."""

    default_reason = "RunNotAllowed"


@dataclass
class RunMemory:
    """What this process knows of a run; another finds it out again."""

    #: Of each namespace in the backup.
    labels: dict[str, Mapping[str, str]] | None = None
    passed: set[tuple[int, str]] = field(default_factory=set)
    answer: str = ""


def refuse_if_forbidden(look: Look) -> None:
    """Raises RunRefused, before anything is made."""
    if not look.context.scratch_policy.run:
        raise RunRefused(
            "starting a backup's pods needs the right to remove namespaces, which Ararat has not "
            f"got here: set the chart's value {copies.VALUE} to true, or verify without --run"
        )


async def step(look: Look, manifest: Manifest) -> list[Failure]:
    """Do the next thing; what is waited for, empty when the outcome is known.

    Raises Retryable.
    """
    wanted = look.verification.spec.run
    assert wanted is not None
    if look.verification.status.run is None:
        await _begin(look, wanted, manifest)
    state = look.verification.status.run
    assert state is not None
    if state.outcome is not RunOutcome.NONE:
        return []
    act = await _next(look, wanted, state)
    match act:
        case Over():
            await _conclude(look, state, act)
            return []
        case NeedsRestore():
            return await _make(look, wanted, state)
        case NeedsAnswers():
            await _ask(look, wanted, act)
            why = look.memory.run.answer or "probes run"
            return [Failure(object="run", reason="Probing", message=why)]
        case Holds():
            return [Failure(object="run", reason="Running", message=act.why)]


async def _begin(look: Look, wanted: VerificationRun, manifest: Manifest) -> None:
    context = look.context
    parse(wanted.timeout)
    chosen = resolve_namespaces(
        RestoreSpec(backup=manifest.backup, included_namespaces=wanted.included_namespaces),
        manifest.backup,
        sorted(manifest.namespaces),
        own_namespaces=frozenset({context.namespace, context.keys_namespace}),
    )
    uid = look.verification.uid
    await look.set_finalizer(present=True)
    state = RunStatus(
        start_time=utcnow(),
        namespaces={namespace: copies.copy_name(namespace, uid) for namespace in chosen},
        restore=naming.object_name(look.verification.name, "run", unique=(uid,)),
    )
    await look.patch({"run": state.to_dict()})


async def _next(look: Look, wanted: VerificationRun, state: RunStatus) -> Act:
    context, memory = look.context, look.memory.run
    began = state.start_time or utcnow()
    raw = context.restores.get(state.restore, context.namespace)
    restore = Restore.parse(raw) if raw is not None else None
    workloads: list[Raw] = []
    pods: list[Raw] = []
    if restore is not None and restore.status.phase.terminal:
        for namespace in state.namespaces.values():
            pods += [pod async for pod in context.api.list(PODS, namespace=namespace)]
            for kind in _WORKLOADS:
                workloads += [one async for one in context.api.list(kind, namespace=namespace)]
    seen = Seen(
        restore=restore,
        workloads=workloads,
        pods=pods,
        overdue=utcnow() - began > parse(wanted.timeout),
        passed=frozenset(memory.passed),
        answer=memory.answer,
    )
    return next_act(wanted, state.namespaces, seen)


async def _make(look: Look, wanted: VerificationRun, state: RunStatus) -> list[Failure]:
    context, verification = look.context, look.verification
    try:
        await copies.ensure(context, verification, await _labels(look, state))
    except Retryable:
        raise
    except AraratError as exc:
        await _conclude(look, state, Over(RunOutcome.UNTRIED, exc.reason, exc.message))
        return []
    body = Restore(
        metadata=Meta(
            name=state.restore,
            namespace=context.namespace,
            labels={OWNER_UID: verification.uid},
        ),
        spec=RestoreSpec(
            backup=verification.spec.backup,
            included_namespaces=sorted(state.namespaces),
            namespace_mapping=state.namespaces,
            include_cluster_resources=False,
            storage_class_mapping=wanted.storage_class_mapping,
            volumes=RestoreVolumes(verify=Verify.FULL),
            isolated=True,
        ),
        status=RestoreStatus(),
    ).manifest()
    body["metadata"]["ownerReferences"] = [verification.owner_reference()]
    with contextlib.suppress(Conflict):
        await context.api.create(_RESTORES, body, namespace=context.namespace)
        log.info("pods are restored", verification=verification.name, restore=state.restore)
    return [Failure(object="run", reason="Running", message="its pods are being restored")]


async def _labels(look: Look, state: RunStatus) -> dict[str, Mapping[str, str]]:
    """Of the namespaces to copy, as the backup has them."""
    known = look.memory.run.labels
    if known is None:
        known = await look.read_namespaces()
    return {namespace: known.get(namespace, {}) for namespace in state.namespaces}


async def _ask(look: Look, wanted: VerificationRun, act: NeedsAnswers) -> None:
    """Each probe in each pod, until one fails."""
    memory = look.memory.run
    for number, pod in act.asked:
        probe = wanted.probes[number]
        metadata, container = pod["metadata"], container_of(probe, pod)
        where = f"probe {number + 1} in {path_of(pod)} (container {container})"
        try:
            ran = await look.context.api.exec(
                metadata["namespace"],
                metadata["name"],
                container,
                probe.command,
                timeout=_PROBE_SECONDS,
                output_limit=_OUTPUT,
            )
        except ExecInterrupted:
            memory.answer = f"{where} had not ended after {_PROBE_SECONDS:.0f} s"
            return
        except ExecFailed as exc:
            memory.answer = f"{where} could not be started: {exc.message}"
            return
        if ran.exit_code:
            said = (ran.stderr or ran.stdout).decode(errors="replace").strip()
            memory.answer = f"{where} ended with exit code {ran.exit_code}"
            memory.answer += f": {said[-_TOLD:]}" if said else ""
            return
        memory.passed.add((number, uid_of(pod)))
    memory.answer = ""


async def _conclude(look: Look, state: RunStatus, over: Over) -> None:
    log.info(
        "pods of a verification",
        verification=look.verification.name,
        outcome=over.outcome.value,
        reason=over.reason,
        message=over.message,
    )
    told = {"outcome": over.outcome.value, "reason": over.reason, "message": over.message}
    await look.patch({"run": {**state.to_dict(), **told}})


def read_back(look: Look) -> list[PodVolumeRestore]:
    """The jobs that filled the copies, as far as they are still there."""
    state = look.verification.status.run
    raw = look.context.restores.get(state.restore, look.context.namespace) if state else None
    if raw is None:
        return []
    jobs = look.context.pod_volume_restores.by_index("restore-uid", raw["metadata"]["uid"])
    return [PodVolumeRestore.parse(job) for job in jobs]


async def removed(look: Look) -> str:
    """Take everything down that was made; what is still there, in words. Empty: nothing."""
    state = look.verification.status.run
    if state is None or state.removed:
        return ""
    left = await copies.remove(look.context, look.verification)
    if not left:
        await look.patch({"run": {"removed": True}})
    return left


def failure_of(state: RunStatus | None) -> Failure | None:
    """What the outcome says in the list of failures."""
    if state is None or state.outcome in (RunOutcome.NONE, RunOutcome.PASSED):
        return None
    return Failure(object="pods", reason=state.reason, message=state.message)
