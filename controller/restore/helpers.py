"""Claims that no pod mounts are filled all the same, through a pod of ours.

Problem: a workload scaled to zero, a finished Job, a CronJob between two runs: their claims come
back, nothing mounts them, and whoever scales up next month would find them empty.
Decision: a claim that is owed data, and that no pod has mounted for a while after the objects came
back, gets a helper pod (controller/helper_pods.py) with our gate in it. It is filled like any
other; the first consumer decides where the volume is provisioned, as always. When the data is in,
the helper goes. A pod of the user's that comes meanwhile waits at its gate and is answered too.
In place, the helper has no gate: it only has to run.
Limits: a volume that can be attached to one node at a time keeps such a pod from starting until the
helper is gone, a moment after the data is in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ararat.api.names import HELPER, RESTORE, RESTORE_UID
from ararat.api.restore import RestorePhase
from ararat.errors import AraratError, Conflict
from ararat.kube.resources import PODS
from ararat.naming import label_value
from controller.helper_pods import VOLUME, HelperSpec, build, remove

from .gate import add_gate
from .run import Look
from .units import Unit

#: How long owners get to make their pods.
LONELY_SECONDS = 15.0


async def serve_lonely(look: Look, units: Sequence[Unit]) -> None:
    """Helpers for claims that wait in vain, and an end to those that are not needed any more."""
    if not look.restore.status.objects_done or look.cancelled:
        return
    now, since = time.monotonic(), look.memory.lonely
    for unit in units:
        if not is_lonely(unit):
            since.pop(unit.key, None)
        elif (
            look.restore.status.phase is RestorePhase.IN_PROGRESS
            and now - since.setdefault(unit.key, now) >= LONELY_SECONDS
        ):
            await make_helper(look, unit, gated=True)
    await remove_idle(look, units)


def is_lonely(unit: Unit) -> bool:
    """Owed data, with no pod to bring it through. Pure."""
    return (
        unit.claim is not None
        and not unit.holders
        and not unit.over
        and not unit.missing
        and not unit.gone
        and unit.word is None
        and unit.active is None
        and unit.failed is None
    )


async def make_helper(look: Look, unit: Unit, *, gated: bool) -> None:
    """One for this claim; made before, it is left as it is."""
    assert unit.claim is not None
    restore = look.restore
    spec = HelperSpec(
        namespace=unit.key[1],
        claim=unit.claim.name,
        owner_uid=restore.uid,
        purpose="restore",
        image=look.context.gate_image,
        pull_policy=look.context.gate_pull_policy,
        labels={RESTORE: label_value(restore.name), RESTORE_UID: restore.uid},
    )
    pod = build(spec)
    if gated:
        add_gate(pod, [VOLUME], look.gate)
    try:
        await look.context.api.create(PODS, pod, namespace=spec.namespace)
    except Conflict:
        return
    except AraratError as exc:  # a quota, a policy: the claim goes on waiting, and that is said
        look.log.warning("helper pod refused", claim=unit.id, message=exc.message)
        look.memory.helper_refused[unit.key] = exc.message
        return
    look.memory.helper_refused.pop(unit.key, None)
    look.log.info("helper pod made", claim=unit.id, pod=spec.name)


async def remove_idle(look: Look, units: Sequence[Unit]) -> None:
    """Helpers whose claim needs nothing more."""
    needed = {(unit.key[1], unit.claim.name) for unit in units if unit.claim and not unit.over}
    for pod in helpers_of(look):
        if (pod["metadata"]["namespace"], _claim(pod)) not in needed:
            await remove(look.context.api, pod)
            look.log.info("helper pod removed", pod=pod["metadata"]["name"])


def helpers_of(look: Look) -> list[dict[str, Any]]:
    """The restore's own, as the cache shows them."""
    found = look.context.gated_pods.by_index("restore", label_value(look.restore.name))
    return [
        pod
        for pod in found
        if HELPER in pod["metadata"]["labels"]
        and pod["metadata"]["labels"].get(RESTORE_UID) == look.restore.uid
        and not pod["metadata"].get("deletionTimestamp")
    ]


def _claim(pod: dict[str, Any]) -> str:
    for volume in pod["spec"]["volumes"]:
        if volume["name"] == VOLUME:
            return str(volume["persistentVolumeClaim"]["claimName"])
    return ""
