"""What a dry run adds to a plan: what exists already, and in what it differs.

Problem: a restore learns that an object exists when it creates it; a dry run creates nothing, and a
plan that does not say what stays as it is would be half a plan.
Decision: each kind is listed once in each namespace that exists, page by page, and compared with
what would be created. A kind that this cluster does not serve, and that the plan does not bring, is
a failure that the restore would have, and is said as one.
Limits: whether admission would refuse an object is asked by ``rehearsal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ararat.api.backup import Failure
from ararat.api.plan import Action
from ararat.api.restore import ExistingResourcePolicy
from ararat.errors import NotFound
from ararat.kube.api import KubeApi
from ararat.kube.resources import ResourceType

from .differences import differences
from .existing import Existing
from .plan import Item, Plan
from .stored import Object

#: Up to so many objects are asked for by name; more are listed.
_BY_NAME = 5


async def foresee(
    api: KubeApi, plan: Plan, existing: Existing, *, policy: ExistingResourcePolicy
) -> Plan:
    """The plan with what exists marked in it. Raises Retryable."""
    served = {rt.qualified: rt for rt in existing.served}
    failures: list[Failure] = []
    known: dict[str, Item] = {}
    for resource, items in plan.steps():
        rt = served.get(resource)
        if rt is None:
            if not plan.brings(items[0].type):
                failures += [_not_served(item) for item in items]
            continue
        for namespace in sorted({item.namespace or "" for item in items}):
            wanted = {item.name: item for item in items if (item.namespace or "") == namespace}
            if namespace and namespace not in existing.namespaces:
                continue
            for present in await _present(api, rt, namespace or None, wanted):
                item = wanted[str(present["metadata"]["name"])]
                known[item.id] = _compared(item, present, policy=policy)
    return replace(
        plan,
        items=tuple(known.get(item.id, item) for item in plan.items),
        failures=(*plan.failures, *failures),
    )


async def _present(
    api: KubeApi, rt: ResourceType, namespace: str | None, wanted: Mapping[str, Item]
) -> Iterable[Object]:
    if len(wanted) <= _BY_NAME:
        found = []
        for name in wanted:
            try:
                found.append(await api.get(rt, name, namespace=namespace))
            except NotFound:
                continue
        return found
    listed = api.list(rt, namespace=namespace)
    return [obj async for obj in listed if str(obj["metadata"]["name"]) in wanted]


def _compared(item: Item, present: Object, *, policy: ExistingResourcePolicy) -> Item:
    assert item.body is not None
    differs = tuple(differences(item.resource, present, item.body))
    update = policy is ExistingResourcePolicy.UPDATE and differs and item.resource != "pods"
    return replace(
        item,
        action=Action.UPDATE if update else Action.LEAVE,
        reason="Exists",
        message="exists and is updated" if update else "exists and is left alone",
        differs=differs,
        gated=(),
    )


def _not_served(item: Item) -> Failure:
    return Failure(
        object=item.id,
        reason="KindNotServed",
        message=f"neither this cluster nor the restore has the kind {item.resource}: install what "
        "defines it first, or leave it out with --exclude-resources",
    )
