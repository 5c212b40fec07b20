"""What is told beyond counts: every failure of a restore, and Events on the pods it holds."""

from __future__ import annotations

from ararat.api.backup import Failure

from .progress import Volumes, unique
from .run import Filling, Look


def all_failures(look: Look, filling: Filling, volumes: Volumes) -> list[Failure]:
    """What went wrong with objects, and what is wrong with volumes *now*."""
    names = {unit.id for unit in filling.units}
    names |= {
        f"{holder.pod.path}/{holder.volume}" for unit in filling.units for holder in unit.holders
    }
    kept = [failure for failure in look.memory.failures or [] if failure.object not in names]
    return unique([*kept, *volumes.failures])


async def tell_pods(look: Look, filling: Filling, volumes: Volumes) -> None:
    """An Event on each pod that is held for good, or does not move, once for each cause."""
    failed = {failure.object: failure.message for failure in volumes.failures}
    waiting = {cause.object: cause.message for cause in filling.waiting}
    for unit in filling.units:
        if unit.completed:
            continue
        for holder in unit.holders:
            place = f"{holder.pod.path}/{holder.volume}"
            bad = failed.get(unit.id)
            text = bad or waiting.get(unit.id) or waiting.get(place)
            if not text or (holder.pod.uid, text) in look.memory.said:
                continue
            look.memory.said.add((holder.pod.uid, text))
            await look.context.events.event(
                holder.pod.raw,
                reason="RestoreBlocked" if bad else "RestoreWaiting",
                message=f"volume {holder.volume} of restore {look.restore.name}: {text}",
                type="Warning",
            )
