"""What is told beyond counts: every failure of a restore; Events and a condition on held pods.

Decision: ``kubectl describe pod`` is where people look first, so each pod that waits for data has
a condition ``ararat.dev/volumes-restored`` (which a readiness gate may name), with the cause while
it is False, and gets an Event for each new cause. Nothing is written for progress alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ararat.api.backup import Failure
from ararat.api.base import utcnow
from ararat.api.names import VOLUMES_RESTORED
from ararat.concurrency import for_each
from ararat.errors import AraratError, NotFound
from ararat.kube.api import PatchType
from ararat.kube.resources import PODS

from .gated import GatedPod
from .progress import Volumes, unique
from .run import Filling, Look
from .units import PodVolume, Unit

_AT_ONCE = 8
_MESSAGE = 1024


@dataclass(frozen=True)
class Verdict:
    """What a pod's condition says."""

    holds: bool
    reason: str
    message: str = ""


def all_failures(look: Look, filling: Filling, volumes: Volumes) -> list[Failure]:
    """What went wrong with objects, and what is wrong with volumes *now*."""
    names = {unit.id for unit in filling.units}
    names |= {
        f"{holder.pod.path}/{holder.volume}" for unit in filling.units for holder in unit.holders
    }
    hooks = look.memory.hooks
    names |= hooks.pods if hooks is not None else frozenset()
    kept = [failure for failure in look.memory.failures or [] if failure.object not in names]
    return unique([*kept, *volumes.failures, *(hooks.failures if hooks is not None else ())])


async def tell_pods(look: Look, filling: Filling, volumes: Volumes) -> None:
    """On each pod that is held: a condition, and an Event once for each cause."""
    failed = {failure.object: failure for failure in volumes.failures}
    waiting = {cause.object: cause for cause in filling.waiting}
    pods: dict[str, GatedPod] = {}
    verdicts: dict[str, list[Verdict]] = {}
    for unit in filling.units:
        for holder in unit.holders:
            pods[holder.pod.uid] = holder.pod
            found = verdict(unit, holder, failed=failed, waiting=waiting)
            verdicts.setdefault(holder.pod.uid, []).append(found)
            if found.holds or not found.message:
                continue
            if (holder.pod.uid, found.message) not in look.memory.said:
                look.memory.said.add((holder.pod.uid, found.message))
                await _event(look, unit, holder, found, blocked=unit.id in failed)
    changed = [
        (pod, worst)
        for uid, pod in pods.items()
        if _differs(pod.raw, worst := _worst(verdicts[uid]))
    ]

    async def write(what: tuple[GatedPod, Verdict]) -> None:
        await _write(look, *what)

    await for_each(changed, write, at_once=_AT_ONCE)


def verdict(
    unit: Unit,
    holder: PodVolume,
    *,
    failed: Mapping[str, Failure],
    waiting: Mapping[str, Failure],
) -> Verdict:
    """How one volume of a pod stands. Pure."""
    if unit.completed:
        return Verdict(holds=True, reason="Restored")
    place = f"{holder.pod.path}/{holder.volume}"
    cause = failed.get(unit.id) or waiting.get(unit.id) or waiting.get(place)
    if cause is not None:
        return Verdict(holds=False, reason=cause.reason, message=cause.message)
    return Verdict(holds=False, reason="Restoring")


async def _event(
    look: Look, unit: Unit, holder: PodVolume, found: Verdict, *, blocked: bool
) -> None:
    reason = "RestoreWaiting"
    if blocked:
        reason = "RestoreReleased" if unit.let_go else "RestoreBlocked"
    await look.context.events.event(
        holder.pod.raw,
        reason=reason,
        message=f"volume {holder.volume} of restore {look.restore.name}: {found.message}",
        type="Warning",
    )


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The first that names a cause, else the first that does not hold."""
    return min(verdicts, key=lambda v: (v.holds, not v.message))


def _differs(pod: Mapping[str, Any], found: Verdict) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    now = next((c for c in conditions if c.get("type") == VOLUMES_RESTORED), None)
    if now is None:
        return True
    return (now.get("status"), now.get("reason"), now.get("message", "")) != (
        "True" if found.holds else "False",
        found.reason,
        found.message[:_MESSAGE],
    )


async def _write(look: Look, pod: GatedPod, found: Verdict) -> None:
    condition = {
        "type": VOLUMES_RESTORED,
        "status": "True" if found.holds else "False",
        "reason": found.reason,
        "message": found.message[:_MESSAGE],
        "lastTransitionTime": utcnow().isoformat(timespec="seconds"),
    }
    try:
        await look.context.api.patch(
            PODS,
            pod.name,
            {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}},
            namespace=pod.namespace,
            subresource="status",
            kind=PatchType.STRATEGIC,
        )
    except NotFound:
        return
    except AraratError as exc:  # a help, not a need
        look.log.info("pod condition not written", pod=pod.path, cause=exc.message)
