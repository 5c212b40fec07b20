"""Takes a claim's workloads to zero for a restore in place, and back to what they were.

Problem: a database must not run while its files change under it; and a restore that stopped it
must start it again, whatever becomes of the restore and of the controller.
Decision: what a workload was scaled to is written into the Restore's status, and onto the workload
itself, before and with the change. Nothing is written into the claim until the last pod that uses
it is gone. However the restore ends, its end brings back what status lists, and the Restore's
finalizer holds it until that is done. A workload that somebody has scaled meanwhile, or made again,
is left as it is.
Limits: an operator or a GitOps tool that scales up again keeps the claim in use; the restore then
fails at its deadline and says which pod it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ararat.api.backup import Failure
from ararat.api.names import SCALED_DOWN
from ararat.api.restore import ScaledWorkload
from ararat.errors import AraratError, NotFound, Retryable
from ararat.human import plural

from .run import Look
from .scaling import SCALABLE, Use, Workload, scaled_by, use_of
from .stored import Object
from .units import Unit


@dataclass(frozen=True)
class Freed:
    """Units that cannot be written to yet, or not at all, by their keys."""

    waiting: Mapping[tuple[str, ...], Failure] = field(default_factory=dict)
    refused: Mapping[tuple[str, ...], Failure] = field(default_factory=dict)


async def scale_down(look: Look, units: Sequence[Unit], pods: Iterable[Object]) -> Freed:
    """See to it that nobody uses these units' claims. Raises AraratError."""
    pods = list(pods)
    waiting: dict[tuple[str, ...], Failure] = {}
    refused: dict[tuple[str, ...], Failure] = {}
    known = {
        namespace: await _workloads(look, namespace)
        for namespace in sorted({unit.key[1] for unit in units})
    }
    uses: dict[tuple[str, ...], Use] = {}
    for unit in units:
        assert unit.claim is not None
        here = [pod for pod in pods if pod["metadata"]["namespace"] == unit.key[1]]
        use = use_of(unit.claim.name, known[unit.key[1]], here)
        other = _another(look, use.workloads)
        if use.problem:
            refused[unit.key] = Failure(
                object=unit.id, reason="CannotScaleDown", message=use.problem
            )
        elif other:
            waiting[unit.key] = Failure(object=unit.id, reason="ScaledByAnother", message=other)
        else:
            uses[unit.key] = use
    running = {w.uid: w for use in uses.values() for w in use.workloads if w.replicas > 0}
    await _record(look, running.values())
    for workload in running.values():
        await _to_zero(look, workload)
    for unit in units:
        found = uses.get(unit.key)
        if found is not None and found.pods:
            message = f"waits until {plural(len(found.pods), 'pod')} of the claim went away: "
            waiting[unit.key] = Failure(
                object=unit.id,
                reason="ScalingDown",
                message=message + ", ".join(found.pods[:3]),
            )
    return Freed(waiting, refused)


async def scale_up(look: Look) -> list[Failure]:
    """Bring back what was scaled down; what could not be. Raises Retryable."""
    failures = []
    left = list(look.restore.status.scaled_down)
    for scaled in tuple(left):
        try:
            await _back(look, scaled)
        except Retryable:
            raise
        except AraratError as exc:
            kind = SCALABLE[scaled.resource].kind.lower()
            message = (
                f"could not be scaled up again: {exc.message}: kubectl scale {kind} {scaled.name} "
                f"-n {scaled.namespace} --replicas {scaled.replicas}"
            )
            look.log.warning("not scaled up", workload=scaled.id, message=exc.message)
            failures.append(Failure(object=scaled.id, reason="ScaleUpFailed", message=message))
        left.remove(scaled)
        await look.patch({"scaledDown": [each.to_dict() for each in left]})
    return failures


def _another(look: Look, workloads: Iterable[Workload]) -> str:
    """A restore that will scale one of them up in the end, in one sentence."""
    for workload in workloads:
        name = scaled_by(workload.body)
        if name and name != look.restore.name:
            return (
                f"{workload.id} is scaled to zero by restore {name}, which will scale it up again "
                f"when it ends; if there is no such restore, remove the annotation {SCALED_DOWN}"
            )
    return ""


async def _workloads(look: Look, namespace: str) -> list[Workload]:
    return [
        Workload(resource, body)
        for resource, rt in SCALABLE.items()
        async for body in look.context.api.list(rt, namespace=namespace)
    ]


async def _record(look: Look, running: Iterable[Workload]) -> None:
    """In status, before anything is scaled."""
    recorded = list(look.restore.status.scaled_down)
    known = {scaled.uid for scaled in recorded}
    new = [workload.recorded() for workload in running if workload.uid not in known]
    if new:
        await look.patch({"scaledDown": [each.to_dict() for each in [*recorded, *new]]})


async def _to_zero(look: Look, workload: Workload) -> None:
    scaled = next(s for s in look.restore.status.scaled_down if s.uid == workload.uid)
    patch = {
        "metadata": {
            "uid": workload.uid,
            # What is on record must be what is changed.
            "resourceVersion": workload.body["metadata"]["resourceVersion"],
            "annotations": {SCALED_DOWN: f"{look.restore.name} {scaled.replicas}"},
        },
        "spec": {"replicas": 0},
    }
    try:
        await look.context.api.patch(
            SCALABLE[workload.resource], scaled.name, patch, namespace=scaled.namespace
        )
    except NotFound:
        return
    look.log.info("scaled to zero", workload=workload.id, replicas=scaled.replicas)


async def _back(look: Look, scaled: ScaledWorkload) -> None:
    api, rt = look.context.api, SCALABLE[scaled.resource]
    try:
        body = await api.get(rt, scaled.name, namespace=scaled.namespace)
    except NotFound:
        look.log.warning("is gone, not scaled up", workload=scaled.id)
        return
    if body["metadata"]["uid"] != scaled.uid or scaled_by(body) != look.restore.name:
        return  # another one of that name, or never scaled, or scaled up already
    patch: Object = {
        "metadata": {
            "resourceVersion": body["metadata"]["resourceVersion"],
            "annotations": {SCALED_DOWN: None},
        }
    }
    if Workload(scaled.resource, body).replicas == 0:
        patch["spec"] = {"replicas": scaled.replicas}
    await api.patch(rt, scaled.name, patch, namespace=scaled.namespace)
    look.log.info("scaled up again", workload=scaled.id, replicas=scaled.replicas)
