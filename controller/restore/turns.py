"""Pods of a StatefulSet that starts in order get past their gates in that order.

Problem: the pods of a StatefulSet come back all at once, so that their volumes are filled side by
side; but an application that asked for ``OrderedReady`` counts on its first pod being ready before
its second one starts.
Decision: such a pod's gate waits for one thing more, its *turn*, which comes when the pod before it
is ready; data is not held up by it. The restore does not wait for turns: as with any StatefulSet,
the cluster is still starting pods when it has ended. Turns are given as long as gates wait.
Limits: only pods that wait for data wait for a turn. A pod before it that is gone is awaited: the
StatefulSet makes it again. ``ararat restore release`` opens such a gate, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ararat import gate
from ararat.api.names import GATE_AFTER
from ararat.api.restore import ReleaseAction
from ararat.errors import NotFound
from ararat.kube.resources import PODS

from .gated import GatedPod
from .run import Look
from .stored import StoredObject
from .units import word_on

_STATEFUL_SETS = "statefulsets.apps"


def order_of_start(objects: Iterable[StoredObject]) -> dict[tuple[str, str], str]:
    """(namespace, pod) → the pod before it, where the order of start matters. Pure."""
    everything = list(objects)
    ordered = {
        (obj.namespace, obj.name)
        for obj in everything
        if obj.resource == _STATEFUL_SETS
        and obj.spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    }
    ordinals: dict[tuple[str | None, str], dict[int, str]] = {}
    for obj in everything:
        if obj.resource != "pods":
            continue
        for owner in obj.body["metadata"].get("ownerReferences") or []:
            key = (obj.namespace, str(owner.get("name")))
            ordinal = obj.name.removeprefix(f"{owner.get('name')}-")
            if owner.get("kind") == "StatefulSet" and key in ordered and ordinal.isdigit():
                ordinals.setdefault(key, {})[int(ordinal)] = obj.name
    found = {}
    for (namespace, _), pods in ordinals.items():
        in_order = sorted(pods)
        for before, after in itertools.pairwise(in_order):
            found[(str(namespace), pods[after])] = pods[before]
    return found


def waits_for_turn(pod: GatedPod) -> str | None:
    """The pod that must be ready first, for a pod that stands at its gate."""
    after = (pod.raw["metadata"].get("annotations") or {}).get(GATE_AFTER)
    if not after or not pod.held or not pod.node or gate.TURN not in pod.volumes:
        return None
    return str(after)


async def turns_that_came(
    look: Look, pods: Sequence[GatedPod], *, answered: Iterable[str]
) -> list[tuple[GatedPod, str]]:
    """Pods to let go on, and why. ``answered``: UIDs of those that were told already."""
    told = set(answered)
    found = []
    for pod in pods:
        after = waits_for_turn(pod)
        if after is None or pod.uid in told:
            continue
        if word_on(f"{pod.path}/{gate.TURN}", look.restore.spec.released) is ReleaseAction.START:
            found.append((pod, "a person released it"))
            continue
        try:
            before = await look.context.api.get(PODS, after, namespace=pod.namespace)
        except NotFound:
            continue
        if is_ready(before):
            found.append((pod, f"{after} is ready"))
    return found


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
