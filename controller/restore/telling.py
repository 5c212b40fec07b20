"""What is told beyond counts: every failure of a restore; Events and a condition on held pods.

Decision: ``kubectl describe pod`` is where people look first, so each pod that waits for data has
a condition ``ararat.dev/volumes-restored`` (which a readiness gate may name), with the cause while
it is False, and gets an Event for each new cause. Nothing is written for progress alone. A gate
that has opened makes it True, whenever that is seen: a pod may be through before the next look, or
long after the restore has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ararat import gate
from ararat.api.backup import Failure
from ararat.api.base import utcnow
from ararat.api.names import VOLUMES_RESTORED
from ararat.api.nodejob import Answer
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
    # What kept the restore as a whole from going on does so no more.
    names = {"restore"} | {unit.id for unit in filling.units}
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
    words = [
        Word(unit, holder, verdict(unit, holder, failed=failed, waiting=waiting), unit.id in failed)
        for unit in filling.units
        for holder in unit.holders
    ]
    await tell(look, words)
    await _tell_claims(look, filling)
    await tell_passed(look)


@dataclass(frozen=True)
class Word:
    """What is told about one volume of a pod."""

    unit: Unit
    holder: PodVolume
    verdict: Verdict
    #: For good, as things are.
    blocked: bool = False


async def tell(look: Look, words: Sequence[Word]) -> None:
    """Events for causes that are new, and the condition of each pod."""
    pods: dict[str, GatedPod] = {}
    verdicts: dict[str, list[Verdict]] = {}
    for word in words:
        pod, found = word.holder.pod, word.verdict
        pods[pod.uid] = pod
        verdicts.setdefault(pod.uid, []).append(found)
        if not found.holds and found.message and (pod.uid, found.message) not in look.memory.said:
            look.memory.said.add((pod.uid, found.message))
            await _event(look, word)
    await _write_all(look, [(pod, _worst(verdicts[uid])) for uid, pod in pods.items()])


async def _tell_claims(look: Look, filling: Filling) -> None:
    """Where there is no pod to say it on: claims whose pods nobody is allowed to make."""
    refused = {cause.object: cause for cause in filling.waiting if cause.reason == "PodRefused"}
    for unit in filling.units:
        cause = refused.get(unit.id)
        if cause is not None and unit.claim is not None:
            await look.context.events.event(
                unit.raw,
                reason="RestoreWaiting",
                message=f"restore {look.restore.name}: {cause.message}",
                type="Warning",
            )


async def tell_passed(look: Look) -> None:
    """Pods whose gate has opened wait for nothing of ours any more."""
    passed = [pod for pod in look.pods() if pod.alive and pod.passed]
    if not passed:
        return
    released = {
        job.spec.pod.uid
        for job in look.jobs()
        if job.spec.answer is Answer.RELEASED and job.spec.volume != gate.TURN
    }
    await _write_all(
        look,
        [
            (pod, Verdict(holds=True, reason="Released" if pod.uid in released else "Restored"))
            for pod in passed
        ],
    )


async def _write_all(look: Look, found: Sequence[tuple[GatedPod, Verdict]]) -> None:
    changed = [(pod, verdict) for pod, verdict in found if _differs(pod.raw, verdict)]

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


async def _event(look: Look, word: Word) -> None:
    reason = "RestoreWaiting"
    if word.blocked:
        reason = "RestoreReleased" if word.unit.let_go else "RestoreBlocked"
    restore, volume = look.restore.name, word.holder.volume
    await look.context.events.event(
        word.holder.pod.raw,
        reason=reason,
        message=f"volume {volume} of restore {restore}: {word.verdict.message}",
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
